//! The context of one GPU: its stream of work, its memory pool, and the capture of its stream.
//!
//! All work runs on one stream, so that program order is its order and freed memory may be given out again at once. It waits
//! for the stream of large copies where it needs what they bring, and for nothing else. While one thread captures the stream,
//! others wait where they queue work ([`Context::stream_guard`]).

use super::allocation::DeviceAllocation;
use super::counters::DriverCounters;
use super::fault::Fault;
use super::upload::Uploads;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::CUmemPool_attribute;
use cudarc::driver::{CudaContext, CudaStream};
use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::{self, ThreadId};
use tarrl_tensor::Buffer;

/// What blocks of memory and launches need of a GPU.
pub(crate) struct Context {
    pub(crate) context: Arc<CudaContext>,
    pub(crate) stream: Arc<CudaStream>,
    pub(crate) captures: Captures,
    pub(crate) counters: DriverCounters,
    pub(super) fault: Fault,
    uploads: Uploads,
    ordinal: usize,
    name: String,
}

impl Context {
    /// Makes the two streams, and sets up the memory pool and the fault word.
    pub(crate) fn new(context: Arc<CudaContext>, ordinal: usize) -> Result<Context, DriverError> {
        // SAFETY: nothing is allocated yet; work goes to one of the streams made below, and copies to the other, whose order
        // `Uploads` keeps by events of its own.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream()?;
        let uploads = Uploads::new(context.new_stream()?);
        keep_memory(&context)?;
        let fault = Fault::new(&stream)?;
        let name = context.name()?;
        let (captures, counters) = (Captures::default(), DriverCounters::default());
        Ok(Context { context, stream, captures, counters, fault, uploads, ordinal, name })
    }

    /// The pointer that kernels which check their operands write to.
    pub(crate) fn fault(&self) -> u64 {
        self.fault.note();
        self.captures.note_fault();
        self.fault.word.pointer()
    }

    /// Waits until all queued work is done.
    pub(crate) fn wait(&self) -> Result<(), DriverError> {
        self.counters.waits.fetch_add(1, Ordering::Relaxed);
        self.stream.synchronize()
    }

    /// A failure of the device in the middle of an op is a panic: no caller can do better than to start again from the
    /// last checkpoint.
    #[track_caller]
    pub(crate) fn expect<T, E: Debug>(&self, op: &str, result: Result<T, E>) -> T {
        result.unwrap_or_else(|error| panic!("{op} on {}: {error:?}", self.name))
    }

    /// Bytes of the memory pool that were in use at most.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let mut high = 0u64;
        // SAFETY: the device is valid, and the attribute is an integer of eight bytes.
        unsafe {
            let pool = result::device::get_default_mem_pool(self.context.cu_device()).ok()?;
            let what = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
            result::mem_pool::get_attribute(pool, what, (&raw mut high).cast()).ok()?;
        }
        Some(high)
    }

    /// Makes [`peak_memory`](Self::peak_memory) start anew; where the driver refuses, it stays an upper bound.
    pub(crate) fn reset_peak_memory(&self) {
        let mut zero = 0u64;
        // SAFETY: the device is valid, and the attribute is an integer of eight bytes that may be set to 0 alone.
        let _ = unsafe {
            result::device::get_default_mem_pool(self.context.cu_device()).and_then(|pool| {
                let what = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
                result::mem_pool::set_attribute(pool, what, (&raw mut zero).cast())
            })
        };
    }

    /// A copy of `data` through pinned memory, where its size suits that.
    pub(super) fn upload_pinned<T: Copy>(&self, data: &[T]) -> Result<Option<DeviceAllocation>, DriverError> {
        self.uploads.copy((&self.context, &self.stream), || self.stream_guard(), data)
    }

    /// Held around every call of the driver that concerns the stream, and nothing else: waits while another thread
    /// records.
    pub(crate) fn stream_guard(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let recorded = self.captures.is_recorded();
        self.counters.calls.fetch_add(u64::from(!recorded), Ordering::Relaxed);
        (!recorded).then(|| self.captures.recording.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What no graph can repeat: a copy from or to the host, a wait.
    ///
    /// # Panics
    /// In a run that is recorded, whose rehearsal did not do it.
    #[track_caller]
    pub(crate) fn forbid_capture(&self, what: &str) {
        let recorded = self.captures.of_this_thread(|run| {
            run.uncapturable = true;
            run.recorded
        });
        assert!(recorded != Some(true), "{what} while a function is captured that did without before");
    }

    /// Memory, with its arena in a run of this thread.
    #[track_caller]
    pub(crate) fn memory(&self, bytes: usize) -> Result<(DeviceAllocation, Option<Arc<Arena>>), DriverError> {
        let run = self.captures.of_this_thread(|run| (run.arena.clone(), run.recorded));
        if let Some((arena, recorded)) = &run {
            let free = lock(&arena.free).get_mut(&bytes).and_then(Vec::pop);
            if let Some(allocation) = free {
                return Ok((allocation, Some(arena.clone())));
            }
            assert!(!recorded, "a captured function asks for other memory than it did before: {bytes} bytes");
        }
        self.context.bind_to_thread()?;
        let _guard = self.stream_guard();
        Ok((DeviceAllocation::new(&self.stream, bytes)?, run.map(|(arena, _)| arena)))
    }

    /// Memory of no arena, in a rehearsal too.
    ///
    /// # Panics
    /// In a run that is recorded.
    #[track_caller]
    pub(crate) fn lasting_memory(&self, bytes: usize) -> Result<DeviceAllocation, DriverError> {
        assert!(
            !self.captures.is_recorded(),
            "a captured function asks for a table that it did without before"
        );
        self.context.bind_to_thread()?;
        let _guard = self.stream_guard();
        DeviceAllocation::new(&self.stream, bytes)
    }

    /// Gives memory back that is of no arena.
    pub(crate) fn release(&self, mut allocation: DeviceAllocation) {
        let mut late = Some(allocation.take());
        self.captures.of_this_thread(|run| {
            if run.recorded {
                lock(&run.arena.kept).dropped.extend(late.take());
            }
        });
        if let Some(mut allocation) = late {
            // An error stays with the context, which returns it from the next call.
            self.context.record_err(self.context.bind_to_thread());
            let _guard = self.stream_guard();
            allocation.free(&self.stream);
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        self.fault.word.free(&self.stream);
    }
}

impl Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuda:{} ({})", self.ordinal, self.name)
    }
}

