//! Stored tensors: shape and values as a file holds them.

use super::error::Fault;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, View};
use std::borrow::Cow;
use std::collections::BTreeMap;
use tarrl_tensor::{DType, Device, Shape, Tensor};

/// Tensors by name.
pub type Tensors = BTreeMap<String, Stored>;

/// Notes by name, as strings.
pub type Metadata = BTreeMap<String, String>;

/// A tensor on its way to or from a file: a shape and row-major values.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    shape: Vec<usize>,
    values: Values,
}

/// The values of a [`Stored`] tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// 32-bit floats: parameters, running statistics, the state of optimizers.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// Whole numbers: counts.
    I64(Vec<i64>),
    /// Whole numbers without sign: keys, steps.
    U64(Vec<u64>),
}

/// Runs one expression for the values of any type.
macro_rules! each {
    ($values:expr, $v:ident => $body:expr) => {
        match $values {
            Values::F32($v) => $body,
            Values::F64($v) => $body,
            Values::I64($v) => $body,
            Values::U64($v) => $body,
        }
    };
}

impl Stored {
    /// The tensor of this shape.
    ///
    /// # Panics
    /// If there are not as many values as the shape has elements.
    #[track_caller]
    pub fn new(shape: &[usize], values: Values) -> Self {
        let len = each!(&values, v => v.len());
        assert_eq!(shape.iter().product::<usize>(), len, "Stored::new: shape {shape:?} for {len} values");
        Stored { shape: shape.to_vec(), values }
    }

    /// A copy of a tensor, in its own order; U32 becomes I64.
    pub fn from_tensor(tensor: &Tensor) -> Self {
        let values = match tensor.dtype() {
            DType::F32 => Values::F32(tensor.to_vec()),
            DType::Bf16 => Values::F32(tensor.cast(DType::F32).to_vec()),
            DType::F64 => Values::F64(tensor.to_vec()),
            DType::U32 => Values::I64(tensor.to_vec::<u32>().into_iter().map(i64::from).collect()),
        };
        Stored::new(tensor.shape(), values)
    }

    /// A constant with these values; whole numbers become U32. `None` if one does not fit into U32,
    /// or the shape has too many axes.
    pub fn to_tensor(&self, device: &Device) -> Option<Tensor> {
        if self.shape.len() > tarrl_tensor::MAX_RANK {
            return None;
        }
        let shape = Shape::new(&self.shape);
        let whole = |values: Option<Vec<u32>>| values.map(|v| Tensor::new(device, shape, &v));
        match &self.values {
            Values::F32(v) => Some(Tensor::new(device, shape, v)),
            Values::F64(v) => Some(Tensor::new(device, shape, v)),
            Values::I64(v) => whole(v.iter().map(|&v| v.try_into().ok()).collect()),
            Values::U64(v) => whole(v.iter().map(|&v| v.try_into().ok()).collect()),
        }
    }

    /// The extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, row-major.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The number of values.
    pub(super) fn count(&self) -> u64 {
        each!(&self.values, v => v.len() as u64)
    }

    /// Type and shape, such as `F32[64, 3, 3, 3]`. Part of the checksum.
    pub(super) fn describe(&self) -> String {
        let kind = match self.values {
            Values::F32(_) => "F32",
            Values::F64(_) => "F64",
            Values::I64(_) => "I64",
            Values::U64(_) => "U64",
        };
        format!("{kind}{:?}", self.shape)
    }

    pub(super) fn is_finite(&self) -> bool {
        match &self.values {
            Values::F32(v) => v.iter().all(|v| v.is_finite()),
            Values::F64(v) => v.iter().all(|v| v.is_finite()),
            Values::I64(_) | Values::U64(_) => true,
        }
    }

    /// The tensor of a parsed file.
    pub(super) fn from_view(name: &str, view: &TensorView<'_>) -> Result<Self, Fault> {
        let bytes = view.data();
        let values = match view.dtype() {
            Dtype::F32 => Values::F32(words(bytes, f32::from_le_bytes)),
            Dtype::F64 => Values::F64(words(bytes, f64::from_le_bytes)),
            Dtype::I64 => Values::I64(words(bytes, i64::from_le_bytes)),
            Dtype::U64 => Values::U64(words(bytes, u64::from_le_bytes)),
            other => return Err(Fault::UnknownType { name: name.into(), found: format!("{other:?}") }),
        };
        Ok(Stored { shape: view.shape().to_vec(), values })
    }
}

/// What safetensors writes; little-endian.
impl View for &Stored {
    fn dtype(&self) -> Dtype {
        match self.values {
            Values::F32(_) => Dtype::F32,
            Values::F64(_) => Dtype::F64,
            Values::I64(_) => Dtype::I64,
            Values::U64(_) => Dtype::U64,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        each!(&self.values, v => v.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes())));
        bytes.into()
    }

    fn data_len(&self) -> usize {
        each!(&self.values, v => size_of_val(v.as_slice()))
    }
}

fn words<const N: usize, T>(bytes: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    let (words, _) = bytes.as_chunks::<N>();
    words.iter().map(|&word| read(word)).collect()
}
