//! Parameter builder: dotted names and keyed initial values of layers.

use ndarray::{ArrayD, IxDyn};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::{Normal, Uniform};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tarrl_tensor::{Array, DType, Device, Key, Shape, Tensor, cpu};

/// Creates the parameters of a layer: its dotted name, its device, and the key that initial values are drawn from.
///
/// Values depend on the seed and the name alone, so adding a layer does not change the others.
#[derive(Clone, Debug)]
pub struct ParamBuilder {
    device: Device,
    key: Key,
    name: String,
    /// Where the number of values goes, of a builder that only counts.
    counted: Option<Arc<AtomicU64>>,
    /// Whether every value is zero, to be replaced.
    zero: bool,
}

impl ParamBuilder {
    /// The builder of the root of a network, without a name.
    pub fn new(device: &Device, key: Key) -> Self {
        ParamBuilder { device: device.clone(), key, name: String::new(), counted: None, zero: false }
    }

    /// The number of values of all tensors that `build` asks for, none of which is allocated.
    pub(crate) fn count_values<T>(build: impl FnOnce(&ParamBuilder) -> T) -> u64 {
        let count = Arc::new(AtomicU64::new(0));
        build(&ParamBuilder { counted: Some(count.clone()), ..ParamBuilder::new(&cpu(), Key::new(0)) });
        count.load(Ordering::Relaxed)
    }

    /// The builder of a network whose values are all zero, to be replaced.
    pub(crate) fn zeros(device: &Device) -> Self {
        ParamBuilder { zero: true, ..ParamBuilder::new(device, Key::new(0)) }
    }

    /// The builder of the child called `part`.
    pub fn at(&self, part: &str) -> Self {
        let name = if self.name.is_empty() { part.to_string() } else { format!("{}.{part}", self.name) };
        ParamBuilder { name, ..self.clone() }
    }

    /// The dotted name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Normal numbers of mean zero for the tensor `part` of this layer.
    ///
    /// # Panics
    /// If `deviation` is negative or not finite.
    pub fn normal(&self, part: &str, shape: &[usize], deviation: f32) -> Tensor {
        assert!(
            deviation >= 0.0 && deviation.is_finite(),
            "ParamBuilder::normal: {}.{part} has a standard deviation of {deviation}; it must be finite and not negative",
            self.name
        );
        if let Some(stand_in) = self.count_only(shape).or_else(|| self.zeroed(shape)) {
            return stand_in;
        }
        let law = Normal::new(0.0f32, deviation).expect("the standard deviation was checked");
        let mut stream = self.at(part).stream();
        self.upload(&ArrayD::random_using(IxDyn(shape), law, &mut stream))
    }

    /// Numbers uniform in `[−limit, limit)` for the tensor `part` of this layer.
    ///
    /// # Panics
    /// If `limit` is not positive and finite.
    pub fn uniform(&self, part: &str, shape: &[usize], limit: f32) -> Tensor {
        let law = Uniform::new(-limit, limit).expect("a limit is finite and positive");
        if let Some(stand_in) = self.count_only(shape).or_else(|| self.zeroed(shape)) {
            return stand_in;
        }
        let mut stream = self.at(part).stream();
        self.upload(&ArrayD::random_using(IxDyn(shape), law, &mut stream))
    }

    /// `(extent)`: one value.
    pub fn full(&self, extent: usize, value: f64) -> Tensor {
        self.count_only(&[extent]).unwrap_or_else(|| Tensor::full(&self.device, [extent], DType::F32, value))
    }

    /// A count of zero.
    pub fn zero_count(&self) -> Tensor {
        Tensor::full(&self.device, [], DType::U32, 0.0)
    }

    /// Counts the values of `shape` and gives a tensor of one element instead; `None` from a builder that allocates.
    fn count_only(&self, shape: &[usize]) -> Option<Tensor> {
        let values = shape.iter().fold(1u64, |product, &extent| product.saturating_mul(extent as u64));
        self.counted.as_ref()?.fetch_add(values, Ordering::Relaxed);
        Some(Tensor::full(&self.device, Shape::new(&vec![1; shape.len()]), DType::F32, 0.0))
    }

    fn zeroed(&self, shape: &[usize]) -> Option<Tensor> {
        self.zero.then(|| Tensor::full(&self.device, Shape::new(shape), DType::F32, 0.0))
    }

    fn stream(&self) -> tarrl_tensor::Stream {
        self.key.fold(self.name.as_str()).stream()
    }

    fn upload(&self, values: &ArrayD<f32>) -> Tensor {
        Array::from_ndarray(&self.device, values).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_and_infinite_standard_deviations_are_refused() {
        let params = ParamBuilder::new(&cpu(), Key::new(0)).at("conv1");
        assert_eq!(params.normal("weight", &[2], 0.0).to_vec::<f32>(), [0.0; 2]);
        for deviation in [-0.02, f32::NAN, f32::INFINITY] {
            let draw = std::panic::AssertUnwindSafe(|| params.normal("weight", &[2], deviation));
            let panic = std::panic::catch_unwind(draw).unwrap_err();
            let message = panic.downcast_ref::<String>().unwrap();
            assert!(message.contains("conv1.weight has a standard deviation of"), "{message}");
        }
    }

    #[test]
    fn values_are_counted_without_being_allocated() {
        let count = ParamBuilder::count_values(|params| {
            params.normal("a", &[1 << 30, 1 << 30], 1.0);
            params.uniform("b", &[3, 5], 1.0);
            params.full(7, 1.0)
        });
        assert_eq!(count, (1 << 60) + 22);
    }
}
