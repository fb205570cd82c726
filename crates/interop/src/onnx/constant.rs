//! Tensors that are known before an image comes: weights, and the whole numbers of shape arithmetic.

use super::error::OnnxError;
use super::proto::{TensorProto, element};
use super::size::Size;
use std::sync::Arc;

/// Elements of a constant at most.
const MOST_ELEMENTS: usize = 1 << 29;

/// Elements that folding may make at most, in all: what a few bytes of a file could ask for.
pub(crate) const MOST_FOLDED: usize = 1 << 22;

/// A constant tensor, row-major in the order of ONNX.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Constant {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Float(Arc<Vec<f32>>),
    /// Whole numbers, and truth values as 0 and 1.
    Int(Arc<Vec<Size>>),
}

/// Reads the bytes of an external tensor: location, offset, length if declared, and as many as its shape takes.
pub(crate) type External<'a> = dyn Fn(&str, u64, usize) -> Result<Vec<u8>, String> + 'a;

/// The number of elements of a shape, if it is not too large.
pub(crate) fn count(shape: &[usize]) -> Option<usize> {
    let product = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent))?;
    (product <= MOST_ELEMENTS).then_some(product)
}

impl Constant {
    pub(crate) fn floats(shape: Vec<usize>, data: Vec<f32>) -> Self {
        Constant { shape, data: Data::Float(Arc::new(data)) }
    }

    pub(crate) fn ints(shape: Vec<usize>, data: Vec<Size>) -> Self {
        Constant { shape, data: Data::Int(Arc::new(data)) }
    }

    /// The tensor of a file, and whether its numbers were rounded to f32.
    pub(crate) fn decode(
        tensor: &TensorProto<'_>,
        external: &External<'_>,
    ) -> Result<(Self, bool), OnnxError> {
        let fault = |reason: String| OnnxError::Tensor {
            name: if tensor.name.is_empty() { "without a name".into() } else { tensor.name.clone() },
            reason,
        };
        let extents = tensor.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect::<Option<Vec<_>>>();
        let shape = extents.ok_or_else(|| fault(format!("an extent of {:?} is negative", tensor.dims)))?;
        let many = || fault(format!("{shape:?} are more elements than are read"));
        let len = count(&shape).ok_or_else(many)?;
        let (width, name) = match tensor.element {
            element::F32 => (4, "f32"),
            element::F64 => (8, "f64"),
            element::F16 => (2, "f16"),
            element::BF16 => (2, "bf16"),
            element::I64 => (8, "i64"),
            element::I32 => (4, "i32"),
            element::I16 => (2, "i16"),
            element::I8 => (1, "i8"),
            element::U8 => (1, "u8"),
            element::BOOL => (1, "bool"),
            other => {
                let text = "is not read; export the model in f32";
                return Err(fault(format!("its element type has the number {other}, which {text}")));
            }
        };
        let bytes = len * width;
        let owned;
        let raw = if tensor.is_external {
            owned = external_bytes(tensor, bytes, external).map_err(fault)?;
            Some(&owned[..])
        } else {
            tensor.raw
        };
        let is_float = matches!(tensor.element, element::F32 | element::F64 | element::F16 | element::BF16);
        let stored = match raw {
            Some(raw) => raw.len() / width,
            None if tensor.element == element::F32 => tensor.floats.len(),
            None if tensor.element == element::F64 => tensor.doubles.len(),
            None => tensor.ints.len(),
        };
        if stored != len || raw.is_some_and(|raw| raw.len() != bytes) {
            return Err(fault(format!("{shape:?} of {name} takes {len} elements, but {stored} are stored")));
        }
        let mut rounded = false;
        let constant = if is_float {
            let data: Vec<f32> = match (raw, tensor.element) {
                (Some(raw), element::F32) => words(raw, f32::from_le_bytes),
                (Some(raw), element::F64) => {
                    words(raw, |word| to_f32(f64::from_le_bytes(word), &mut rounded))
                }
                (Some(raw), kind) => words(raw, |word| half(u16::from_le_bytes(word), kind)),
                (None, element::F32) => tensor.floats.clone(),
                (None, element::F64) => tensor.doubles.iter().map(|&v| to_f32(v, &mut rounded)).collect(),
                (None, kind) => tensor.ints.iter().map(|&bits| half(bits as u16, kind)).collect(),
            };
            if let Some(at) = data.iter().position(|v| v.is_nan()) {
                return Err(fault(format!(
                    "element {at} is NaN: the training diverged; export a good checkpoint"
                )));
            }
            Constant::floats(shape, data)
        } else {
            let data: Vec<i64> = match (raw, tensor.element) {
                (None, _) => tensor.ints.clone(),
                (Some(raw), element::I64) => words(raw, i64::from_le_bytes),
                (Some(raw), element::I32) => words(raw, |word| i32::from_le_bytes(word).into()),
                (Some(raw), element::I16) => words(raw, |word| i16::from_le_bytes(word).into()),
                (Some(raw), element::I8) => words(raw, |word| i8::from_le_bytes(word).into()),
                (Some(raw), _) => words(raw, |[byte]| byte.into()),
            };
            if data.len() > MOST_FOLDED {
                return Err(many());
            }
            Constant::ints(shape, data.into_iter().map(Size::of).collect())
        };
        Ok((constant, rounded))
    }

