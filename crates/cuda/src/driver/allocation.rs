//! Device memory: one allocation of the driver's pool, freed by its owner in the order of a stream.

use cudarc::driver::CudaStream;
use cudarc::driver::result::{self, DriverError};

/// Memory whose owner frees it.
pub(crate) struct DeviceAllocation {
    pointer: u64,
    bytes: usize,
}

impl DeviceAllocation {
    /// Uninitialized memory, at least one byte.
    pub(crate) fn new(stream: &CudaStream, bytes: usize) -> Result<DeviceAllocation, DriverError> {
        // SAFETY: the stream lives, and the memory is used on it alone.
        let pointer = unsafe { result::malloc_async(stream.cu_stream(), bytes.max(1)) }?;
        Ok(DeviceAllocation { pointer, bytes })
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
    pub(crate) fn take(&mut self) -> DeviceAllocation {
        DeviceAllocation { pointer: std::mem::take(&mut self.pointer), bytes: self.bytes }
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
