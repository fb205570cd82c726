//! A step of robust self-supervised training, composed of the parts that training uses.

use tarrl_bound::{Divergence, Regularizer, RegularizerConfig};
use tarrl_encoders::{
    BATCH_NORM_MOMENTUM, Encoder, ForwardContext, Module, Projector, ProjectorConfig, Role, parameters,
    set_parameters, track,
};
use tarrl_objectives::nt_xent;
use tarrl_tensor::{Device, Key, Tensor, backward};
use tarrl_train::{Optimizer, OptimizerConfig, Parameter, Sgd};

/// τ of NT-Xent.
const TEMPERATURE: f64 = 0.5;

/// Small enough that hundreds of steps on noise stay finite.
const LEARNING_RATE: f64 = 1e-3;

/// An encoder with a projector in training. See [`Activity::SslStep`](crate::Activity::SslStep).
pub(crate) struct Ssl {
    encoder: Encoder,
    projector: Projector,
    regularizer: Regularizer,
    optimizer: Optimizer,
    key: Key,
    steps: u64,
}

impl Ssl {
    pub(crate) fn new(encoder: Encoder, device: &Device, key: Key) -> Self {
        let config = ProjectorConfig { hidden: encoder.dim(), ..ProjectorConfig::default() };
        let projector = Projector::new(&config, encoder.dim(), device, key.fold("projector"));
        let optimizer = OptimizerConfig::Sgd(Sgd { lr: LEARNING_RATE, ..Sgd::default() });
        let optimizer = Optimizer::new(&optimizer, &described(&[&encoder, &projector]));
        let regularizer = RegularizerConfig { divergence: Divergence::SquaredL2, ..Default::default() };
        let regularizer = Regularizer::new(regularizer).expect("the default attack is a valid one");
        Ssl { encoder, projector, regularizer, optimizer, key: key.fold("attack"), steps: 0 }
    }

    /// One step on two views `(n, h, w, c)` of the same images: the loss and the new parameters.
    pub(crate) fn step(&mut self, views: &[Tensor; 2]) -> Vec<Tensor> {
        track(&mut self.encoder);
        track(&mut self.projector);
        let mut pass = ForwardContext::train();
        let loss = self.loss(views, &mut pass);
        let value = loss.detach();
        let weights = [parameters(&self.encoder), parameters(&self.projector)].concat();
        let gradients = backward(loss, &weights.iter().collect::<Vec<_>>());
        let mut results = self.optimizer.step(&weights, &gradients, LEARNING_RATE);
        let (encoder, projector) = results.split_at(parameters(&self.encoder).len());
        set_parameters(&mut self.encoder, encoder);
        set_parameters(&mut self.projector, projector);
        self.encoder.update_running_stats(&pass, BATCH_NORM_MOMENTUM);
        self.projector.update_running_stats(&pass, BATCH_NORM_MOMENTUM);
        self.steps += 1;
        results.push(value);
        results
    }

    /// NT-Xent of the views plus the regularizer of the first.
    fn loss(&self, views: &[Tensor; 2], pass: &mut ForwardContext) -> Tensor {
        let n = views[0].shape()[0];
        let h = self.encoder.forward(&Tensor::concat(&[&views[0], &views[1]], 0), pass); // (2n, d)
        let z = self.projector.forward(&h, pass); // (2n, out)
        let objective = nt_xent(&z.slice(0, 0, n), &z.slice(0, n, n), TEMPERATURE);
        let attacked = self.attacked(&views[0]);
        let h_attacked = self.encoder.forward(&attacked, &mut ForwardContext::train()); // (n, d)
        let displacement = self.regularizer.value(&h.slice(0, 0, n), &h_attacked);
        &objective + &(&displacement * self.regularizer.weight())
    }

    /// The images around `x` whose representations the encoder in eval mode moves furthest.
    fn attacked(&self, x: &Tensor) -> Tensor {
        let frozen = self.encoder.inference();
        let keys: Vec<Key> = (0..x.shape()[0]).map(|image| self.key.fold(self.steps).fold(image)).collect();
        self.regularizer.attack(&|u| frozen.forward(u), x, 1.0, &keys)
    }
}

/// What an optimizer has to know of the parameters of some modules, in their order.
fn described(modules: &[&dyn Module]) -> Vec<Parameter> {
    let mut found = Vec::new();
    for module in modules {
        module.visit(&mut |name, role, value| {
            if role.is_parameter() {
                let decays = role == Role::Weight;
                found.push(Parameter { name: name.to_owned(), decays, value: value.detach() });
            }
        });
    }
    found
}
