//! Work captured once and queued again as a whole: CUDA graphs.
//!
//! The function runs twice before there is a graph. The rehearsal runs as always, but takes its memory from an
//! [`Arena`]; it loads kernels, makes plans of products, and shows whether the function waits for the device or brings
//! values from the host, which no graph can repeat. The second run is recorded: the driver queues nothing and is asked
//! for nothing but launches, products and copies, because the arena holds a block for every one that the rehearsal took.
//! The arena stays with the graph, and so does every array from outside that the function reads.
//!
//! The stream is everybody's: while one thread records, others wait where they queue work ([`Gpu::turn`]).

use crate::copy::{copies, copy_into};
use crate::gpu::Gpu;
use crate::memory::{Held, read};
use cudarc::driver::DriverError;
use cudarc::driver::result::{graph, stream};
use cudarc::driver::sys::{CUgraphExec, CUgraphInstantiate_flags, CUstreamCaptureMode};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, ThreadId};
use tarrl_tensor::{Array, Buffer, Captured};

/// The work of `run(inputs)`, or nothing if `run` does what cannot be captured, or the driver makes no graph of it.
///
/// # Panics
/// As `run` does, and if its second run asks for other memory than the first.
#[track_caller]
pub(crate) fn capture(
    gpu: &Arc<Gpu>,
    inputs: &[Array],
    run: &dyn Fn(&[Array]) -> Vec<Array>,
) -> Option<Graph> {
    if gpu.captures.of_this_thread(|_| ()).is_some() {
        gpu.uncapturable("a capture");
        return None;
    }
    let arena = Arc::new(Arena { gpu: gpu.clone(), free: Mutex::default(), kept: Mutex::default() });
    let inputs = copies(gpu, inputs);
    let _alone = lock(&gpu.captures.alone);
    let rehearsal = Session::open(gpu, &arena, None);
    drop(run(&inputs));
    if rehearsal.close().uncapturable {
        return None;
    }
    let turn = gpu.captures.turn.write().unwrap_or_else(PoisonError::into_inner);
    let recording = Session::open(gpu, &arena, Some(turn));
    let results = run(&inputs);
    let (exec, faults) = recording.end()?;
    Some(Graph { exec, inputs, results, faults, gpu: gpu.clone(), _arena: arena })
}

/// A graph with the memory that it works in.
pub(crate) struct Graph {
    exec: CUgraphExec,
    inputs: Vec<Array>,
    results: Vec<Array>,
    /// Whether it holds a kernel that checks its operands.
    faults: bool,
    gpu: Arc<Gpu>,
    _arena: Arc<Arena>,
}

// SAFETY: the driver binds a graph to no thread, and asks that calls with one graph do not overlap: it is launched
// through a reference, but `Graph` is not `Sync`.
unsafe impl Send for Graph {}

impl Captured for Graph {
    #[track_caller]
    fn launch(&self, inputs: &[Array]) -> Vec<Array> {
        let gpu = &self.gpu;
        gpu.uncapturable("a replay");
        assert_eq!(inputs.len(), self.inputs.len(), "replay: another number of inputs");
        for (x, to) in inputs.iter().zip(&self.inputs) {
            let same = (x.shape(), x.dtype()) == (to.shape(), to.dtype());
            assert!(same, "replay: an input of shape {:?}, not {:?}", x.shape(), to.shape());
        }
        copy_into(gpu, inputs.iter().zip(self.inputs.iter().map(|to| read(gpu, "replay", to))));
        if self.faults {
            gpu.fault();
        }
        gpu.expect("replay", gpu.context.bind_to_thread());
        gpu.count.replays.fetch_add(1, Ordering::Relaxed);
        let turn = gpu.turn();
        // SAFETY: the graph was instantiated, all that it works on lives as long as it does, and it is queued behind
        // the copies above.
        let queued = unsafe { graph::launch(self.exec, gpu.stream.cu_stream()) };
        drop(turn);
        gpu.expect("replay", queued);
        copies(gpu, &self.results)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let context = &self.gpu.context;
        context.record_err(context.bind_to_thread());
        // While this thread records there is no waiting: the graph's few kilobytes on the host are not given back.
        if !self.gpu.captures.is_recorded() {
            let _turn = self.gpu.turn();
            context.record_err(self.gpu.stream.synchronize());
            // SAFETY: instantiated once, not used again, and no longer running.
            context.record_err(unsafe { graph::exec_destroy(self.exec) });
        }
    }
}

/// Memory of one graph: freed blocks by their bytes, and what else must live as long as it does.
pub(crate) struct Arena {
    gpu: Arc<Gpu>,
    free: Mutex<HashMap<usize, Vec<Held>>>,
    kept: Mutex<Kept>,
}

/// What the function used that is not of its arena.
#[derive(Default)]
struct Kept {
    /// Arrays that were read, by their pointers.
    read: HashMap<u64, Buffer>,
    /// Memory that would have been given back while the stream was recorded.
    dropped: Vec<Held>,
}

impl Arena {
    pub(crate) fn give_back(&self, held: Held) {
        lock(&self.free).entry(held.bytes()).or_default().push(held);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let kept = std::mem::take(self.kept.get_mut().unwrap_or_else(PoisonError::into_inner));
        let free = std::mem::take(self.free.get_mut().unwrap_or_else(PoisonError::into_inner));
        free.into_values().flatten().chain(kept.dropped).for_each(|held| self.gpu.release(held));
    }
}

/// The captures of a device: at most one at a time.
#[derive(Default)]
pub(crate) struct Captures {
    /// Held from the rehearsal to the graph.
    alone: Mutex<()>,
    /// Written while a thread records, read by every other that queues work.
    turn: RwLock<()>,
    /// Whether there is a run; for a look without a lock.
    open: AtomicBool,
    run: Mutex<Option<Run>>,
}

