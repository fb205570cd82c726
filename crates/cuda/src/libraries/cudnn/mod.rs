//! Convolutions with cuDNN: one plan for each operation, shape and type, made once.

mod graph;
mod plan;

pub(crate) use graph::Op;

use super::Places;
use crate::error::CudaError;
use crate::options::Arithmetic;
use cudarc::cudnn::result::CudnnError;
use cudarc::cudnn::sys;
use cudarc::driver::CudaStream;
use graph::Graph;
use plan::Plan;
use std::collections::HashMap;
use tarrl_tensor::{ConvShape, DType};

/// The library's handle with the plans made so far.
pub(crate) struct Cudnn {
    handle: sys::cudnnHandle_t,
    /// `None` where no engine will do.
    plans: HashMap<(Op, ConvShape, DType), Option<Plan>>,
}

// SAFETY: the handle and the descriptors are bound to a context, not to a thread, and every caller makes the context
// current first; the one `Cudnn` of a device stands behind a mutex, so that no two threads use them at once.
unsafe impl Send for Cudnn {}

impl Cudnn {
    /// `None` if the library is nowhere or refuses the card.
    pub(crate) fn open(places: &Places, stream: &CudaStream) -> Option<Cudnn> {
        if !places.dnn() {
            return None;
        }
        let mut handle = std::ptr::null_mut();
        // SAFETY: it takes nothing. Version 8 has other attributes.
        if unsafe { sys::cudnnGetVersion() } < 90000 {
            return None;
        }
        // SAFETY: the pointer is to a place that outlives the call.
        unsafe { sys::cudnnCreate(&raw mut handle) }.result().ok()?;
        let dnn = Cudnn { handle, plans: HashMap::new() };
        // SAFETY: the handle was made above; the stream lives as long as the device that owns both.
        unsafe { sys::cudnnSetStream(handle, stream.cu_stream().cast()) }.result().ok()?;
        Some(dnn)
    }

    /// Such as `9.21.0`.
    pub(crate) fn version() -> String {
        // SAFETY: it takes nothing.
        let version = unsafe { sys::cudnnGetVersion() };
        format!("{}.{}.{}", version / 10000, version / 100 % 100, version % 100)
    }

    /// Bytes of workspace that the operation needs; `None` if no engine will do.
    pub(crate) fn workspace(
        &mut self,
        op: Op,
        shape: &ConvShape,
        dtype: DType,
        arithmetic: Arithmetic,
    ) -> Option<usize> {
        self.plan(op, shape, dtype, arithmetic).map(|plan| plan.workspace)
    }

    /// Queues the operation on the tensors at these pointers, in the order of [`Plan::execute`]; `None` if no engine will do.
    ///
    /// # Safety
    /// The tensors are as large as those of the shape, and the workspace as large as [`workspace`](Self::workspace) says; all
    /// was allocated on the stream of the handle.
    pub(crate) unsafe fn execute(
        &mut self,
        (op, shape, dtype, arithmetic): (Op, &ConvShape, DType, Arithmetic),
        tensors: &[u64],
        workspace: u64,
    ) -> Option<Result<(), CudnnError>> {
        let handle = self.handle;
        // SAFETY: the caller's.
        self.plan(op, shape, dtype, arithmetic)
            .map(|plan| unsafe { plan.execute(handle, tensors, workspace) })
    }

    fn plan(&mut self, op: Op, shape: &ConvShape, dtype: DType, arithmetic: Arithmetic) -> Option<&Plan> {
        let handle = self.handle;
        let plan = || Plan::find(handle, op, shape, dtype, arithmetic);
        self.plans.entry((op, *shape, dtype)).or_insert_with(plan).as_ref()
    }

    /// A line for each plan that was asked for, sorted.
    pub(crate) fn describe(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .plans
            .iter()
            .map(|((op, s, dtype), plan)| {
                let what = format!(
                    "{op:?} {dtype:?}: {}×{}×{}×{}, {}×{}, {} channels, stride {}",
                    s.n, s.h, s.w, s.c_in, s.kh, s.kw, s.c_out, s.conv.stride
                );
                match plan {
                    None => format!("{what}: no engine"),
                    Some(plan) => {
                        let engine = plan.engine().map_or("?".to_owned(), |number| number.to_string());
                        format!(
                            "{what}: engine {engine}, workspace {:.1} MiB",
                            plan.workspace as f64 / 1048576.0
                        )
                    }
                }
            })
            .collect();
        lines.sort();
        lines
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: made in `open`, and not used again.
        let _ = unsafe { sys::cudnnDestroy(self.handle) };
    }
}

/// Gives cuDNN the graphs of all operations on every shape, in f32 and bf16, which it checks without a GPU.
/// Returns its version and how many it took; `None` if it is not installed.
///
/// # Errors
/// The first graph that it refuses.
pub fn finalize_graphs(places: &Places, shapes: &[ConvShape]) -> Option<Result<(String, usize), CudaError>> {
    if !places.dnn() {
        return None;
    }
    let mut count = 0;
    let fused = [(false, false), (false, true), (true, true)].map(|(skip, relu)| Op::Bias { skip, relu });
    let ops = [&[Op::Forward, Op::Input, Op::Weight][..], &fused].concat();
    for shape in shapes {
        for dtype in [DType::F32, DType::Bf16] {
            for &op in &ops {
                if let Err(error) = Graph::new(op, shape, dtype, None) {
                    let graph = format!("{op:?} in {dtype:?} of {shape:?}");
                    return Some(Err(CudaError::RefusedGraph { graph, cause: error.to_string() }));
                }
                count += 1;
            }
        }
    }
    Some(Ok((Cudnn::version(), count)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::Conv;

    fn shape(c_in: usize, groups: usize) -> ConvShape {
        let conv = Conv { stride: 2, pad: 1, groups };
        ConvShape { n: 4, h: 9, w: 8, c_in, kh: 3, kw: 2, c_out: 6, conv }
    }

    /// The library takes descriptors without a GPU, and checks types, numbers and extents.
    #[test]
    fn cudnn_accepts_the_graphs_where_it_is_installed() {
        let places = Places::usual();
        match finalize_graphs(&places, &[shape(5, 1), shape(6, 2)]) {
            None => println!("did not make graphs: cuDNN is not installed"),
            Some(taken) => {
                assert_eq!(taken.map(|(_, count)| count), Ok(24));
                // Channels of the images that are no multiple of those of the weights.
                assert!(finalize_graphs(&places, &[shape(5, 2)]).is_some_and(|refused| refused.is_err()));
            }
        }
    }
}
