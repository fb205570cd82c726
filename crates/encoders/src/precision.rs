//! The type that an encoder computes in.

use serde::{Deserialize, Serialize};
use tarrl_tensor::{DType, Device, Tensor};

/// What the values between the pixels and the representation are stored as.
///
/// In bf16 the encoder casts normalized pixels when they come in and the last map before its mean over positions, or the
/// representation where there is no such mean; what goes in and comes out is f32. Parameters are f32 and are cast where
/// they are used, so that their gradients come back in f32; statistics, scales and shifts of normalizations stay f32.
/// Losses, attacks and their radii never see bf16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precision {
    /// The type of the images, f32 or f64.
    #[default]
    #[serde(rename = "f32")]
    F32,
    /// bf16 with sums in f32, on GPUs.
    #[serde(rename = "bf16")]
    Bf16,
}

impl Precision {
    /// Whether a device computes in it.
    ///
    /// # Errors
    /// The device, and what to do.
    pub fn check(self, device: &Device) -> Result<(), String> {
        if self == Precision::Bf16 && !device.computes(DType::Bf16) {
            let name = device.name();
            return Err(format!(
                "precision = \"bf16\" needs an NVIDIA GPU of compute capability 8.0 or newer (A100, H100), not {name}; \
                 set precision = \"f32\" or compute on such a GPU"
            ));
        }
        Ok(())
    }

    /// Whether it is what a file that says nothing means.
    pub fn is_f32(&self) -> bool {
        *self == Precision::F32
    }

    /// Values on their way in, or parameters.
    pub(crate) fn of(self, x: &Tensor) -> Tensor {
        match self {
            Precision::F32 => x.clone(),
            Precision::Bf16 => x.cast(DType::Bf16),
        }
    }
}

/// The mean over all positions, of f32 at least.
#[track_caller]
pub(crate) fn pooled(x: &Tensor) -> Tensor {
    x.cast(x.dtype().wide()).global_avg_pool()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_refused_with_a_remedy() {
        let device = tarrl_tensor::cpu();
        assert_eq!(Precision::F32.check(&device), Ok(()));
        let error = Precision::Bf16.check(&device).unwrap_err();
        assert!(error.contains("cpu") && error.contains("precision = \"f32\""), "{error}");
    }

    #[test]
    fn names_in_files_are_those_of_the_types() {
        for (precision, name) in [(Precision::F32, "\"f32\""), (Precision::Bf16, "\"bf16\"")] {
            assert_eq!(serde_json::to_string(&precision).unwrap(), name);
            assert_eq!(serde_json::from_str::<Precision>(name).unwrap(), precision);
        }
    }
}
