//! Memory on the GPU: taken from the pool and given back in the order of the stream.

use crate::capture::Arena;
use crate::gpu::Gpu;
use cudarc::driver::CudaStream;
use cudarc::driver::result::{self, DriverError};
use std::sync::{Arc, OnceLock};
use tarrl_tensor::Array;

/// The memory of an array or of an intermediate result.
pub(crate) struct Block {
    held: Held,
    gpu: Arc<Gpu>,
    /// The memory of a captured function, to which this goes back.
    arena: Option<Arc<Arena>>,
    /// The same values in another order.
    beside: OnceLock<Box<Block>>,
}

impl Block {
    /// Uninitialised memory.
    #[track_caller]
    pub(crate) fn new(gpu: &Arc<Gpu>, bytes: usize) -> Result<Block, DriverError> {
        let (held, arena) = gpu.memory(bytes)?;
        Ok(Block { held, gpu: gpu.clone(), arena, beside: OnceLock::new() })
    }

    /// A copy of host memory.
    #[track_caller]
    pub(crate) fn upload<T: Copy>(gpu: &Arc<Gpu>, data: &[T]) -> Result<Block, DriverError> {
        gpu.uncapturable("an upload");
        let block = Block::new(gpu, size_of_val(data))?;
        if !data.is_empty() {
            gpu.context.bind_to_thread()?;
            let _turn = gpu.turn();
            // SAFETY: the block has as many bytes as the slice. From memory that is not pinned the driver returns
            // when it has taken all of the slice.
            unsafe { result::memcpy_htod_async(block.pointer(), data, gpu.stream.cu_stream()) }?;
        }
        Ok(block)
    }

    /// Waits for all work and copies to the host.
    #[track_caller]
    pub(crate) fn download<T: Copy + Default>(&self, len: usize) -> Result<Vec<T>, DriverError> {
        let mut data = vec![T::default(); len];
        assert!(size_of_val(&data[..]) <= self.held.bytes, "a block has fewer bytes than its array");
        self.gpu.uncapturable("a download");
        self.gpu.context.bind_to_thread()?;
        let _turn = self.gpu.turn();
        self.held.read(&self.gpu.stream, &mut data)?;
        Ok(data)
    }

    pub(crate) fn pointer(&self) -> u64 {
        self.held.pointer()
    }

    /// The same values in another order, of which there is one: made at the first call, given back with the block.
    pub(crate) fn beside(&self, make: impl FnOnce() -> Block) -> &Block {
        self.beside.get_or_init(|| Box::new(make()))
    }

    /// What [`beside`](Self::beside) made before.
    pub(crate) fn kept(&self) -> Option<&Block> {
        self.beside.get().map(Box::as_ref)
    }

    pub(crate) fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let held = self.held.take();
        match self.arena.take() {
            Some(arena) => arena.give_back(held),
            None => self.gpu.release(held),
        }
    }
}

/// The memory of an operand.
///
/// # Panics
/// If the array is on another device.
#[track_caller]
pub(crate) fn read<'a>(gpu: &Arc<Gpu>, op: &str, x: &'a Array) -> &'a Block {
    let block = x.buffer().downcast_ref::<Block>().filter(|block| Arc::ptr_eq(block.gpu(), gpu));
    let block =
        block.unwrap_or_else(|| panic!("{op}: an operand is on {}, not on {gpu:?}", x.device().name()));
    if block.arena.is_none() {
        gpu.captures.keep(block.pointer(), x.buffer());
    }
    block
}

/// Memory whose owner frees it.
pub(crate) struct Held {
    pointer: u64,
    bytes: usize,
}

impl Held {
    /// Uninitialised memory, at least one byte.
    pub(crate) fn new(stream: &CudaStream, bytes: usize) -> Result<Held, DriverError> {
        // SAFETY: the stream lives, and the memory is used on it alone.
        let pointer = unsafe { result::malloc_async(stream.cu_stream(), bytes.max(1)) }?;
        Ok(Held { pointer, bytes })
    }

    pub(crate) fn zero(&self, stream: &CudaStream) -> Result<(), DriverError> {
        // SAFETY: the memory has so many bytes.
        unsafe { result::memset_d8_async(self.pointer, 0, self.bytes, stream.cu_stream()) }
    }

    /// Waits for all work and copies the front of the memory.
    pub(crate) fn read<T: Copy>(&self, stream: &CudaStream, to: &mut [T]) -> Result<(), DriverError> {
        if !to.is_empty() {
            // SAFETY: the caller asks for no more bytes than there are, and the call below waits for the copy.
            unsafe { result::memcpy_dtoh_async(to, self.pointer, stream.cu_stream()) }?;
        }
        stream.synchronize()
    }

    pub(crate) fn pointer(&self) -> u64 {
        self.pointer
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The memory under another owner.
    pub(crate) fn take(&mut self) -> Held {
        Held { pointer: std::mem::take(&mut self.pointer), bytes: self.bytes }
    }

    /// Gives the memory back, once.
    pub(crate) fn free(&mut self, stream: &CudaStream) {
        let pointer = std::mem::take(&mut self.pointer);
        if pointer != 0 {
            // SAFETY: allocated on this stream, and nothing refers to it any more but work that is queued before.
            stream.context().record_err(unsafe { result::free_async(pointer, stream.cu_stream()) });
        }
    }
}