/// Without this every synchronization hands unused memory back to the system, and the next step pays for it again.
fn keep_memory(context: &CudaContext) -> Result<(), DriverError> {
    let mut keep = u64::MAX;
    // SAFETY: the device is valid, and the attribute is an integer of eight bytes.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        let what = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, what, (&raw mut keep).cast())
    }
}

/// Memory of one graph: freed blocks by their bytes, and what else must live as long as it does.
pub(crate) struct Arena {
    context: Arc<Context>,
    free: Mutex<HashMap<usize, Vec<DeviceAllocation>>>,
    kept: Mutex<Kept>,
}

/// What the function used that is not of its arena.
#[derive(Default)]
struct Kept {
    /// Arrays that were read, by their pointers.
    read: HashMap<u64, Buffer>,
    /// Memory that would have been given back while the stream was recorded.
    dropped: Vec<DeviceAllocation>,
}

impl Arena {
    pub(super) fn new(context: Arc<Context>) -> Arena {
        Arena { context, free: Mutex::default(), kept: Mutex::default() }
    }

    pub(crate) fn give_back(&self, allocation: DeviceAllocation) {
        lock(&self.free).entry(allocation.bytes()).or_default().push(allocation);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let kept = std::mem::take(self.kept.get_mut().unwrap_or_else(PoisonError::into_inner));
        let free = std::mem::take(self.free.get_mut().unwrap_or_else(PoisonError::into_inner));
        free.into_values()
            .flatten()
            .chain(kept.dropped)
            .for_each(|allocation| self.context.release(allocation));
    }
}

/// The captures of a device: at most one at a time.
#[derive(Default)]
pub(crate) struct Captures {
    /// Held from the rehearsal until the graph is made.
    pub(super) exclusive: Mutex<()>,
    /// Written while a thread records the stream, read by every other that queues work.
    pub(super) recording: RwLock<()>,
    /// Whether there is a run; read without a lock.
    pub(super) open: AtomicBool,
    pub(super) run: Mutex<Option<CaptureRun>>,
}

/// A rehearsal, or the run that is recorded.
pub(super) struct CaptureRun {
    pub(super) thread: ThreadId,
    pub(super) arena: Arc<Arena>,
    /// Whether the stream is recorded; a rehearsal is not.
    pub(super) recorded: bool,
    /// Whether it did what no graph can repeat.
    pub(super) uncapturable: bool,
    /// Whether it queued a kernel that checks its operands.
    pub(super) faults: bool,
}

impl Captures {
    /// What `f` says of the run of this thread, if it has one.
    pub(super) fn of_this_thread<T>(&self, f: impl FnOnce(&mut CaptureRun) -> T) -> Option<T> {
        // A thread sees what it stored itself.
        if !self.open.load(Ordering::Relaxed) {
            return None;
        }
        let mut run = lock(&self.run);
        run.as_mut().filter(|run| run.thread == thread::current().id()).map(f)
    }

    /// Whether this thread runs a function that is captured.
    pub(crate) fn is_open(&self) -> bool {
        self.of_this_thread(|_| ()).is_some()
    }

    pub(crate) fn is_recorded(&self) -> bool {
        self.of_this_thread(|run| run.recorded).unwrap_or(false)
    }

    /// Keeps an array from outside that is read while the stream is recorded.
    pub(crate) fn keep(&self, pointer: u64, buffer: &Buffer) {
        self.of_this_thread(|run| {
            if run.recorded {
                lock(&run.arena.kept).read.entry(pointer).or_insert_with(|| buffer.clone());
            }
        });
    }

    /// Notes that a kernel that checks its operands is queued.
    pub(crate) fn note_fault(&self) {
        self.of_this_thread(|run| run.faults = true);
    }
}

/// What is locked is whole whenever a panic may come.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
