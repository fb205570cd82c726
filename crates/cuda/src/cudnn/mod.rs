//! Convolutions in cuDNN where it is installed: one plan for each operation, shape and type, made once.
//!
//! Every function answers `None` where cuDNN will not do: it is absent, the type is f64, or no engine computes the
//! shape deterministically in the arithmetic that was asked for. The caller then computes it as a product of patches.
//! cuDNN wants the taps of an output channel together, `(c_out, kh, kw, c_in)`: weights are moved before and their
//! gradients after, which is little beside the images.

mod graph;
mod plan;

use crate::gpu::Gpu;
use crate::layout;
use crate::memory::{Block, read};
use crate::pointwise::size;
use crate::{Arithmetic, Places};
use cudarc::cudnn::sys;
use cudarc::driver::CudaStream;
use graph::{Graph, Op};
use plan::Plan;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use tarrl_tensor::{Array, ConvShape, DType, Shape};

pub(crate) fn forward(gpu: &Arc<Gpu>, x: &Array, w: &Array, shape: &ConvShape) -> Option<Block> {
    let op = "conv2d";
    run(gpu, Op::Forward, shape, x.dtype(), |execute| {
        let w = output_first(gpu, w, shape);
        let y = gpu.block(op, shape.output().len() * size(x.dtype()));
        execute(&[read(gpu, op, x), &w, &y]);
        y
    })
}

/// Of images, weights and bias, and what is added if there is something.
pub(crate) fn forward_bias(
    gpu: &Arc<Gpu>,
    [x, w, bias]: [&Array; 3],
    skip: Option<&Array>,
    shape: &ConvShape,
    relu: bool,
) -> Option<Block> {
    let op = "conv2d_bias";
    run(gpu, Op::Bias { skip: skip.is_some(), relu }, shape, x.dtype(), |execute| {
        let w = output_first(gpu, w, shape);
        let y = gpu.block(op, shape.output().len() * size(x.dtype()));
        let mut operands = vec![read(gpu, op, x), &w, &y, read(gpu, op, bias)];
        operands.extend(skip.map(|skip| read(gpu, op, skip)));
        execute(&operands);
        y
    })
}

pub(crate) fn input_adjoint(gpu: &Arc<Gpu>, dy: &Array, w: &Array, shape: &ConvShape) -> Option<Block> {
    let op = "conv2d_input";
    run(gpu, Op::Input, shape, dy.dtype(), |execute| {
        let w = output_first(gpu, w, shape);
        let dx = gpu.block(op, shape.input().len() * size(dy.dtype()));
        execute(&[&dx, &w, read(gpu, op, dy)]);
        dx
    })
}

pub(crate) fn weight_adjoint(gpu: &Arc<Gpu>, x: &Array, dy: &Array, shape: &ConvShape) -> Option<Block> {
    let op = "conv2d_weight";
    run(gpu, Op::Weight, shape, x.dtype(), |execute| {
        let dw = gpu.block(op, shape.weight().len() * size(x.dtype()));
        execute(&[read(gpu, op, x), &dw, read(gpu, op, dy)]);
        let [terms, outputs] = matrix(shape);
        layout::transpose(gpu, &dw, x.dtype(), [outputs, terms])
    })
}

/// The library with the plans made so far.
pub(crate) struct Dnn {
    handle: sys::cudnnHandle_t,
    /// `None` where no engine will do.
    plans: HashMap<(Op, ConvShape, DType), Option<Plan>>,
}

// SAFETY: the handle and the descriptors are bound to a context, not to a thread, and every caller makes the context
// current first; the one `Dnn` of a device stands behind a mutex, so that no two threads use them at once.
unsafe impl Send for Dnn {}

