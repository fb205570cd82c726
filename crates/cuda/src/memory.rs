//! Memory on the GPU: taken from the pool and given back in the order of the stream.

use crate::gpu::Gpu;
use cudarc::driver::CudaStream;
use cudarc::driver::result::{self, DriverError};
use std::sync::Arc;
use tarrl_tensor::Array;

/// The memory of an array or of an intermediate result.
pub(crate) struct Block {
    held: Held,
    gpu: Arc<Gpu>,
}

impl Block {
    /// Uninitialised memory.
    pub(crate) fn new(gpu: &Arc<Gpu>, bytes: usize) -> Result<Block, DriverError> {
        gpu.context.bind_to_thread()?;
        Ok(Block { held: Held::new(&gpu.stream, bytes)?, gpu: gpu.clone() })
    }

    /// A copy of host memory.
    pub(crate) fn upload<T: Copy>(gpu: &Arc<Gpu>, data: &[T]) -> Result<Block, DriverError> {
        let block = Block::new(gpu, size_of_val(data))?;
        if !data.is_empty() {
            // SAFETY: the block has as many bytes as the slice. From memory that is not pinned the driver returns
            // when it has taken all of the slice.
            unsafe { result::memcpy_htod_async(block.pointer(), data, gpu.stream.cu_stream()) }?;
        }
        Ok(block)
    }

    /// Waits for all work and copies to the host.
    pub(crate) fn download<T: Copy + Default>(&self, len: usize) -> Result<Vec<T>, DriverError> {
        let mut data = vec![T::default(); len];
        assert!(size_of_val(&data[..]) <= self.held.bytes, "a block has fewer bytes than its array");
        self.gpu.context.bind_to_thread()?;
        self.held.read(&self.gpu.stream, &mut data)?;
        Ok(data)
    }

    pub(crate) fn pointer(&self) -> u64 {
        self.held.pointer()
    }

    pub(crate) fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // An error stays with the context, which returns it from the next call.
        self.gpu.context.record_err(self.gpu.context.bind_to_thread());
        self.held.free(&self.gpu.stream);
    }
}

/// The memory of an operand.
///
/// # Panics
/// If the array is on another device.
#[track_caller]
pub(crate) fn read<'a>(gpu: &Arc<Gpu>, op: &str, x: &'a Array) -> &'a Block {
    let block = x.buffer().downcast_ref::<Block>().filter(|block| Arc::ptr_eq(block.gpu(), gpu));
    block.unwrap_or_else(|| panic!("{op}: an operand is on {}, not on {gpu:?}", x.device().name()))
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

    /// Gives the memory back, once.
    pub(crate) fn free(&mut self, stream: &CudaStream) {
        let pointer = std::mem::take(&mut self.pointer);
        if pointer != 0 {
            // SAFETY: allocated on this stream, and nothing refers to it any more but work that is queued before.
            stream.context().record_err(unsafe { result::free_async(pointer, stream.cu_stream()) });
        }
    }
}
