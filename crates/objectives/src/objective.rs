//! The choice of a loss, as data.

use crate::embeddings::Embeddings;
use crate::needs::{Fault, Needs};
use crate::{BarlowTwins, Center, Dino, MocoV2, Queue, Sides, SupCon, SwAv, VicReg, WMse};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use tarrl_tensor::{Device, Key, Tensor};

/// A loss, as method files name it: `{ kind = "nt-xent", temperature = 0.5 }`. What a file leaves out has the published
/// value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Objective {
    /// [`nt_xent`](crate::nt_xent()), the mean over all pairs of views.
    NtXent {
        /// τ: divides the cosine similarities; positive and finite. 0.5 when absent, SimCLR's on CIFAR-10.
        #[serde(default = "half", deserialize_with = "positive")]
        temperature: f64,
    },
    /// [`nt_xent_together`](crate::nt_xent_together), all views against all.
    NtXentTogether {
        /// τ; 0.5 when absent, RoCL's.
        #[serde(default = "half")]
        temperature: f64,
        /// Which factor of a similarity receives gradient; both when absent.
        #[serde(default)]
        sides: Sides,
    },
    /// [`moco_v2`](crate::moco_v2), the sum of both directions of every pair of views, over the number of pairs.
    MocoV2(MocoV2),
    /// [`moco_v3`](crate::moco_v3), the sum of both directions of every pair of views, over the number of pairs.
    MocoV3 {
        /// τ; 1 when absent, as for ResNets.
        #[serde(default = "one")]
        temperature: f64,
    },
    /// [`byol`](crate::byol), the sum of both directions of every pair of views, over the number of pairs.
    Byol {},
    /// [`simsiam`](crate::simsiam), the mean of both directions of every pair of views.
    #[serde(rename = "simsiam")]
    SimSiam {},
    /// [`barlow_twins`](crate::barlow_twins()), the mean over all pairs of views.
    BarlowTwins(BarlowTwins),
    /// [`vicreg`](crate::vicreg()), the mean over all pairs of views.
    #[serde(rename = "vicreg")]
    VicReg(VicReg),
    /// [`w_mse`](crate::w_mse()), all views together.
    WMse(WMse),
    /// [`swav`](crate::swav()) with codes of [`sinkhorn`](crate::sinkhorn), the mean over all pairs of views. The
    /// network gives scores: products of unit embeddings with unit prototypes.
    #[serde(rename = "swav")]
    SwAv(SwAv),
    /// [`dino`](crate::dino()) with targets of [`Center::targets`] from the first views.
    Dino(Dino),
    /// [`sup_con`](crate::sup_con()), all views together.
    #[serde(rename = "supcon")]
    SupCon(SupCon),
    /// [`cross_entropy`](crate::cross_entropy) of logits, the mean over views.
    CrossEntropy {},
    /// [`trades`](crate::trades) of two views, the clean and the attacked one.
    Trades {
        /// β: the weight of the divergence; 6 when absent.
        #[serde(default = "six")]
        beta: f64,
    },
}

impl Objective {
    /// The scalar loss of a step.
    ///
    /// # Panics
    /// If something that [`needs`](Objective::needs) names is missing, and as the loss that it is.
    #[track_caller]
    pub fn of(&self, step: &Embeddings<'_>) -> Tensor {
        crate::compute::of(self, step)
    }

    /// As [`of`](Objective::of) of two views `(n, d)` and nothing else.
    ///
    /// # Panics
    /// As [`of`](Objective::of).
    #[track_caller]
    pub fn loss(&self, z1: &Tensor, z2: &Tensor) -> Tensor {
        self.of(&Embeddings { online: &[z1.clone(), z2.clone()], ..Embeddings::default() })
    }

