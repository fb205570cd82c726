//! Stream capture: a rehearsal of a function, then its run while the driver records the stream.
//!
//! The rehearsal runs as always, but takes its memory from an [`Arena`]; it loads kernels, makes plans of products, and shows
//! whether the function waits for the device or brings values from the host, which no graph can repeat. The second run is
//! recorded: the driver queues nothing and is asked for nothing but launches, products and copies, because the arena holds a
//! block for every one that the rehearsal took.

use super::context::{Arena, CaptureRun, Context, lock};
use cudarc::driver::result::{graph, stream};
use cudarc::driver::sys::{CUgraphExec, CUgraphInstantiate_flags, CUstreamCaptureMode};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLockWriteGuard};
use std::thread;

/// A function's work as a graph that the driver can launch.
pub(crate) struct Recorded<T> {
    /// To be destroyed once, after its last launch.
    pub(crate) exec: CUgraphExec,
    /// What the recorded run returned: memory that every launch writes anew.
    pub(crate) results: T,
    /// Whether it holds a kernel that checks its operands.
    pub(crate) faults: bool,
    /// The memory of the graph, to be kept as long as it.
    pub(crate) arena: Arc<Arena>,
}

/// Records the work of `run`; `None` if it does what no graph can repeat, or the driver makes no graph of it.
///
/// # Panics
/// As `run` does, and if its second run asks for other memory than the first.
#[track_caller]
pub(crate) fn record<T>(context: &Arc<Context>, run: impl Fn() -> T) -> Option<Recorded<T>> {
    let arena = Arc::new(Arena::new(context.clone()));
    let _exclusive = lock(&context.captures.exclusive);
    let rehearsal = StreamCapture::open(context, &arena, None);
    drop(run());
    if rehearsal.close().uncapturable {
        return None;
    }
    let guard = context.captures.recording.write().unwrap_or_else(PoisonError::into_inner);
    let recording = StreamCapture::open(context, &arena, Some(guard));
    let results = run();
    let (exec, faults) = recording.end()?;
    Some(Recorded { exec, results, faults, arena })
}

/// A run in progress, rehearsal or recording; a panic ends it and leaves the stream as it was.
struct StreamCapture<'a> {
    context: &'a Context,
    /// Held by a run that is recorded, until the stream is no longer.
    recording: Option<RwLockWriteGuard<'a, ()>>,
}

impl<'a> StreamCapture<'a> {
    #[track_caller]
    fn open(
        context: &'a Context,
        arena: &Arc<Arena>,
        recording: Option<RwLockWriteGuard<'a, ()>>,
    ) -> StreamCapture<'a> {
        let recorded = recording.is_some();
        if recorded {
            context.expect("capture", context.context.bind_to_thread());
            let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            // SAFETY: the stream lives.
            context.expect("capture", unsafe { stream::begin_capture(context.stream.cu_stream(), mode) });
        }
        let (thread, arena) = (thread::current().id(), arena.clone());
        *lock(&context.captures.run) =
            Some(CaptureRun { thread, arena, recorded, uncapturable: false, faults: false });
        context.captures.open.store(true, Ordering::Relaxed);
        StreamCapture { context, recording }
    }

    #[track_caller]
    fn close(self) -> CaptureRun {
        self.context.captures.open.store(false, Ordering::Relaxed);
        lock(&self.context.captures.run).take().expect("an open capture has a run")
    }

    /// The graph of what was recorded, and whether it may find faults; nothing if the driver makes no graph of it.
    #[track_caller]
    fn end(mut self) -> Option<(CUgraphExec, bool)> {
        let recording = self.recording.take();
        // SAFETY: this thread began to record the stream.
        let recorded = unsafe { stream::end_capture(self.context.stream.cu_stream()) };
        let context = self.context;
        let run = self.close();
        drop(recording);
        let recorded = recorded.ok()?;
        // SAFETY: the graph comes from the driver, and is destroyed once, after its last use.
        let (exec, destroyed) =
            unsafe { (graph::instantiate(recorded, CUgraphInstantiate_flags(0)), graph::destroy(recorded)) };
        context.expect("capture", destroyed);
        Some((exec.ok()?, run.faults))
    }
}

impl Drop for StreamCapture<'_> {
    fn drop(&mut self) {
        if self.recording.is_some() {
            // SAFETY: this thread began to record the stream; what was recorded is destroyed unused. An error means
            // that there is nothing to destroy.
            unsafe {
                if let Ok(unused) = stream::end_capture(self.context.stream.cu_stream())
                    && !unused.is_null()
                {
                    self.context.context.record_err(graph::destroy(unused));
                }
            }
        }
        self.context.captures.open.store(false, Ordering::Relaxed);
        let run = lock(&self.context.captures.run).take();
        self.recording = None;
        // Its arena may be the last reference, whose memory goes back to the stream.
        drop(run);
    }
}
