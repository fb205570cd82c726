//! Encoder and projector as one network.

use crate::optimizer::Parameter;
use crate::train_config::TrainConfig;
use tarrl_encoders::{Encoder, Module, Projector, Role};
use tarrl_tensor::{Device, Key, Tensor};

/// What is trained: the encoder that is kept and the projector that is thrown away.
///
/// Names of tensors are those of the parts, which have none in common.
#[derive(Clone, Debug)]
pub struct Model {
    /// From images to representations h.
    pub encoder: Encoder,
    /// From representations to embeddings z.
    pub projector: Projector,
}

impl Model {
    /// A model with the initial values of the training's seed.
    pub fn new(config: &TrainConfig, device: &Device) -> Self {
        let key = Key::new(config.seed).fold("model");
        let encoder = Encoder::new(&config.encoder, device, key.fold("encoder"));
        let projector =
            Projector::new(&config.method.projector, encoder.dim(), device, key.fold("projector"));
        Model { encoder, projector }
    }

    /// What an optimiser has to know of every parameter, in the order of [`Module::visit`].
    pub(crate) fn described(&self) -> Vec<Parameter> {
        let mut found = Vec::new();
        self.visit(&mut |name, role, value| {
            if role.is_parameter() {
                let decays = role == Role::Weight;
                found.push(Parameter { name: name.to_string(), decays, value: value.detach() });
            }
        });
        found
    }
}

impl Module for Model {
    fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        self.encoder.visit(f);
        self.projector.visit(f);
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        self.encoder.visit_mut(f);
        self.projector.visit_mut(f);
    }
}