impl Dnn {
    /// `None` if the library is nowhere or refuses the card.
    pub(crate) fn open(places: &Places, stream: &CudaStream) -> Option<Dnn> {
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
        let dnn = Dnn { handle, plans: HashMap::new() };
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

    fn plan(&mut self, op: Op, shape: &ConvShape, dtype: DType, arithmetic: Arithmetic) -> Option<&Plan> {
        let handle = self.handle;
        let plan = || Plan::find(handle, op, shape, dtype, arithmetic);
        self.plans.entry((op, *shape, dtype)).or_insert_with(plan).as_ref()
    }
}

impl Dnn {
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

impl Drop for Dnn {
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
pub fn finalize_graphs(places: &Places, shapes: &[ConvShape]) -> Option<Result<(String, usize), String>> {
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
                    return Some(Err(format!("cuDNN refuses {op:?} in {dtype:?} of {shape:?}: {error}")));
                }
                count += 1;
            }
        }
    }
    Some(Ok((Dnn::version(), count)))
}

/// Calls `f` with what executes the plan on images, weights and results, if there is a plan.
#[track_caller]
fn run(
    gpu: &Arc<Gpu>,
    op: Op,
    shape: &ConvShape,
    dtype: DType,
    f: impl FnOnce(&dyn Fn(&[&Block])) -> Block,
) -> Option<Block> {
    let dnn = gpu.dnn.as_ref()?;
    let empty = [shape.input(), shape.weight(), shape.output()].iter().any(Shape::is_empty);
    if empty || !matches!(dtype, DType::F32 | DType::Bf16) {
        return None;
    }
    gpu.expect("conv2d", gpu.context.bind_to_thread());
    let find = || {
        let mut dnn = dnn.lock().expect("no panic while held");
        dnn.plan(op, shape, dtype, gpu.arithmetic).map(|plan| plan.workspace)
    };
    let workspace = gpu.block("conv2d", find()?);
    Some(f(&|tensors| {
        // Before the lock, which a thread that records may wait for.
        let turn = gpu.turn();
        let mut dnn = dnn.lock().expect("no panic while held");
        let handle = dnn.handle;
        let status = dnn.plan(op, shape, dtype, gpu.arithmetic).map(|plan| {
            assert_eq!(tensors.len(), op.operands(), "conv2d: blocks of {op:?}");
            let pointers: Vec<u64> = tensors.iter().map(|block| block.pointer()).collect();
            // SAFETY: the callers of this file give blocks as large as the tensors of the shape.
            unsafe { plan.execute(handle, &pointers, workspace.pointer()) }
        });
        // A panic while it is held would make it useless.
        drop(dnn);
        drop(turn);
        gpu.expect("conv2d", status.expect("the plan was found above"));
    }))
}

/// Rows and columns of weights `(kh·kw·c_in, c_out)`. cuDNN's `(c_out, kh, kw, c_in)` is that matrix transposed.
fn matrix(shape: &ConvShape) -> [usize; 2] {
    [shape.weight().len() / shape.c_out, shape.c_out]
}

/// The weights with the output channels in front. They are kept beside the weights, which stand still while an attack
/// runs, and between the forward pass and its adjoint. A captured function keeps them beside weights that it has made itself;
/// beside others, of which inputs change in place, it takes what was kept before.
fn output_first<'a>(gpu: &Arc<Gpu>, w: &'a Array, shape: &ConvShape) -> Weights<'a> {
    let block = read(gpu, "conv2d", w);
    let make = || layout::transpose(gpu, block, w.dtype(), matrix(shape));
    let stays = !gpu.captures.is_open() || block.is_of_arena();
    match block.kept() {
        Some(kept) => Weights::Kept(kept),
        None if stays => Weights::Kept(block.beside(make)),
        None => Weights::Own(make()),
    }
}

enum Weights<'a> {
    Kept(&'a Block),
    Own(Block),
}

impl Deref for Weights<'_> {
    type Target = Block;

    fn deref(&self) -> &Block {
        match self {
            Weights::Kept(block) => block,
            Weights::Own(block) => block,
        }
    }
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
    fn graphs_are_taken_where_the_library_is() {
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
