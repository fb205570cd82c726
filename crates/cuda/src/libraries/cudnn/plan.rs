//! Execution plans: the first engine that cuDNN proposes and that computes what is asked for.

use super::graph::{Descriptor, Graph, NAMES, Op};
use crate::options::Arithmetic;
use cudarc::cudnn::result::CudnnError;
use cudarc::cudnn::sys;
use std::ffi::c_void;
use sys::cudnnBackendAttributeName_t as At;
use sys::cudnnBackendAttributeType_t as Type;
use sys::cudnnBackendDescriptorType_t as What;
use sys::cudnnBackendHeurMode_t as Mode;
use sys::cudnnBackendNumericalNote_t as Note;
use tarrl_tensor::{ConvShape, DType};

/// Bytes that an engine may use beside its operands.
const WORKSPACE: i64 = 2 << 30;

/// Notes that an engine has at most; the library knows ten.
const NOTES: usize = 32;

/// Engines with these notes are left out always: another run may give other bits, factors lose bits, or sums are taken
/// in fewer than f32 has.
const WRONG: [Note; 3] = [
    Note::CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC,
    Note::CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS,
    Note::CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
];

/// Engines for bf16 have this note: without tensor cores a product of patches is faster.
const FAST: Note = Note::CUDNN_NUMERICAL_NOTE_TENSOR_CORE;

/// And these for f32 that is meant as f32: tensor cores round the factors to TF32, and transforms lose bits of small
/// terms beside large ones.
const INEXACT: [Note; 6] = [
    Note::CUDNN_NUMERICAL_NOTE_TENSOR_CORE,
    Note::CUDNN_NUMERICAL_NOTE_FFT,
    Note::CUDNN_NUMERICAL_NOTE_WINOGRAD,
    Note::CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4,
    Note::CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6,
    Note::CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13,
];

/// An engine made ready for one operation on one shape. The graph is kept as long as the plan, which refers to it.
pub(crate) struct Plan {
    whole: Descriptor,
    /// Bytes.
    pub(crate) workspace: usize,
    config: Descriptor,
    _graph: Graph,
}

impl Plan {
    /// `None` if no engine will do.
    pub(crate) fn find(
        handle: sys::cudnnHandle_t,
        op: Op,
        shape: &ConvShape,
        dtype: DType,
        arithmetic: Arithmetic,
    ) -> Option<Plan> {
        let graph = Graph::new(op, shape, dtype, Some(handle)).ok()?;
        let exact = dtype == DType::F32 && arithmetic == Arithmetic::Exact;
        // A mode that knows nothing of an operation answers with an error: the next is asked.
        let configs = [Mode::CUDNN_HEUR_MODE_A, Mode::CUDNN_HEUR_MODE_FALLBACK]
            .into_iter()
            .flat_map(|mode| proposals(&graph, mode).unwrap_or_default());
        for config in configs {
            if !notes(&config).is_ok_and(|notes| serves(&notes, dtype, exact)) {
                continue;
            }
            if let Ok((whole, workspace)) = plan(handle, &config)
                && workspace <= WORKSPACE
            {
                return Some(Plan { whole, workspace: workspace.max(0) as usize, config, _graph: graph });
            }
        }
        None
    }

    /// The number of the engine in the library, for records.
    pub(crate) fn engine(&self) -> Option<i64> {
        let engine = Descriptor::new(What::CUDNN_BACKEND_ENGINE_DESCRIPTOR).ok()?;
        let (name, kind) = (At::CUDNN_ATTR_ENGINECFG_ENGINE, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR);
        self.config.get(name, kind, &mut [engine.0]).ok()?;
        let mut number = [0i64];
        engine.get(At::CUDNN_ATTR_ENGINE_GLOBAL_INDEX, Type::CUDNN_TYPE_INT64, &mut number).ok()?;
        Some(number[0])
    }

