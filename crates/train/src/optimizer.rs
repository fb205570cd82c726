//! Optimizers: SGD, LARS and AdamW, with their state.

mod config;
mod fused;
mod rules;
mod slot;

pub use config::{AdamW, Lars, LarsForm, OptimizerConfig, OptimizerError, Sgd};
use slot::Slot;
use tarrl_tensor::{DType, Shape, Tensor};

/// A stored state that an optimizer cannot be restored from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A tensor is not there.
    #[error("the optimizer's {name} is missing")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape.
    #[error("the optimizer's {name} has shape {found:?}, not {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// The stored shape.
        found: Box<Shape>,
        /// The shape of the parameter.
        expected: Box<Shape>,
    },
    /// A tensor has another type.
    #[error("the optimizer's {name} is of type {found:?}, not {expected:?}")]
    Type {
        /// Its name.
        name: String,
        /// The stored type.
        found: DType,
        /// The type of the parameter.
        expected: DType,
    },
    /// A mean of squares is negative.
    #[error("the optimizer's {name}, a mean of squares, has a negative value")]
    NegativeSquare {
        /// Its name.
        name: String,
    },
}

/// A parameter as an optimizer knows it.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name, unique among those of the optimizer.
    pub name: String,
    /// Whether weight decay and LARS apply: yes for weights, no for biases and normalizations.
    pub decays: bool,
    /// Its first value.
    pub value: Tensor,
}

/// An optimizer with its memory: one or two tensors of each parameter's shape and type.
#[derive(Clone, Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    slots: Vec<Slot>,
    steps: u64,
}

impl Optimizer {
    /// An optimizer that has made no step.
    pub fn new(config: &OptimizerConfig, parameters: &[Parameter]) -> Self {
        let slot = |p: &Parameter| Slot {
            name: p.name.clone(),
            decays: p.decays,
            memory: config.memory().iter().map(|_| p.value.zeros_like()).collect(),
        };
        Optimizer { config: *config, slots: parameters.iter().map(slot).collect(), steps: 0 }
    }

    /// The parameters after one step at learning rate `lr`, in the order of [`Optimizer::new`].
    ///
    /// # Panics
    /// If values, gradients and the parameters of `new` differ in number or shape.
    #[track_caller]
    pub fn step(&mut self, values: &[Tensor], gradients: &[Tensor], lr: f64) -> Vec<Tensor> {
        assert!(
            values.len() == self.slots.len() && gradients.len() == self.slots.len(),
            "Optimizer::step: {} values and {} gradients for {} parameters",
            values.len(),
            gradients.len(),
            self.slots.len()
        );
        self.steps += 1;
        for ((slot, p), g) in self.slots.iter().zip(values).zip(gradients) {
            let shape = slot.memory[0].shape();
            assert!(
                p.shape() == shape && g.shape() == shape,
                "Optimizer::step: {} of {shape:?} got value {:?} and gradient {:?}",
                slot.name,
                p.shape(),
                g.shape()
            );
        }
        if let Some(moved) = fused::step(&self.config, &mut self.slots, values, gradients, (lr, self.steps)) {
            return moved;
        }
        let mut moved = Vec::with_capacity(values.len());
        for ((slot, p), g) in self.slots.iter_mut().zip(values).zip(gradients) {
            let (p, g, memory) = (p.detach(), g.detach(), &mut slot.memory);
            moved.push(match &self.config {
                OptimizerConfig::Sgd(c) => rules::sgd(c.decaying(slot.decays), &p, &g, &mut memory[0], lr),
                OptimizerConfig::Lars(c) if slot.decays => rules::lars(c, &p, &g, &mut memory[0], lr),
                OptimizerConfig::Lars(c) => {
                    let plain = Sgd { momentum: c.momentum, nesterov: false, weight_decay: 0.0, lr };
                    rules::sgd(plain, &p, &g, &mut memory[0], lr)
                }
                OptimizerConfig::AdamW(c) => {
                    rules::adamw(c.decaying(slot.decays), &p, &g, memory, (lr, self.steps))
                }
            });
        }
        moved
    }

    /// The memory, each tensor under `<parameter>.<what>`.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let entries = |slot: &Slot| -> Vec<(String, Tensor)> {
            let names = self.config.memory().iter().map(|what| format!("{}.{what}", slot.name));
            names.zip(slot.memory.iter().cloned()).collect()
        };
        self.slots.iter().flat_map(entries).collect()
    }

    /// Restores what [`Optimizer::state`] returned after `steps` steps.
    ///
    /// # Errors
    /// The first tensor that is missing, has another shape or type, or is a mean of squares with a negative value. Nothing
    /// is changed then.
    pub fn restore(
        &mut self,
        steps: u64,
        state: &dyn Fn(&str) -> Option<Tensor>,
    ) -> Result<(), RestoreError> {
        let mut found = Vec::new();
        for (name, old) in self.state() {
            let Some(new) = state(&name) else { return Err(RestoreError::Missing { name }) };
            if new.shape() != old.shape() {
                let (found, expected) = (Box::new(*new.shape()), Box::new(*old.shape()));
                return Err(RestoreError::Shape { name, found, expected });
            }
            if new.dtype() != old.dtype() {
                return Err(RestoreError::Type { name, found: new.dtype(), expected: old.dtype() });
            }
            if name.ends_with(".second") && new.array().to_f64().iter().any(|&value| value < 0.0) {
                return Err(RestoreError::NegativeSquare { name });
            }
            found.push(new);
        }
        let mut found = found.into_iter();
        for slot in &mut self.slots {
            slot.memory = found.by_ref().take(slot.memory.len()).collect();
        }
        self.steps = steps;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