    /// What it needs beside the embeddings of the views.
    pub fn needs(&self) -> Needs {
        let nothing = Needs::default();
        let momentum = Needs { targets: true, momentum: true, ..nothing };
        match *self {
            Objective::NtXent { .. }
            | Objective::NtXentTogether { .. }
            | Objective::BarlowTwins(_)
            | Objective::VicReg(_) => nothing,
            Objective::WMse(_) => Needs { key: true, ..nothing },
            Objective::MocoV2(MocoV2 { queue, .. }) => Needs { queue: Some(queue), ..momentum },
            Objective::MocoV3 { .. } | Objective::Byol {} => Needs { predictor: true, ..momentum },
            Objective::SimSiam {} => Needs { predictor: true, targets: true, ..nothing },
            Objective::SwAv(SwAv { prototypes, .. }) => Needs { prototypes: Some(prototypes), ..nothing },
            Objective::Dino(Dino { prototypes, .. }) => {
                Needs { center: true, prototypes: Some(prototypes), ..momentum }
            }
            Objective::SupCon(_) | Objective::CrossEntropy {} | Objective::Trades { .. } => {
                Needs { labels: true, ..nothing }
            }
        }
    }

    /// Whether its numbers make sense.
    ///
    /// # Errors
    /// Names the first that does not, and what would.
    pub fn check(&self) -> Result<(), String> {
        let mut fault = Fault::default();
        match *self {
            Objective::NtXent { temperature }
            | Objective::NtXentTogether { temperature, .. }
            | Objective::MocoV3 { temperature } => fault.positive("temperature", temperature),
            Objective::MocoV2(MocoV2 { temperature, queue }) => {
                fault.positive("temperature", temperature);
                fault.count("queue", queue);
            }
            Objective::Byol {} | Objective::SimSiam {} | Objective::CrossEntropy {} => {}
            Objective::BarlowTwins(BarlowTwins { off_diagonal, scale }) => {
                fault.weight("off_diagonal", off_diagonal);
                fault.positive("scale", scale);
            }
            Objective::VicReg(VicReg { invariance, variance, covariance }) => {
                fault.weight("invariance", invariance);
                fault.weight("variance", variance);
                fault.weight("covariance", covariance);
            }
            Objective::WMse(WMse { block, epsilon, cuts }) => {
                fault.count("cuts", cuts);
                fault.share("epsilon", epsilon);
                fault.at_least_two("block", block);
            }
            Objective::SwAv(SwAv { temperature, epsilon, iterations, prototypes }) => {
                fault.positive("temperature", temperature);
                fault.positive("epsilon", epsilon);
                fault.count("iterations", iterations);
                fault.at_least_two("prototypes", prototypes);
            }
            Objective::Dino(dino) => {
                let Dino { temperature, teacher_temperature, center_momentum, global, prototypes } = dino;
                fault.positive("temperature", temperature);
                fault.positive("teacher_temperature", teacher_temperature);
                fault.share("center_momentum", center_momentum);
                fault.count("global", global);
                fault.at_least_two("prototypes", prototypes);
            }
            Objective::SupCon(SupCon { temperature, base_temperature }) => {
                fault.positive("temperature", temperature);
                fault.weight("base_temperature", base_temperature);
            }
            Objective::Trades { beta } => fault.weight("beta", beta),
        }
        fault.found()
    }

    /// The queue that it starts with, of keys of dimension `dim`.
    pub fn queue(&self, device: &Device, key: Key, dim: usize) -> Option<Queue> {
        self.needs().queue.map(|length| Queue::new(device, key, [length, dim]))
    }

    /// The center that it starts with.
    pub fn center(&self, device: &Device) -> Option<Center> {
        let needs = self.needs();
        needs.prototypes.filter(|_| needs.center).map(|classes| Center::new(device, classes))
    }
}

/// NT-Xent with the temperature that SimCLR uses on CIFAR-10.
impl Default for Objective {
    fn default() -> Self {
        Objective::NtXent { temperature: half() }
    }
}

fn half() -> f64 {
    0.5
}

fn one() -> f64 {
    1.0
}

fn six() -> f64 {
    6.0
}

fn positive<'de, D: Deserializer<'de>>(source: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(source)?;
    if value > 0.0 && value.is_finite() {
        return Ok(value);
    }
    Err(D::Error::custom(format!("the temperature is {value}; it divides similarities and must be positive")))
}

#[cfg(test)]
mod tests;
