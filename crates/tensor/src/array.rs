//! Arrays: immutable, contiguous, row-major values on a device.

use crate::backend::Device;
use crate::shape::Shape;
use ndarray::{ArrayD, ArrayRef, Dimension, IxDyn};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// The type of the elements of an [`Array`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit floats: everything that is trained.
    F32,
    /// 64-bit floats: gradient checks and certificates, through the same code.
    F64,
    /// Indices and labels.
    U32,
    /// Floats of 16 bits, the upper half of an F32: storage on a GPU, whose arithmetic is in F32. There is no such type on
    /// the host: [`Array::cast`] makes them, and they come to the host as F32, exactly.
    Bf16,
}

impl DType {
    /// The type of sums, statistics and parameters that go with values of this type: F32 with Bf16, else itself.
    pub fn wide(self) -> DType {
        if self == DType::Bf16 { DType::F32 } else { self }
    }
}

/// Memory that one backend owns and only it can read.
pub type Buffer = Arc<dyn Any + Send + Sync>;

/// An immutable, contiguous, row-major array. Cloning shares the memory.
#[derive(Clone)]
pub struct Array {
    buffer: Buffer,
    shape: Shape,
    dtype: DType,
    device: Device,
}

impl Array {
    /// The array with `shape` and the elements of `data`, row-major, on `device`.
    ///
    /// # Panics
    /// If `data` has not as many elements as `shape`.
    #[track_caller]
    pub fn new<E: Element>(device: &Device, shape: impl Into<Shape>, data: &[E]) -> Self {
        let shape = shape.into();
        assert_eq!(
            shape.len(),
            data.len(),
            "Array::new: shape {shape:?} does not fit {} elements",
            data.len()
        );
        Array::wrap(device, shape, E::DTYPE, device.upload(E::host(data)))
    }

    /// As [`new`](Array::new), for numbers that follow from shapes and settings alone, such as the places of a diagonal: a
    /// device brings them from the host once, and work that reads them can be captured ([`CapturedFn`](crate::CapturedFn)).
    ///
    /// # Panics
    /// As [`new`](Array::new).
    #[track_caller]
    pub fn table<E: Element>(device: &Device, shape: impl Into<Shape>, data: &[E]) -> Self {
        let shape = shape.into();
        assert_eq!(
            shape.len(),
            data.len(),
            "Array::table: shape {shape:?} does not fit {} elements",
            data.len()
        );
        Array::wrap(device, shape, E::DTYPE, device.table(E::host(data)))
    }

    /// An array filled with one value.
    pub fn full(device: &Device, shape: impl Into<Shape>, dtype: DType, value: f64) -> Self {
        let shape = shape.into();
        Array::wrap(device, shape, dtype, device.full(dtype, shape.len(), value))
    }

    /// A copy of an ndarray of any layout.
    pub fn from_ndarray<E: Element, D: Dimension>(device: &Device, source: &ArrayRef<E, D>) -> Self {
        let shape = Shape::new(source.shape());
        match source.as_slice() {
            Some(data) => Array::new(device, shape, data),
            None => Array::new(device, shape, &source.iter().copied().collect::<Vec<E>>()),
        }
    }

    /// A copy on the host as an ndarray.
    #[track_caller]
    pub fn to_ndarray<E: Element>(&self) -> ArrayD<E> {
        ArrayD::from_shape_vec(IxDyn(&self.shape), self.to_vec())
            .expect("the shape of an array fits its elements")
    }

    /// A copy of the elements, row-major.
    ///
    /// # Panics
    /// If `E` is not the element type.
    #[track_caller]
    pub fn to_vec<E: Element>(&self) -> Vec<E> {
        self.expect_type::<E>("Array::to_vec");
        E::from_host(self.device.download(self))
    }

    /// The elements copied to `out` in place of what it held, row-major: no allocation if it has the room.
    ///
    /// # Panics
    /// If `E` is not the element type.
    #[track_caller]
    pub fn read_into<E: Element>(&self, out: &mut Vec<E>) {
        self.expect_type::<E>("Array::read_into");
        out.clear();
        self.device.peek(self, &mut |values| out.extend_from_slice(E::of_host(values)));
    }

