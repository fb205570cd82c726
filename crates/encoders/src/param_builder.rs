//! Parameter builder: dotted names and keyed initial values of layers.

use ndarray::{ArrayD, IxDyn};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::{Normal, Uniform};
use tarrl_tensor::{Array, DType, Device, Key, Tensor};

/// Creates the parameters of a layer: its dotted name, its device, and the key that initial values are drawn from.
///
/// Values depend on the seed and the name alone, so adding a layer does not change the others.
#[derive(Clone, Debug)]
pub struct ParamBuilder {
    device: Device,
    key: Key,
    name: String,
}

impl ParamBuilder {
    /// The builder of the root of a network, without a name.
    pub fn new(device: &Device, key: Key) -> Self {
        ParamBuilder { device: device.clone(), key, name: String::new() }
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
        let law = Normal::new(0.0f32, deviation).expect("a standard deviation is finite and not negative");
        let mut stream = self.at(part).stream();
        self.upload(&ArrayD::random_using(IxDyn(shape), law, &mut stream))
    }

    /// Numbers uniform in `[−limit, limit)` for the tensor `part` of this layer.
    ///
    /// # Panics
    /// If `limit` is not positive and finite.
    pub fn uniform(&self, part: &str, shape: &[usize], limit: f32) -> Tensor {
        let law = Uniform::new(-limit, limit).expect("a limit is finite and positive");
        let mut stream = self.at(part).stream();
        self.upload(&ArrayD::random_using(IxDyn(shape), law, &mut stream))
    }

    /// `(extent)`: one value.
    pub fn full(&self, extent: usize, value: f64) -> Tensor {
        Tensor::full(&self.device, [extent], DType::F32, value)
    }

    /// A count of zero.
    pub fn zero_count(&self) -> Tensor {
        Tensor::full(&self.device, [], DType::U32, 0.0)
    }

    fn stream(&self) -> tarrl_tensor::Stream {
        self.key.fold(self.name.as_str()).stream()
    }

    fn upload(&self, values: &ArrayD<f32>) -> Tensor {
        Array::from_ndarray(&self.device, values).into()
    }
}
