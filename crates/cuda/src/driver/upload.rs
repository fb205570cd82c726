//! Asynchronous uploads: large copies from the host on a stream of their own, out of pinned memory, so that the host goes on
//! at once and the card computes meanwhile.

use super::allocation::DeviceAllocation;
use cudarc::driver::result::{self, DriverError, event, stream};
use cudarc::driver::sys::{CUevent, CUevent_flags, CUevent_wait_flags};
use cudarc::driver::{CudaContext, CudaStream};
use std::ffi::c_void;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of the copies that go this way. The driver takes smaller ones at once, and larger ones would keep as much of the
/// host's memory pinned.
const SIZES: RangeInclusive<usize> = 1 << 16..=1 << 25;

/// Pieces of pinned memory that are kept: more copies than a batch has are rarely under way.
const BUFFERS: usize = 8;

/// The stream of copies, and the pinned memory that is free or will be.
pub(crate) struct Uploads {
    /// Given back before the stream.
    buffers: Mutex<Vec<PinnedBuffer>>,
    stream: Arc<CudaStream>,
}

/// Pinned memory.
struct PinnedBuffer {
    memory: *mut c_void,
    bytes: usize,
    /// The end of the last copy out of it.
    done: CUevent,
}

// SAFETY: pinned memory and events belong to no thread.
unsafe impl Send for PinnedBuffer {}

impl Uploads {
    pub(crate) fn new(stream: Arc<CudaStream>) -> Self {
        Uploads { buffers: Mutex::default(), stream }
    }

    /// Memory of the device with the bytes of `data`, for work that is queued on `work` after this; nothing where the size
    /// does not suit, or where no memory can be pinned. `guard` gives the lock to hold while `work` is called.
    pub(crate) fn copy<T: Copy, G>(
        &self,
        (context, work): (&CudaContext, &CudaStream),
        guard: impl FnOnce() -> G,
        data: &[T],
    ) -> Result<Option<DeviceAllocation>, DriverError> {
        let bytes = size_of_val(data);
        if !SIZES.contains(&bytes) {
            return Ok(None);
        }
        context.bind_to_thread()?;
        let Some(buffer) = self.buffer(bytes)? else { return Ok(None) };
        let allocation = DeviceAllocation::new(&self.stream, bytes)?;
        // SAFETY: both have so many bytes; no copy out of the buffer is under way.
        let pinned = unsafe {
            std::ptr::copy_nonoverlapping(data.as_ptr().cast::<u8>(), buffer.memory.cast::<u8>(), bytes);
            std::slice::from_raw_parts(buffer.memory.cast::<u8>(), bytes)
        };
        // SAFETY: the memory is of the stream of copies and has so many bytes; the buffer stays as it is until the event has
        // come.
        unsafe {
            result::memcpy_htod_async(allocation.pointer(), pinned, self.stream.cu_stream())?;
            event::record(buffer.done, self.stream.cu_stream())?;
        }
        let guard = guard();
        let flags = CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: stream and event live.
        unsafe { stream::wait_event(work.cu_stream(), buffer.done, flags) }?;
        drop(guard);
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        Ok(Some(allocation))
    }

    /// A buffer that no copy is made out of, of at least so many bytes.
    fn buffer(&self, bytes: usize) -> Result<Option<PinnedBuffer>, DriverError> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = buffers.iter().position(|buffer| buffer.bytes >= bytes && buffer.is_free()) {
            return Ok(Some(buffers.remove(at)));
        }
        if buffers.len() == BUFFERS {
            let oldest = buffers.remove(0);
            if oldest.bytes >= bytes {
                oldest.wait()?;
                return Ok(Some(oldest));
            }
        }
        PinnedBuffer::new(bytes.next_power_of_two())
    }
}

impl PinnedBuffer {
    /// Nothing if the system lets no more memory be pinned.
    fn new(bytes: usize) -> Result<Option<PinnedBuffer>, DriverError> {
        let done = event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING)?;
        // SAFETY: the buffer owns the memory, and frees it once.
        match unsafe { result::malloc_host(bytes, 0) } {
            Ok(memory) => Ok(Some(PinnedBuffer { memory, bytes, done })),
            Err(_) => {
                // SAFETY: made above, and recorded nowhere.
                unsafe { event::destroy(done) }?;
                Ok(None)
            }
        }
    }

    fn is_free(&self) -> bool {
        // SAFETY: the event lives as long as the buffer.
        unsafe { event::query(self.done) }.is_ok()
    }

    fn wait(&self) -> Result<(), DriverError> {
        // SAFETY: the event lives as long as the buffer.
        unsafe { event::synchronize(self.done) }
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        // An error here is one of the card, of which the next call tells again.
        let _ = self.wait();
        // SAFETY: both were made with the buffer, no copy is under way, and nothing uses them after this.
        let _ = unsafe { event::destroy(self.done).and(result::free_host(self.memory)) };
    }
}
