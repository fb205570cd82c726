//! Large copies from the host: on a stream of their own, out of pinned memory, so that the host goes on at once and the card
//! computes meanwhile.

use crate::gpu::Gpu;
use crate::memory::Held;
use cudarc::driver::CudaStream;
use cudarc::driver::result::{self, DriverError, event, stream};
use cudarc::driver::sys::{CUevent, CUevent_flags, CUevent_wait_flags};
use std::ffi::c_void;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of the copies that go this way. The driver takes smaller ones at once, and larger ones would keep as much of the
/// host's memory pinned.
const SIZES: RangeInclusive<usize> = 1 << 16..=1 << 25;

/// Pieces of pinned memory that are kept: more copies than a batch has are rarely under way.
const ROOMS: usize = 8;

/// The stream of copies, and the pinned memory that is free or will be.
pub(crate) struct Uploads {
    /// Given back before the stream.
    rooms: Mutex<Vec<Room>>,
    stream: Arc<CudaStream>,
}

/// Pinned memory.
struct Room {
    memory: *mut c_void,
    bytes: usize,
    /// The end of the last copy out of it.
    done: CUevent,
}

// SAFETY: pinned memory and events belong to no thread.
unsafe impl Send for Room {}

impl Uploads {
    pub(crate) fn new(stream: Arc<CudaStream>) -> Self {
        Uploads { rooms: Mutex::default(), stream }
    }

    /// Memory of the device with the bytes of `data`, for work that is queued after this; nothing where the size does not suit,
    /// or where no memory can be pinned.
    pub(crate) fn copy<T: Copy>(&self, gpu: &Gpu, data: &[T]) -> Result<Option<Held>, DriverError> {
        let bytes = size_of_val(data);
        if !SIZES.contains(&bytes) {
            return Ok(None);
        }
        gpu.context.bind_to_thread()?;
        let Some(room) = self.room(bytes)? else { return Ok(None) };
        let held = Held::new(&self.stream, bytes)?;
        // SAFETY: both have so many bytes; no copy out of the room is under way.
        let pinned = unsafe {
            std::ptr::copy_nonoverlapping(data.as_ptr().cast::<u8>(), room.memory.cast::<u8>(), bytes);
            std::slice::from_raw_parts(room.memory.cast::<u8>(), bytes)
        };
        // SAFETY: the memory is of the stream of copies and has so many bytes; the room stays as it is until the event has
        // come.
        unsafe {
            result::memcpy_htod_async(held.pointer(), pinned, self.stream.cu_stream())?;
            event::record(room.done, self.stream.cu_stream())?;
        }
        let turn = gpu.turn();
        let flags = CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: stream and event live.
        unsafe { stream::wait_event(gpu.stream.cu_stream(), room.done, flags) }?;
        drop(turn);
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).push(room);
        Ok(Some(held))
    }

    /// Room that no copy is made out of, of at least so many bytes.
    fn room(&self, bytes: usize) -> Result<Option<Room>, DriverError> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = rooms.iter().position(|room| room.bytes >= bytes && room.is_free()) {
            return Ok(Some(rooms.remove(at)));
        }
        if rooms.len() == ROOMS {
            let oldest = rooms.remove(0);
            if oldest.bytes >= bytes {
                oldest.wait()?;
                return Ok(Some(oldest));
            }
        }
        Room::new(bytes.next_power_of_two())
    }
}

impl Room {
    /// Nothing if the system lets no more memory be pinned.
    fn new(bytes: usize) -> Result<Option<Room>, DriverError> {
        let done = event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING)?;
        // SAFETY: the room owns the memory, and frees it once.
        match unsafe { result::malloc_host(bytes, 0) } {
            Ok(memory) => Ok(Some(Room { memory, bytes, done })),
            Err(_) => {
                // SAFETY: made above, and recorded nowhere.
                unsafe { event::destroy(done) }?;
                Ok(None)
            }
        }
    }

    fn is_free(&self) -> bool {
        // SAFETY: the event lives as long as the room.
        unsafe { event::query(self.done) }.is_ok()
    }

    fn wait(&self) -> Result<(), DriverError> {
        // SAFETY: the event lives as long as the room.
        unsafe { event::synchronize(self.done) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // An error here is one of the card, of which the next call tells again.
        let _ = self.wait();
        // SAFETY: both were made with the room, no copy is under way, and nothing uses them after this.
        let _ = unsafe { event::destroy(self.done).and(result::free_host(self.memory)) };
    }
}
