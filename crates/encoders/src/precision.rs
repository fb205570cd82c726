//! Compute precision of an encoder: f32, or bf16 on GPUs.

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

/// A precision that a device does not compute in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrecisionError {
    /// bf16 on a device without it.
    #[error(
        "precision = \"bf16\" needs an NVIDIA GPU of compute capability 8.0 or newer (A100, H100), not {device}; \
         set precision = \"f32\" or compute on such a GPU"
    )]
    NoBf16 {
        /// The name of the device.
        device: String,
    },
}

impl Precision {
    /// Whether a device computes in it.
    ///
    /// # Errors
    /// The device, and what to do.
    pub fn check(self, device: &Device) -> Result<(), PrecisionError> {
        if self == Precision::Bf16 && !device.computes(DType::Bf16) {
            return Err(PrecisionError::NoBf16 { device: device.name().to_string() });
        }
        Ok(())
    }

    /// Whether it is the default, which is not serialized.
    pub fn is_f32(&self) -> bool {
        *self == Precision::F32
    }

    /// A value in this precision.
    pub(crate) fn cast(self, x: &Tensor) -> Tensor {
        match self {
            Precision::F32 => x.clone(),
            Precision::Bf16 => x.cast(DType::Bf16),
        }
    }
}

/// The mean over all positions, of f32 at least.
#[track_caller]
pub(crate) fn global_average(x: &Tensor) -> Tensor {
    x.cast(x.dtype().wide()).global_avg_pool()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_refused_with_a_remedy() {
        let device = tarrl_tensor::cpu();
        assert_eq!(Precision::F32.check(&device), Ok(()));
        let error = Precision::Bf16.check(&device).unwrap_err().to_string();
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
