//! Memory on the GPU: taken from the pool and given back in the order of the stream.

use crate::capture::Arena;
use crate::gpu::{Fault, Gpu};
use cudarc::driver::CudaStream;
use cudarc::driver::result::{self, DriverError};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use tarrl_tensor::{Array, HostSlice};

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
    /// Uninitialized memory.
    #[track_caller]
    pub(crate) fn new(gpu: &Arc<Gpu>, bytes: usize) -> Result<Block, DriverError> {
        let (held, arena) = gpu.memory(bytes)?;
        Ok(Block { held, gpu: gpu.clone(), arena, beside: OnceLock::new() })
    }

    /// A copy of host memory.
    #[track_caller]
    pub(crate) fn upload<T: Copy>(gpu: &Arc<Gpu>, data: &[T]) -> Result<Block, DriverError> {
        gpu.uncapturable("an upload");
        // A function that is captured leaves its memory in its arena.
        if !gpu.captures.is_open()
            && let Some(held) = gpu.uploads.copy(gpu, data)?
        {
            gpu.count.uploads.fetch_add(1, Ordering::Relaxed);
            return Ok(Block { held, gpu: gpu.clone(), arena: None, beside: OnceLock::new() });
        }
        let block = Block::new(gpu, size_of_val(data))?;
        block.fill(data)?;
        Ok(block)
    }

    /// As [`upload`](Block::upload), of numbers of any type.
    #[track_caller]
    pub(crate) fn of(gpu: &Arc<Gpu>, data: HostSlice<'_>) -> Result<Block, DriverError> {
        match data {
            HostSlice::F32(data) => Block::upload(gpu, data),
            HostSlice::F64(data) => Block::upload(gpu, data),
            HostSlice::U32(data) => Block::upload(gpu, data),
        }
    }

    /// As [`of`](Block::of), in memory of no arena: it outlives the run of a captured function that first asks for it.
    ///
    /// # Panics
    /// In a run that is recorded, whose rehearsal did not ask for it.
    #[track_caller]
    pub(crate) fn table(gpu: &Arc<Gpu>, data: HostSlice<'_>) -> Result<Block, DriverError> {
        let bytes = match data {
            HostSlice::F32(data) => size_of_val(data),
            HostSlice::F64(data) => size_of_val(data),
            HostSlice::U32(data) => size_of_val(data),
        };
        let held = gpu.lasting_memory(bytes)?;
        let block = Block { held, gpu: gpu.clone(), arena: None, beside: OnceLock::new() };
        match data {
            HostSlice::F32(data) => block.fill(data)?,
            HostSlice::F64(data) => block.fill(data)?,
            HostSlice::U32(data) => block.fill(data)?,
        }
        Ok(block)
    }

    /// Copies from the host; `data` has as many bytes as the block.
    fn fill<T: Copy>(&self, data: &[T]) -> Result<(), DriverError> {
        assert_eq!(size_of_val(data), self.held.bytes, "a copy of other bytes than the block has");
        if data.is_empty() {
            return Ok(());
        }
        let gpu = &self.gpu;
        gpu.context.bind_to_thread()?;
        gpu.count.uploads.fetch_add(1, Ordering::Relaxed);
        let _turn = gpu.turn();
        // SAFETY: the block has as many bytes as the slice. From memory that is not pinned the driver returns when it
        // has taken all of the slice.
        unsafe { result::memcpy_htod_async(self.pointer(), data, gpu.stream.cu_stream()) }
    }

    /// Copies to the host, with one wait for all work.
    ///
    /// # Panics
    /// If a kernel found a wrong operand since the last download.
    #[track_caller]
    pub(crate) fn download<T: Copy + Default>(&self, len: usize) -> Result<Vec<T>, DriverError> {
        let (mut data, mut word) = (vec![T::default(); len], [0u32]);
        assert!(size_of_val(&data[..]) <= self.held.bytes, "a block has fewer bytes than its array");
        let gpu = &self.gpu;
        gpu.uncapturable("a download");
        gpu.context.bind_to_thread()?;
        let suspect = gpu.fault.is_possible();
        let turn = gpu.turn();
        // SAFETY: the blocks have so many bytes, and the call below waits for the copies.
        unsafe {
            self.held.queue_read(&gpu.stream, &mut data)?;
            if suspect {
                gpu.fault.word.queue_read(&gpu.stream, &mut word)?;
            }
        }
        gpu.wait()?;
        if word[0] != 0 {
            gpu.fault.word.zero(&gpu.stream)?;
        }
        drop(turn);
        Fault::tell(word[0]);
        Ok(data)
    }

    pub(crate) fn pointer(&self) -> u64 {
        self.held.pointer()
    }

    /// The same values in another order, of which there is one: made at the first call, given back with the block.
    pub(crate) fn beside(&self, make: impl FnOnce() -> Block) -> &Block {
        self.beside.get_or_init(|| Box::new(make()))
    }

    /// Whether a captured function made it: each of its runs makes another.
    pub(crate) fn is_of_arena(&self) -> bool {
        self.arena.is_some()
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
    /// Uninitialized memory, at least one byte.
    pub(crate) fn new(stream: &CudaStream, bytes: usize) -> Result<Held, DriverError> {
        // SAFETY: the stream lives, and the memory is used on it alone.
        let pointer = unsafe { result::malloc_async(stream.cu_stream(), bytes.max(1)) }?;
        Ok(Held { pointer, bytes })
    }

    pub(crate) fn zero(&self, stream: &CudaStream) -> Result<(), DriverError> {
        // SAFETY: the memory has so many bytes.
        unsafe { result::memset_d8_async(self.pointer, 0, self.bytes, stream.cu_stream()) }
    }

    /// Queues a copy of the front of the memory.
    ///
    /// # Safety
    /// There are as many bytes as are asked for, and `to` lives until the stream has been waited for.
    pub(crate) unsafe fn queue_read<T: Copy>(
        &self,
        stream: &CudaStream,
        to: &mut [T],
    ) -> Result<(), DriverError> {
        if to.is_empty() {
            return Ok(());
        }
        // SAFETY: the caller's.
        unsafe { result::memcpy_dtoh_async(to, self.pointer, stream.cu_stream()) }
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