    #[track_caller]
    fn expect_type<E: Element>(&self, op: &str) {
        let (own, asked) = (self.dtype, E::DTYPE);
        assert_eq!(own, asked, "{op}: the array has another element type (cast it first)");
    }

    /// The elements as f64, whatever their type.
    pub fn to_f64(&self) -> Vec<f64> {
        match self.device.download(self) {
            HostVec::F32(v) => v.into_iter().map(f64::from).collect(),
            HostVec::F64(v) => v,
            HostVec::U32(v) => v.into_iter().map(f64::from).collect(),
        }
    }

    /// The only element, as f64.
    ///
    /// # Panics
    /// If there is not exactly one.
    #[track_caller]
    pub fn item(&self) -> f64 {
        assert_eq!(self.len(), 1, "Array::item: shape {:?} is not a single element", self.shape);
        self.to_f64()[0]
    }

    /// The same elements under another shape.
    #[track_caller]
    pub fn reshape(&self, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.len(), self.len(), "reshape: {:?} does not fit {shape:?}", self.shape);
        Array { shape, ..self.clone() }
    }

    /// The same values in another element type.
    pub fn cast(&self, dtype: DType) -> Self {
        if dtype == self.dtype {
            return self.clone();
        }
        Array::wrap(&self.device, self.shape, dtype, self.device.cast(self, dtype))
    }

    /// The array that a backend's kernel has filled.
    pub fn wrap(device: &Device, shape: impl Into<Shape>, dtype: DType, buffer: Buffer) -> Self {
        Array { buffer, shape: shape.into(), dtype, device: device.clone() }
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device that owns the memory.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The backend's memory, for the backend to downcast.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.shape.is_empty()
    }
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.to_f64();
        let shown = &values[..values.len().min(8)];
        let more = if values.len() > 8 { ", …" } else { "" };
        write!(f, "{:?}{:?} {shown:?}{more} on {}", self.dtype, self.shape, self.device.name())
    }
}

/// Elements on their way to a device.
#[derive(Clone, Copy, Debug)]
pub enum HostSlice<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// 64-bit floats.
    F64(&'a [f64]),
    /// Indices.
    U32(&'a [u32]),
}

/// Elements that came from a device.
#[derive(Clone, Debug)]
pub enum HostVec {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// Indices.
    U32(Vec<u32>),
}

/// A host type that an [`Array`] can hold.
pub trait Element: Copy + Send + Sync + 'static {
    /// Its tag.
    const DTYPE: DType;
    /// A slice of it, tagged.
    fn host(data: &[Self]) -> HostSlice<'_>;
    /// A vector of it, untagged; the tag has been checked.
    fn from_host(data: HostVec) -> Vec<Self>;
    /// A slice of it, untagged; the tag has been checked.
    fn of_host(data: HostSlice<'_>) -> &[Self];
}

macro_rules! element {
    ($t:ty, $tag:ident) => {
        impl Element for $t {
            const DTYPE: DType = DType::$tag;
            fn host(data: &[Self]) -> HostSlice<'_> {
                HostSlice::$tag(data)
            }
            fn from_host(data: HostVec) -> Vec<Self> {
                match data {
                    HostVec::$tag(v) => v,
                    _ => unreachable!("a backend returned another element type than the array has"),
                }
            }
            fn of_host(data: HostSlice<'_>) -> &[Self] {
                match data {
                    HostSlice::$tag(v) => v,
                    _ => unreachable!("a backend shows another element type than the array has"),
                }
            }
        }
    };
}
element!(f32, F32);
element!(f64, F64);
element!(u32, U32);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::cpu;

    #[test]
    fn read_into_reuses_the_capacity_of_the_vector() {
        let x = Array::new(&cpu(), [2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
        let mut out = Vec::with_capacity(9);
        out.push(7.0f32);
        let room = out.as_ptr();
        x.read_into(&mut out);
        assert_eq!((out.as_slice(), out.as_ptr()), (&[1.0f32, 2.0, 3.0, 4.0][..], room));
    }

    #[test]
    #[should_panic(expected = "another element type")]
    fn reading_another_type_panics() {
        Array::new(&cpu(), [1], &[1u32]).read_into(&mut Vec::<f32>::new());
    }
}
