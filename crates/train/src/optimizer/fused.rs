//! Fused update of all parameters in one call of the device, where it has one.

use super::config::{LarsForm, OptimizerConfig};
use super::slot::Slot;
use tarrl_tensor::extensions::{LarsRatio, ParamUpdate, UpdateRule};
use tarrl_tensor::{Array, Tensor, math};

/// The new parameters, or `None` on a device without such a call.
pub(super) fn step(
    config: &OptimizerConfig,
    slots: &mut [Slot],
    values: &[Tensor],
    gradients: &[Tensor],
    (lr, steps): (f64, u64),
) -> Option<Vec<Tensor>> {
    let (rule, decay) = match config {
        OptimizerConfig::Sgd(c) => {
            (UpdateRule::Sgd { lr, momentum: c.momentum, nesterov: c.nesterov }, c.weight_decay)
        }
        OptimizerConfig::AdamW(c) => {
            let [first, second] = c.betas;
            let [c1, c2] = c.betas.map(|beta| 1.0 - math::powf(beta, steps as f64));
            (
                UpdateRule::Adam { first, second, eps: c.eps, lr, rate: lr / c1, scale: 1.0 / c2 },
                c.weight_decay,
            )
        }
        OptimizerConfig::Lars(c) => {
            let ratio = match c.form {
                LarsForm::Clipped => LarsRatio::Clipped,
                LarsForm::Apex => LarsRatio::Apex,
                LarsForm::Official => LarsRatio::Official,
            };
            (UpdateRule::Lars { lr, momentum: c.momentum, trust: c.trust, ratio }, c.weight_decay)
        }
    };
    let memory: Vec<Vec<Array>> =
        slots.iter().map(|slot| slot.memory.iter().map(|m| m.array().clone()).collect()).collect();
    let parameters: Vec<ParamUpdate<'_>> = (slots.iter().zip(&memory))
        .zip(values.iter().zip(gradients))
        .map(|((slot, memory), (p, g))| ParamUpdate {
            value: p.array(),
            gradient: g.array(),
            memory,
            decay: if slot.decays { decay } else { 0.0 },
            adapts: slot.decays,
        })
        .collect();
    let device = values.first()?.device().clone();
    let updated = device.optimizer()?.update(rule, &parameters)?;
    let mut moved = Vec::with_capacity(values.len());
    for ((slot, p), new) in slots.iter_mut().zip(values).zip(updated) {
        let wrap = |buffer| Tensor::from(Array::wrap(&device, *p.array().shape(), p.array().dtype(), buffer));
        slot.memory = new.memory.into_iter().map(wrap).collect();
        moved.push(wrap(new.value));
    }
    Some(moved)
}