/// A rehearsal, or the run that is recorded.
struct Run {
    thread: ThreadId,
    arena: Arc<Arena>,
    recorded: bool,
    uncapturable: bool,
    faults: bool,
}

impl Captures {
    /// What `f` says of the run of this thread, if it has one.
    fn of_this_thread<T>(&self, f: impl FnOnce(&mut Run) -> T) -> Option<T> {
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

    fn is_recorded(&self) -> bool {
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

impl Gpu {
    /// To be held around every call of the driver that concerns the stream, and nothing else: waits while another thread
    /// records.
    pub(crate) fn turn(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let recorded = self.captures.is_recorded();
        self.count.calls.fetch_add(u64::from(!recorded), Ordering::Relaxed);
        (!recorded).then(|| self.captures.turn.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What no graph can repeat: a copy from or to the host, a wait.
    ///
    /// # Panics
    /// In a run that is recorded, whose rehearsal did not do it.
    #[track_caller]
    pub(crate) fn uncapturable(&self, what: &str) {
        let recorded = self.captures.of_this_thread(|run| {
            run.uncapturable = true;
            run.recorded
        });
        assert!(recorded != Some(true), "{what} while a function is captured that did without before");
    }

    /// Memory, with its arena in a run of this thread.
    #[track_caller]
    pub(crate) fn memory(&self, bytes: usize) -> Result<(Held, Option<Arc<Arena>>), DriverError> {
        let run = self.captures.of_this_thread(|run| (run.arena.clone(), run.recorded));
        if let Some((arena, recorded)) = &run {
            let free = lock(&arena.free).get_mut(&bytes).and_then(Vec::pop);
            if let Some(held) = free {
                return Ok((held, Some(arena.clone())));
            }
            assert!(!recorded, "a captured function asks for other memory than it did before: {bytes} bytes");
        }
        self.context.bind_to_thread()?;
        let _turn = self.turn();
        Ok((Held::new(&self.stream, bytes)?, run.map(|(arena, _)| arena)))
    }

    /// Memory of no arena, in a rehearsal too.
    ///
    /// # Panics
    /// In a run that is recorded.
    #[track_caller]
    pub(crate) fn lasting_memory(&self, bytes: usize) -> Result<Held, DriverError> {
        assert!(
            !self.captures.is_recorded(),
            "a captured function asks for a table that it did without before"
        );
        self.context.bind_to_thread()?;
        let _turn = self.turn();
        Held::new(&self.stream, bytes)
    }

    /// Gives memory back that is of no arena.
    pub(crate) fn release(&self, mut held: Held) {
        let mut late = Some(held.take());
        self.captures.of_this_thread(|run| {
            if run.recorded {
                lock(&run.arena.kept).dropped.extend(late.take());
            }
        });
        if let Some(mut held) = late {
            // An error stays with the context, which returns it from the next call.
            self.context.record_err(self.context.bind_to_thread());
            let _turn = self.turn();
            held.free(&self.stream);
        }
    }
}

/// A run in progress; a panic ends it and leaves the stream as it was.
struct Session<'a> {
    gpu: &'a Gpu,
    /// Held by a run that is recorded, until the stream is no longer.
    turn: Option<RwLockWriteGuard<'a, ()>>,
}

impl<'a> Session<'a> {
    #[track_caller]
    fn open(gpu: &'a Gpu, arena: &Arc<Arena>, turn: Option<RwLockWriteGuard<'a, ()>>) -> Session<'a> {
        let recorded = turn.is_some();
        if recorded {
            gpu.expect("capture", gpu.context.bind_to_thread());
            let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            // SAFETY: the stream lives.
            gpu.expect("capture", unsafe { stream::begin_capture(gpu.stream.cu_stream(), mode) });
        }
        let (thread, arena) = (thread::current().id(), arena.clone());
        *lock(&gpu.captures.run) = Some(Run { thread, arena, recorded, uncapturable: false, faults: false });
        gpu.captures.open.store(true, Ordering::Relaxed);
        Session { gpu, turn }
    }

    #[track_caller]
    fn close(self) -> Run {
        self.gpu.captures.open.store(false, Ordering::Relaxed);
        lock(&self.gpu.captures.run).take().expect("a session has a run")
    }

    /// The graph of what was recorded, and whether it may find faults; nothing if the driver makes no graph of it.
    #[track_caller]
    fn end(mut self) -> Option<(CUgraphExec, bool)> {
        let turn = self.turn.take();
        // SAFETY: this thread began to record the stream.
        let recorded = unsafe { stream::end_capture(self.gpu.stream.cu_stream()) };
        let gpu = self.gpu;
        let run = self.close();
        drop(turn);
        let recorded = recorded.ok()?;
        // SAFETY: the graph comes from the driver, and is destroyed once, after its last use.
        let (exec, destroyed) =
            unsafe { (graph::instantiate(recorded, CUgraphInstantiate_flags(0)), graph::destroy(recorded)) };
        gpu.expect("capture", destroyed);
        Some((exec.ok()?, run.faults))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if self.turn.is_some() {
            // SAFETY: this thread began to record the stream; what was recorded is destroyed unused. An error means
            // that there is nothing to destroy.
            unsafe {
                if let Ok(unused) = stream::end_capture(self.gpu.stream.cu_stream())
                    && !unused.is_null()
                {
                    self.gpu.context.record_err(graph::destroy(unused));
                }
            }
        }
        self.gpu.captures.open.store(false, Ordering::Relaxed);
        let run = lock(&self.gpu.captures.run).take();
        self.turn = None;
        // Its arena may be the last reference, whose memory goes back to the stream.
        drop(run);
    }
}

/// What is locked is whole whenever a panic may come.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
