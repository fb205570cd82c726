//! CUDA graphs: a captured function that is launched as a whole.
//!
//! The memory that the function works in stays with the graph, and so does every array from outside that it reads.

use crate::driver::{Arena, Recorded, read, record};
use crate::gpu::Gpu;
use crate::ops::copy::{copies, copy_into};
use cudarc::driver::result::graph;
use cudarc::driver::sys::CUgraphExec;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tarrl_tensor::{Array, Captured};

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
    if gpu.captures.is_open() {
        gpu.forbid_capture("a capture");
        return None;
    }
    let inputs = copies(gpu, inputs);
    let Recorded { exec, results, faults, arena } = record(gpu, || run(&inputs))?;
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
        gpu.forbid_capture("a replay");
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
        gpu.counters.replays.fetch_add(1, Ordering::Relaxed);
        let guard = gpu.stream_guard();
        // SAFETY: the graph was instantiated, all that it works on lives as long as it does, and it is queued behind
        // the copies above.
        let queued = unsafe { graph::launch(self.exec, gpu.stream.cu_stream()) };
        drop(guard);
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
            let _guard = self.gpu.stream_guard();
            context.record_err(self.gpu.stream.synchronize());
            // SAFETY: instantiated once, not used again, and no longer running.
            context.record_err(unsafe { graph::exec_destroy(self.exec) });
        }
    }
}
