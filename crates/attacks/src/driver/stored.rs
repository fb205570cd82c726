//! Stored attacks: everything that a run needs to be resumed later and to end with the same bits.
//!
//! Numbers are stored as their bits, so that any format keeps them, NaN and infinities included.

use crate::driver::bits;
use crate::driver::outcome::{AttackStatus, Closest, Flags, Origin, Outcome, Stage};
use crate::driver::state_error::{StateError, demand};
use serde::{Deserialize, Serialize};
use tarrl_tensor::{DType, Device, Tensor};

/// A constant tensor of floating point numbers as bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    shape: Vec<usize>,
    bits: Bits,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Bits {
    F32(Vec<u32>),
    F64(Vec<u64>),
}

impl Stored {
    /// The values of `x`.
    pub fn of(x: &Tensor) -> Self {
        let bits = match x.dtype() {
            DType::F64 => Bits::F64(x.to_vec::<f64>().iter().map(|v| v.to_bits()).collect()),
            _ => Bits::F32(x.to_vec::<f32>().iter().map(|v| v.to_bits()).collect()),
        };
        Stored { shape: x.shape().to_vec(), bits }
    }

    /// The tensor again, of `rows` samples of the type and shape of those of `like`.
    pub(crate) fn restore(&self, like: &Tensor, rows: usize) -> Result<Tensor, StateError> {
        let (shape, values) = (
            like.shape().with(0, rows),
            match &self.bits {
                Bits::F32(v) => (DType::F32, v.len()),
                Bits::F64(v) => (DType::F64, v.len()),
            },
        );
        demand(self.shape[..] == shape[..], "a tensor is of another shape")?;
        demand(values == (like.dtype(), shape.len()), "a tensor is of another type or length")?;
        Ok(self.on(like.device()))
    }

    /// The tensor again.
    ///
    /// # Panics
    /// If the shape does not fit the values, as in no state that this crate wrote.
    pub fn on(&self, device: &Device) -> Tensor {
        let shape = &self.shape[..];
        match &self.bits {
            Bits::F32(v) => {
                Tensor::new(device, shape, &v.iter().map(|&v| f32::from_bits(v)).collect::<Vec<_>>())
            }
            Bits::F64(v) => {
                Tensor::new(device, shape, &v.iter().map(|&v| f64::from_bits(v)).collect::<Vec<_>>())
            }
        }
    }
}

/// An [`AttackDriver`](crate::AttackDriver) stored: the active samples, what was found, what it cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DriverState {
    pub(crate) active: Vec<usize>,
    pub(crate) stage: Stage,
    pub(crate) outcome: StoredOutcome,
}

/// An [`Outcome`] stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredOutcome {
    best: Stored,
    #[serde(with = "bits")]
    value: Vec<f64>,
    closest: Option<StoredClosest>,
    origin: Vec<Option<Origin>>,
    forward: Vec<u32>,
    backward: Vec<u32>,
    flags: Vec<Flags>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoredClosest {
    point: Stored,
    success: Vec<bool>,
    #[serde(with = "bits")]
    margin: Vec<f64>,
}

impl StoredOutcome {
    /// The facts of `found`.
    pub(crate) fn of(found: &Outcome) -> Self {
        let closest = found.closest.as_ref().map(|closest| StoredClosest {
            point: Stored::of(&closest.point),
            success: closest.verdict.iter().map(|v| v.success).collect(),
            margin: closest.verdict.iter().map(|v| v.margin).collect(),
        });
        StoredOutcome {
            best: Stored::of(&found.best),
            value: found.value.clone(),
            closest,
            origin: found.origin.clone(),
            forward: found.forward.clone(),
            backward: found.backward.clone(),
            flags: found.flags.clone(),
        }
    }

    /// The outcome again, of samples like those of `center`.
    pub(crate) fn restore(&self, center: &Tensor) -> Result<Outcome, StateError> {
        let n = center.shape()[0];
        let lengths =
            [self.value.len(), self.origin.len(), self.forward.len(), self.backward.len(), self.flags.len()];
        demand(lengths == [n; 5], "what was found is not of as many samples")?;
        let closest = match &self.closest {
            None => None,
            Some(closest) => {
                demand(
                    closest.success.len() == n && closest.margin.len() == n,
                    "the verdicts are not of as many samples",
                )?;
                let verdicts = closest.success.iter().zip(&closest.margin);
                Some(Closest {
                    point: closest.point.restore(center, n)?,
                    verdict: verdicts.map(|(&success, &margin)| AttackStatus { success, margin }).collect(),
                })
            }
        };
        Ok(Outcome {
            best: self.best.restore(center, n)?,
            value: self.value.clone(),
            closest,
            origin: self.origin.clone(),
            forward: self.forward.clone(),
            backward: self.backward.clone(),
            flags: self.flags.clone(),
        })
    }
}
