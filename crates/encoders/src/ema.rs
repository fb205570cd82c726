//! Exponential moving average (EMA) of a network: momentum encoders.

use crate::module::{Module, Role};
use serde::{Deserialize, Serialize};
use tarrl_tensor::{DType, Tensor, math};

/// How [`ema`] treats the buffers of the target network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Buffers {
    /// It keeps its own: it runs in train mode and updates them from its own forward passes, as MoCo, BYOL and DINO do.
    #[default]
    Own,
    /// They are copied from the online network.
    Copy,
    /// They are averaged as parameters are; counts are copied.
    Average,
}

/// Configuration of [`ema`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ema {
    /// m: the weight of the past.
    pub momentum: f64,
    /// How running statistics are treated.
    pub buffers: Buffers,
}

/// m = 0.99, usual for short trainings, and buffers of its own.
impl Default for Ema {
    fn default() -> Self {
        Ema { momentum: 0.99, buffers: Buffers::Own }
    }
}

/// `θ ← m·θ + (1 − m)·θ_online` for every parameter of `target`, as constants, and what is asked for the buffers (He et al.
/// 2020, equation 2). `m = 1` changes nothing, `m = 0` copies.
///
/// Every tensor of `target` must be one of `online`, under the same name; what `online` has beside them, such as a
/// predictor, is not followed.
///
/// # Panics
/// If `target` has a tensor that `online` has not, or of another shape.
#[track_caller]
pub fn ema(target: &mut dyn Module, online: &dyn Module, config: &Ema) {
    let mut values = std::collections::HashMap::new();
    online.visit(&mut |name, _, tensor| {
        values.insert(name.to_string(), tensor.detach());
    });
    target.visit_mut(&mut |name, role, tensor| {
        let Some(value) = values.get(name).filter(|value| value.shape() == tensor.shape()) else {
            panic!("ema: the online network has no {name} of {:?}", tensor.shape());
        };
        *tensor = match (role, config.buffers) {
            (Role::Buffer, Buffers::Own) => tensor.detach(),
            (Role::Buffer, Buffers::Copy) => value.clone(),
            _ if tensor.dtype() == DType::U32 => value.clone(),
            _ => mixed(tensor, value, config.momentum),
        };
    });
}

fn mixed(past: &Tensor, new: &Tensor, momentum: f64) -> Tensor {
    if momentum == 1.0 {
        return past.detach();
    }
    &past.detach().mul_scalar(momentum) + &new.mul_scalar(1.0 - momentum)
}

/// The momentum of step `t` of `T`, rising by half a cosine from `start` to 1: `1 − (1 − start)(cos(π t/T) + 1)/2` (Grill
/// et al. 2020, section 3.3). T counts steps of the optimizer.
pub fn cosine_momentum(start: f64, step: u64, steps: u64) -> f64 {
    let share = step as f64 / steps.max(1) as f64;
    1.0 - (1.0 - start) * (math::cos(std::f64::consts::PI * share) + 1.0) / 2.0
}
