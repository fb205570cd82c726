//! What an objective remembers from step to step, beside the networks.

use crate::train_config::TrainConfig;
use tarrl_objectives::{Center, Memory as _, Objective, Queue};
use tarrl_tensor::{Device, Key, Tensor};

/// The memories that the method's objective has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Keys of the momentum network.
    pub(crate) queue: Option<Queue>,
    /// The mean of the momentum network's scores.
    pub(crate) center: Option<Center>,
}

impl Memory {
    /// As before the first step.
    pub(crate) fn new(config: &TrainConfig, device: &Device) -> Self {
        let Some(objective) = &config.method.objective else { return Memory::default() };
        let key = Key::new(config.seed).fold("queue");
        Memory {
            queue: objective.queue(device, key, config.method.projector.out),
            center: objective.center(device),
        }
    }

    /// Takes in what the momentum network said of the views of a step, each `(n, out)`.
    pub(crate) fn remember(&mut self, objective: Option<&Objective>, targets: &[Tensor]) {
        if let Some(queue) = &mut self.queue {
            targets.iter().for_each(|keys| queue.push(keys));
        }
        if let (Some(center), Some(Objective::Dino(dino))) = (&mut self.center, objective) {
            let global = &targets[..dino.global.min(targets.len())];
            center.update(&global.iter().collect::<Vec<_>>(), dino.center_momentum);
        }
    }

    /// Everything under its name.
    pub(crate) fn state(&self) -> Vec<(String, Tensor)> {
        let queue = self.queue.iter().flat_map(|queue| named("queue", queue.state()));
        let center = self.center.iter().flat_map(|center| named("center", center.state()));
        queue.chain(center).collect()
    }

    /// Takes up what [`state`](Memory::state) returned.
    ///
    /// # Errors
    /// Names what is missing or has another shape.
    pub(crate) fn restore(&mut self, stored: &dyn Fn(&str) -> Option<Tensor>) -> Result<(), String> {
        if let Some(queue) = &mut self.queue {
            queue.restore(&|name| stored(&format!("queue.{name}")))?;
        }
        if let Some(center) = &mut self.center {
            center.restore(&|name| stored(&format!("center.{name}")))?;
        }
        Ok(())
    }
}

fn named(part: &'static str, state: Vec<(&'static str, Tensor)>) -> impl Iterator<Item = (String, Tensor)> {
    state.into_iter().map(move |(name, tensor)| (format!("{part}.{name}"), tensor))
}
