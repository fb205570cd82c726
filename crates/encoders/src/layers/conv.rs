//! Convolution without bias.

use crate::module::Role;
use crate::site::Site;
use std::sync::Arc;
use tarrl_tensor::{Conv, Tensor};

/// Convolution of `(n, h, w, inputs)` with a square kernel, without bias; batch norm follows.
#[derive(Clone, Debug)]
pub struct Conv2d {
    name: Arc<str>,
    weight: Tensor,
    conv: Conv,
}

/// The extents of a [`Conv2d`]. The padding is `kernel / 2`, so that stride 1 keeps the size of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvConfig {
    /// Channels that come in.
    pub inputs: usize,
    /// Channels that go out.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step between windows.
    pub stride: usize,
}

impl Conv2d {
    /// Weights from N(0, 2 / (kernel²·outputs)), the fan-out rule of He et al. (2015), eq. 14.
    pub fn new(site: &Site, config: ConvConfig) -> Self {
        let ConvConfig { inputs, outputs, kernel, stride } = config;
        let deviation = (2.0 / (kernel * kernel * outputs) as f64).sqrt() as f32;
        let weight = site.normal("weight", &[kernel, kernel, inputs, outputs], deviation);
        Conv2d { name: site.name().into(), weight, conv: Conv { stride, pad: kernel / 2, groups: 1 } }
    }

    /// From `(n, h, w, inputs)` to `(n, ⌈h / stride⌉, ⌈w / stride⌉, outputs)` for an odd kernel.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.conv2d(&self.weight, self.conv)
    }

    /// `(kernel, kernel, inputs, outputs)`: the weights.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// How the kernel walks.
    pub fn conv(&self) -> Conv {
        self.conv
    }

    /// Calls `f` with the weights.
    pub fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        f(&format!("{}.weight", self.name), Role::Weight, &self.weight);
    }

    /// Calls `f` with the weights, to replace them.
    pub fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        f(&format!("{}.weight", self.name), Role::Weight, &mut self.weight);
    }
}
