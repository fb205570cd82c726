//! Operation graphs of cuDNN's backend API: a convolution as tensors and one operation.

use cudarc::cudnn::result::CudnnError;
use cudarc::cudnn::sys;
use sys::cudnnBackendAttributeName_t as At;
use sys::cudnnBackendAttributeType_t as Type;
use sys::cudnnBackendDescriptorType_t as What;
use sys::cudnnPointwiseMode_t as Mode;
use sys::{cudnnConvolutionMode_t, cudnnDataType_t};
use tarrl_tensor::{ConvShape, DType};

/// The bytes that divide every address: those of the memory pool are multiples of 256.
const ALIGNMENT: i64 = 16;

/// Names of images, weights, results, and of bias and skip where a graph has them. An adjoint keeps the names of what it
/// is the gradient of.
pub(crate) const NAMES: [i64; 5] = [1, 2, 3, 4, 5];
/// Names of what is never written: the convolution, and the sum with the bias, with the skip.
const BETWEEN: [i64; 3] = [11, 12, 13];

/// A convolution or one of its adjoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Forward,
    Input,
    Weight,
    /// The convolution plus a bias, plus another array, then ReLU.
    Bias {
        skip: bool,
        relu: bool,
    },
}

impl Op {
    /// The tensors that are given, as places in [`NAMES`].
    pub(crate) fn operands(self) -> usize {
        match self {
            Op::Forward | Op::Input | Op::Weight => 3,
            Op::Bias { skip, .. } => 4 + usize::from(skip),
        }
    }
}

/// An operation graph. The parts are kept as long as the graph, which refers to them.
pub(crate) struct Graph {
    pub(crate) whole: Descriptor,
    _parts: Vec<Descriptor>,
}