    /// Queues the operation on images, weights, results, and bias and skip if it has them, in this order.
    ///
    /// # Safety
    /// The pointers are to memory as large as the tensors of the plan, and the workspace as large as it says; all was
    /// allocated on the stream of the handle.
    pub(crate) unsafe fn execute(
        &self,
        handle: sys::cudnnHandle_t,
        tensors: &[u64],
        workspace: u64,
    ) -> Result<(), CudnnError> {
        let pack = Descriptor::new(What::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?;
        let at = |pointer: u64| pointer as *mut c_void;
        pack.set(At::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, Type::CUDNN_TYPE_INT64, &NAMES[..tensors.len()])?;
        let tensors: Vec<_> = tensors.iter().map(|&pointer| at(pointer)).collect();
        pack.set(At::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, Type::CUDNN_TYPE_VOID_PTR, &tensors)?;
        pack.set(At::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, Type::CUDNN_TYPE_VOID_PTR, &[at(workspace)])?;
        pack.finalize()?;
        // SAFETY: plan and pack are finalized; the rest is the caller's word.
        unsafe { sys::cudnnBackendExecute(handle, self.whole.0, pack.0) }.result()
    }
}

/// Engines with their settings, the one that should be fastest first.
fn proposals(graph: &Graph, mode: Mode) -> Result<Vec<Descriptor>, CudnnError> {
    let heuristic = Descriptor::new(What::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?;
    heuristic.set_descriptor(At::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &graph.whole)?;
    heuristic.set(At::CUDNN_ATTR_ENGINEHEUR_MODE, Type::CUDNN_TYPE_HEUR_MODE, &[mode])?;
    heuristic.finalize()?;
    let (name, kind) = (At::CUDNN_ATTR_ENGINEHEUR_RESULTS, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR);
    let count = heuristic.get::<sys::cudnnBackendDescriptor_t>(name, kind, &mut [])?;
    let mut found = (0..count)
        .map(|_| Descriptor::new(What::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR))
        .collect::<Result<Vec<_>, _>>()?;
    let mut places: Vec<_> = found.iter().map(|config| config.0).collect();
    let filled = heuristic.get(name, kind, &mut places)?;
    found.truncate(filled);
    Ok(found)
}

/// What an engine says of its numbers. They are read as integers, because a newer library may know more of them.
fn notes(config: &Descriptor) -> Result<Vec<u32>, CudnnError> {
    let engine = Descriptor::new(What::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?;
    config.get(At::CUDNN_ATTR_ENGINECFG_ENGINE, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &mut [engine.0])?;
    let mut notes = vec![0u32; NOTES];
    let count =
        engine.get(At::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, Type::CUDNN_TYPE_NUMERICAL_NOTE, &mut notes)?;
    notes.truncate(count);
    Ok(notes)
}

fn serves(notes: &[u32], dtype: DType, exact: bool) -> bool {
    let has = |note: &Note| notes.contains(&(*note as u32));
    let any = |of: &[Note]| of.iter().any(has);
    let refused = any(&WRONG) || (exact && any(&INEXACT)) || (dtype == DType::Bf16 && !has(&FAST));
    !refused
}

/// The plan and the bytes of its workspace.
fn plan(handle: sys::cudnnHandle_t, config: &Descriptor) -> Result<(Descriptor, i64), CudnnError> {
    let plan = Descriptor::new(What::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?;
    plan.set(At::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, Type::CUDNN_TYPE_HANDLE, &[handle])?;
    plan.set_descriptor(At::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config)?;
    plan.finalize()?;
    let mut bytes = [0i64];
    plan.get(At::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, Type::CUDNN_TYPE_INT64, &mut bytes)?;
    Ok((plan, bytes[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_that_lose_bits_are_rejected() {
        let [nondeterministic, _, _] = WRONG.map(|note| note as u32);
        let [tensor_core, ..] = INEXACT.map(|note| note as u32);
        let single = |notes: &[u32], exact| serves(notes, DType::F32, exact);
        assert!(single(&[], true) && single(&[Note::CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP as u32, 99], true));
        assert!(!single(&[nondeterministic], false));
        assert!(!single(&[tensor_core], true) && single(&[tensor_core], false));
    }

    #[test]
    fn engines_for_bf16_run_on_tensor_cores() {
        let tensor_core = FAST as u32;
        assert!(serves(&[tensor_core], DType::Bf16, false) && !serves(&[], DType::Bf16, false));
    }
}