    pub(crate) fn len(&self) -> usize {
        match &self.data {
            Data::Float(data) => data.len(),
            Data::Int(data) => data.len(),
        }
    }

    pub(crate) fn as_floats(&self) -> Option<&[f32]> {
        match &self.data {
            Data::Float(data) => Some(data),
            Data::Int(_) => None,
        }
    }

    pub(crate) fn as_sizes(&self) -> Option<&[Size]> {
        match &self.data {
            Data::Int(data) => Some(data),
            Data::Float(_) => None,
        }
    }

    /// The whole numbers, if none depends on the batch.
    pub(crate) fn as_ints(&self) -> Option<Vec<i64>> {
        self.as_sizes()?.iter().map(|size| size.known()).collect()
    }

    /// The only element.
    pub(crate) fn scalar(&self) -> Option<f32> {
        match self.as_floats()? {
            [value] => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn reshape(&self, shape: Vec<usize>) -> Option<Self> {
        (count(&shape)? == self.len()).then(|| Constant { shape, data: self.data.clone() })
    }

    pub(crate) fn permute(&self, order: &[usize]) -> Self {
        let old = strides(&self.shape);
        let shape = order.iter().map(|&axis| self.shape[axis]).collect();
        self.view(shape, &order.iter().map(|&axis| old[axis]).collect::<Vec<_>>(), 0)
    }

    /// Repeated along axes of extent 1 and new outer axes; `None` if it does not broadcast to that shape.
    pub(crate) fn broadcast_to(&self, shape: &[usize]) -> Option<Self> {
        if self.shape == shape {
            return Some(self.clone());
        }
        let lead = shape.len().checked_sub(self.shape.len())?;
        if count(shape)? > MOST_FOLDED {
            return None;
        }
        let old = strides(&self.shape);
        let mut steps = vec![0; shape.len()];
        for (axis, &extent) in self.shape.iter().enumerate() {
            match extent {
                extent if extent == shape[lead + axis] => steps[lead + axis] = old[axis],
                1 => {}
                _ => return None,
            }
        }
        Some(self.view(shape.to_vec(), &steps, 0))
    }

    /// `len` elements of one axis from `start` on, every `step`-th. The caller has checked that they are there.
    pub(crate) fn slice(&self, axis: usize, start: usize, len: usize, step: usize) -> Self {
        let mut steps = strides(&self.shape);
        let offset = start * steps[axis];
        steps[axis] *= step;
        let mut shape = self.shape.clone();
        shape[axis] = len;
        self.view(shape, &steps, offset)
    }

    /// The parts, of one kind and fitting shapes, one after another along one axis.
    pub(crate) fn concat(parts: &[&Constant], axis: usize) -> Option<Self> {
        let first = parts.first()?;
        let mut shape = first.shape.clone();
        let fits = |part: &&Constant| {
            let (mut a, mut b) = (part.shape.clone(), shape.clone());
            axis < a.len() && a.len() == b.len() && {
                (a[axis], b[axis]) = (0, 0);
                a == b
            }
        };
        if !parts.iter().all(fits) {
            return None;
        }
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        let outer: usize = shape[..axis].iter().product();
        let inner = |part: &Constant| part.len() / outer.max(1);
        if parts.iter().all(|part| part.as_floats().is_some()) {
            let rows = (0..outer).flat_map(|i| parts.iter().map(move |part| (i, part)));
            let data = rows.flat_map(|(i, part)| {
                let n = inner(part);
                part.as_floats().unwrap_or(&[])[i * n..(i + 1) * n].iter().copied()
            });
            return Some(Constant::floats(shape.clone(), data.collect()));
        }
        let rows = (0..outer).flat_map(|i| parts.iter().map(move |part| (i, part)));
        let mut data = Vec::new();
        for (i, part) in rows {
            let n = inner(part);
            data.extend_from_slice(&part.as_sizes()?[i * n..(i + 1) * n]);
        }
        Some(Constant::ints(shape.clone(), data))
    }

    fn view(&self, shape: Vec<usize>, steps: &[usize], offset: usize) -> Self {
        let data = match &self.data {
            Data::Float(data) => Data::Float(Arc::new(strided(data, &shape, steps, offset))),
            Data::Int(data) => Data::Int(Arc::new(strided(data, &shape, steps, offset))),
        };
        Constant { shape, data }
    }
}

pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut steps = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        steps[axis - 1] = steps[axis] * shape[axis];
    }
    steps
}