impl Graph {
    /// Without a handle a graph can be finalized, but no engine chosen for it.
    pub(crate) fn new(
        op: Op,
        shape: &ConvShape,
        dtype: DType,
        handle: Option<sys::cudnnHandle_t>,
    ) -> Result<Graph, CudnnError> {
        let conv = convolution(shape)?;
        let (mut operations, mut parts) = match op {
            Op::Bias { skip, relu } => with_bias(shape, dtype, &conv, skip, relu)?,
            _ => {
                let [x, w, y] = tensors(shape, dtype)?;
                (vec![operation(op, &conv, [&x, &w, &y])?], vec![x, w, y])
            }
        };
        let whole = Descriptor::new(What::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?;
        if let Some(handle) = handle {
            whole.set(At::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, Type::CUDNN_TYPE_HANDLE, &[handle])?;
        }
        let all: Vec<_> = operations.iter().map(|operation| operation.0).collect();
        whole.set(At::CUDNN_ATTR_OPERATIONGRAPH_OPS, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &all)?;
        whole.finalize()?;
        parts.append(&mut operations);
        parts.push(conv);
        Ok(Graph { whole, _parts: parts })
    }
}

/// The operations and the tensors of a convolution with what follows it. Between two operations values are of f32.
fn with_bias(
    s: &ConvShape,
    dtype: DType,
    conv: &Descriptor,
    skip: bool,
    relu: bool,
) -> Result<(Vec<Descriptor>, Vec<Descriptor>), CudnnError> {
    let [x, w, y] = tensors(s, dtype)?;
    let extents = [s.n, s.c_out, s.out_h(), s.out_w()];
    let mut operands = vec![tensor(NAMES[3], DType::F32, [1, s.c_out, 1, 1])?];
    if skip {
        operands.push(tensor(NAMES[4], dtype, extents)?);
    }
    let steps = operands.len() + usize::from(relu);
    // What each operation writes: nothing that is seen but by the last.
    let mut results = Vec::new();
    for name in &BETWEEN[..steps] {
        results.push(between(*name, extents)?);
    }
    results.push(y);
    let mut operations = vec![operation(Op::Forward, conv, [&x, &w, &results[0]])?];
    let mut parts = Vec::new();
    for step in 0..steps {
        let mode =
            if step < operands.len() { Mode::CUDNN_POINTWISE_ADD } else { Mode::CUDNN_POINTWISE_RELU_FWD };
        let what = pointwise(mode)?;
        let (from, to) = (&results[step], &results[step + 1]);
        operations.push(pointwise_operation(&what, from, operands.get(step), to)?);
        parts.push(what);
    }
    parts.extend([x, w].into_iter().chain(operands).chain(results));
    Ok((operations, parts))
}

fn pointwise(mode: Mode) -> Result<Descriptor, CudnnError> {
    let what = Descriptor::new(What::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?;
    what.set(At::CUDNN_ATTR_POINTWISE_MODE, Type::CUDNN_TYPE_POINTWISE_MODE, &[mode])?;
    let sums = cudnnDataType_t::CUDNN_DATA_FLOAT;
    what.set(At::CUDNN_ATTR_POINTWISE_MATH_PREC, Type::CUDNN_TYPE_DATA_TYPE, &[sums])?;
    what.finalize()?;
    Ok(what)
}

fn pointwise_operation(
    what: &Descriptor,
    from: &Descriptor,
    with: Option<&Descriptor>,
    to: &Descriptor,
) -> Result<Descriptor, CudnnError> {
    let operation = Descriptor::new(What::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?;
    operation.set_descriptor(At::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, what)?;
    operation.set_descriptor(At::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, from)?;
    if let Some(with) = with {
        operation.set_descriptor(At::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, with)?;
    }
    operation.set_descriptor(At::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, to)?;
    operation.finalize()?;
    Ok(operation)
}

/// Images, weights and results: extents in cuDNN's order, channels before pixels, and strides of channels last.
fn tensors(s: &ConvShape, dtype: DType) -> Result<[Descriptor; 3], CudnnError> {
    let [x, w, y, ..] = NAMES;
    Ok([
        tensor(x, dtype, [s.n, s.c_in, s.h, s.w])?,
        tensor(w, dtype, [s.c_out, s.c_in / s.conv.groups, s.kh, s.kw])?,
        tensor(y, dtype, [s.n, s.c_out, s.out_h(), s.out_w()])?,
    ])
}

fn tensor(name: i64, dtype: DType, extents: [usize; 4]) -> Result<Descriptor, CudnnError> {
    let tensor = unfinished(name, dtype, extents)?;
    tensor.finalize()?;
    Ok(tensor)
}

/// A tensor of f32 that is never written.
fn between(name: i64, extents: [usize; 4]) -> Result<Descriptor, CudnnError> {
    let tensor = unfinished(name, DType::F32, extents)?;
    tensor.set(At::CUDNN_ATTR_TENSOR_IS_VIRTUAL, Type::CUDNN_TYPE_BOOLEAN, &[true])?;
    tensor.finalize()?;
    Ok(tensor)
}

fn unfinished(name: i64, dtype: DType, [n, c, h, w]: [usize; 4]) -> Result<Descriptor, CudnnError> {
    let whole = |extents: [usize; 4]| extents.map(|extent| extent as i64);
    let tensor = Descriptor::new(What::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?;
    tensor.set(At::CUDNN_ATTR_TENSOR_UNIQUE_ID, Type::CUDNN_TYPE_INT64, &[name])?;
    tensor.set(At::CUDNN_ATTR_TENSOR_DATA_TYPE, Type::CUDNN_TYPE_DATA_TYPE, &[data(dtype)])?;
    tensor.set(At::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, Type::CUDNN_TYPE_INT64, &[ALIGNMENT])?;
    tensor.set(At::CUDNN_ATTR_TENSOR_DIMENSIONS, Type::CUDNN_TYPE_INT64, &whole([n, c, h, w]))?;
    let strides = whole([h * w * c, 1, w * c, c]);
    tensor.set(At::CUDNN_ATTR_TENSOR_STRIDES, Type::CUDNN_TYPE_INT64, &strides)?;
    Ok(tensor)
}

/// How the window walks. Sums are taken in f32 whatever the tensors hold. Groups follow from the channels.
fn convolution(s: &ConvShape) -> Result<Descriptor, CudnnError> {
    let (pad, stride) = ([s.conv.pad as i64; 2], [s.conv.stride as i64; 2]);
    let mode = cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
    let sums = cudnnDataType_t::CUDNN_DATA_FLOAT;
    let conv = Descriptor::new(What::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?;
    conv.set(At::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, Type::CUDNN_TYPE_DATA_TYPE, &[sums])?;
    conv.set(At::CUDNN_ATTR_CONVOLUTION_CONV_MODE, Type::CUDNN_TYPE_CONVOLUTION_MODE, &[mode])?;
    conv.set(At::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, Type::CUDNN_TYPE_INT64, &[2i64])?;
    conv.set(At::CUDNN_ATTR_CONVOLUTION_DILATIONS, Type::CUDNN_TYPE_INT64, &[1i64; 2])?;
    conv.set(At::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, Type::CUDNN_TYPE_INT64, &stride)?;
    conv.set(At::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, Type::CUDNN_TYPE_INT64, &pad)?;
    conv.set(At::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, Type::CUDNN_TYPE_INT64, &pad)?;
    conv.finalize()?;
    Ok(conv)
}

fn operation(op: Op, conv: &Descriptor, tensors: [&Descriptor; 3]) -> Result<Descriptor, CudnnError> {
    let (what, names, [convolution, alpha, beta]) = match op {
        Op::Forward | Op::Bias { .. } => (
            What::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
            [
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
            ],
            [
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
            ],
        ),
        Op::Input => (
            What::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
            [
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
            ],
            [
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
            ],
        ),
        Op::Weight => (
            What::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
            [
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
            ],
            [
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                At::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
            ],
        ),
    };
    let operation = Descriptor::new(what)?;
    operation.set_descriptor(convolution, conv)?;
    for (name, tensor) in names.into_iter().zip(tensors) {
        operation.set_descriptor(name, tensor)?;
    }
    operation.set(alpha, Type::CUDNN_TYPE_FLOAT, &[1f32])?;
    operation.set(beta, Type::CUDNN_TYPE_FLOAT, &[0f32])?;
    operation.finalize()?;
    Ok(operation)
}

fn data(dtype: DType) -> cudnnDataType_t {
    match dtype {
        DType::F32 => cudnnDataType_t::CUDNN_DATA_FLOAT,
        DType::Bf16 => cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        DType::F64 | DType::U32 => unreachable!("only f32 and bf16 are given to cuDNN"),
    }
}

/// A descriptor of the library, destroyed when it is dropped.
pub(crate) struct Descriptor(pub(crate) sys::cudnnBackendDescriptor_t);

impl Descriptor {
    pub(crate) fn new(what: What) -> Result<Descriptor, CudnnError> {
        let mut made = std::ptr::null_mut();
        // SAFETY: the pointer is to a place that outlives the call.
        unsafe { sys::cudnnBackendCreateDescriptor(what, &raw mut made) }.result()?;
        Ok(Descriptor(made))
    }

    pub(crate) fn set<T>(&self, name: At, kind: Type, values: &[T]) -> Result<(), CudnnError> {
        // SAFETY: the descriptor lives, and as many values as are told are read; the library checks kind and number,
        // and every call in this folder gives values of the kind that it names.
        unsafe {
            sys::cudnnBackendSetAttribute(self.0, name, kind, values.len() as i64, values.as_ptr().cast())
        }
        .result()
    }

    pub(crate) fn set_descriptor(&self, name: At, to: &Descriptor) -> Result<(), CudnnError> {
        self.set(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &[to.0])
    }

    pub(crate) fn finalize(&self) -> Result<(), CudnnError> {
        // SAFETY: the descriptor lives.
        unsafe { sys::cudnnBackendFinalize(self.0) }.result()
    }

    /// How many values there are, of which as many as fit are written to `values`.
    pub(crate) fn get<T>(&self, name: At, kind: Type, values: &mut [T]) -> Result<usize, CudnnError> {
        let (buffer, mut count) = (values.len() as i64, 0);
        let to = if values.is_empty() { std::ptr::null_mut() } else { values.as_mut_ptr().cast() };
        // SAFETY: there is room for as many values as are asked for, of the kind that is named.
        unsafe { sys::cudnnBackendGetAttribute(self.0, name, kind, buffer, &raw mut count, to) }.result()?;
        Ok(count.max(0) as usize)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: made once, and not used again.
        let _ = unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
    }
}