/// The elements at `offset + Σ iₐ·steps[a]`, row-major in `shape`.
pub(crate) fn strided<T: Copy>(data: &[T], shape: &[usize], steps: &[usize], offset: usize) -> Vec<T> {
    let len: usize = shape.iter().product();
    let mut out = Vec::with_capacity(len);
    let (mut index, mut at) = (vec![0; shape.len()], offset);
    for _ in 0..len {
        out.push(data[at]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += steps[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= steps[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    out
}

fn external_bytes(
    tensor: &TensorProto<'_>,
    bytes: usize,
    external: &External<'_>,
) -> Result<Vec<u8>, String> {
    let entry = |key: &str| tensor.external.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
    let location = entry("location").ok_or("it names no file that holds it")?;
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => {
            text.parse::<u64>().map(Some).map_err(|_| format!("its {key} {text:?} is no whole number"))
        }
    };
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    match length {
        Some(length) if length != bytes as u64 => {
            Err(format!("its shape takes {bytes} bytes, but {length} are declared"))
        }
        _ => external(location, offset, bytes),
    }
}

fn words<const N: usize, T>(bytes: &[u8], read: impl FnMut([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().copied().map(read).collect()
}

fn to_f32(value: f64, rounded: &mut bool) -> f32 {
    let single = value as f32;
    *rounded |= f64::from(single) != value && !value.is_nan();
    single
}

/// A float of 16 bits, exactly.
fn half(bits: u16, kind: i64) -> f32 {
    if kind == element::BF16 {
        return f32::from_bits(u32::from(bits) << 16);
    }
    let (sign, exponent, fraction) =
        (u32::from(bits >> 15), u32::from(bits >> 10 & 31), u32::from(bits & 1023));
    let magnitude = match exponent {
        // A multiple of the smallest one, 2⁻²⁴.
        0 => fraction as f32 * f32::from_bits((127 - 24) << 23),
        31 => f32::from_bits(0x7f80_0000 | fraction << 13),
        _ => f32::from_bits((exponent + 112) << 23 | fraction << 13),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str, _: u64, _: usize) -> Result<Vec<u8>, String> {
        Err("there is no file".into())
    }

    /// Values from IEEE 754-2019, table 3.5: 1, −2, the largest, the smallest normal and subnormal number, infinity.
    #[test]
    fn halves_are_exact() {
        let cases = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 2f32.powi(-14)),
            (0x0001, 5.960_464_5e-8),
            (0x7c00, f32::INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(half(bits, element::F16), value, "{bits:x}");
        }
        assert!(half(0x7e00, element::F16).is_nan());
        assert_eq!(half(0x3fc0, element::BF16), 1.5);
    }

    #[test]
    fn a_tensor_that_declares_more_than_it_holds_is_refused_before_anything_is_allocated() {
        let of = |dims: &[i64], element| TensorProto {
            dims: dims.into(),
            element,
            raw: Some(&[0; 8]),
            ..TensorProto::default()
        };
        for dims in [&[3][..], &[-1], &[1 << 40, 1 << 40], &[1 << 28], &[i64::MAX]] {
            assert!(Constant::decode(&of(dims, element::F32), &none).is_err(), "{dims:?}");
        }
        assert!(Constant::decode(&of(&[2], 8), &none).unwrap_err().to_string().contains("number 8"));
        let (two, rounded) = Constant::decode(&of(&[2, 1], element::F32), &none).unwrap();
        assert_eq!((two.shape, rounded), (vec![2, 1], false));
        let third = TensorProto {
            doubles: vec![1.0 / 3.0],
            dims: vec![1],
            element: element::F64,
            ..Default::default()
        };
        assert!(Constant::decode(&third, &none).unwrap().1);
    }

    #[test]
    fn views_are_those_of_the_rows() {
        let x = Constant::floats(vec![2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(x.permute(&[1, 0]).as_floats().unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(x.slice(1, 1, 1, 1).as_floats().unwrap(), [1.0, 4.0]);
        assert_eq!(x.slice(1, 0, 2, 2).as_floats().unwrap(), [0.0, 2.0, 3.0, 5.0]);
        let column = x.slice(1, 0, 1, 1);
        assert_eq!(column.broadcast_to(&[1, 2, 2]).unwrap().as_floats().unwrap(), [0.0, 0.0, 3.0, 3.0]);
        let both = Constant::concat(&[&x, &column], 1).unwrap();
        assert_eq!(both.as_floats().unwrap(), [0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 5.0, 3.0]);
        assert!(Constant::concat(&[&x, &column], 0).is_none() && x.broadcast_to(&[3, 2]).is_none());
    }
}
