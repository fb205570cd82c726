//! Everything with parameters that a training moves, as one network.

use crate::optimizer::Parameter;
use crate::train_config::TrainConfig;
use tarrl_encoders::{
    Encoder, EncoderConfig, ForwardContext, Linear, LinearBias, Module, ParamBuilder, Predictor,
    PredictorConfig, Projector, ProjectorConfig, Role,
};
use tarrl_tensor::{Device, Key, Tensor};

/// What is trained: the encoder that is kept and the heads that are thrown away.
///
/// Names of tensors are those of the parts, which have none in common.
#[derive(Clone, Debug)]
pub struct Model {
    /// From images to representations h.
    pub encoder: Encoder,
    /// From representations to what the objective compares.
    pub heads: Heads,
}

/// The networks between representations and objective, those that the method needs.
#[derive(Clone, Debug, Default)]
pub struct Heads {
    /// From representations to embeddings z, or to scores of prototypes.
    pub projector: Option<Projector>,
    /// From embeddings to predictions of the other view's.
    pub predictor: Option<Predictor>,
    /// From representations to logits of classes: of a labeled reference first, then of each set of pseudo-labels.
    pub classifiers: Vec<Classifier>,
}

/// A linear map from representations to logits.
#[derive(Clone, Debug)]
pub struct Classifier(Linear);

/// What the networks say of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Embedded {
    /// `(n, d)`: representations.
    pub(crate) h: Tensor,
    /// `(n, out)`: what the objective compares.
    pub(crate) online: Option<Tensor>,
    /// `(n, out)`: what it compares with.
    pub(crate) target: Option<Tensor>,
}

impl Model {
    /// A model with the initial values of the training's seed, whose classifiers tell `classes` apart.
    pub fn new(config: &TrainConfig, classes: &[usize], device: &Device) -> Self {
        let key = Key::new(config.seed).fold("model");
        let method = &config.method;
        let norm = method.network.batch_norm;
        let encoder = EncoderConfig { norm, ..config.encoder.clone() };
        let encoder = Encoder::new(&encoder, device, key.fold("encoder")).with_precision(config.precision);
        let dim = encoder.dim();
        let projector = ProjectorConfig {
            prototypes: method.needs().prototypes.unwrap_or(0),
            norm,
            ..method.projector.clone()
        };
        let predictor = method.network.predictor.as_ref().map(|predictor| {
            let config = PredictorConfig { norm, ..predictor.clone() };
            Predictor::new(&config, projector.dim(), device, key.fold("predictor"))
        });
        let projector = (method.compares_embeddings())
            .then(|| Projector::new(&projector, dim, device, key.fold("projector")));
        let site = ParamBuilder::new(device, key.fold("classifier")).at("classifier");
        let linear = |(i, &k): (usize, &usize)| {
            Classifier(Linear::new(&site.at(&i.to_string()), [dim, k], LinearBias::With))
        };
        let classifiers = classes.iter().enumerate().map(linear).collect();
        Model { encoder, heads: Heads { projector, predictor, classifiers } }
    }

    /// What an optimizer has to know of every parameter, in the order of [`Module::visit`].
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

    /// Images `(n, h, w, c)` through everything.
    #[track_caller]
    pub(crate) fn embed(&self, x: &Tensor, pass: &mut ForwardContext) -> Embedded {
        self.heads.embed(self.encoder.forward(x, pass), pass)
    }
}

impl Heads {
    /// Representations `(n, d)` through the heads that the objective looks at.
    #[track_caller]
    pub(crate) fn embed(&self, h: Tensor, pass: &mut ForwardContext) -> Embedded {
        let Some(projector) = &self.projector else {
            let online = self.classifiers.first().map(|classifier| classifier.logits(&h));
            return Embedded { h, online, target: None };
        };
        let target = projector.forward(&h, pass);
        let online = match &self.predictor {
            Some(predictor) => predictor.forward(&target, pass),
            None => target.clone(),
        };
        Embedded { h, online: Some(online), target: Some(target) }
    }
}

impl Classifier {
    /// Logits `(n, k)` of representations `(n, d)`.
    #[track_caller]
    pub(crate) fn logits(&self, h: &Tensor) -> Tensor {
        self.0.forward(h)
    }

    /// The map.
    pub(crate) fn linear(&self) -> &Linear {
        &self.0
    }
}

impl Embedded {
    /// The rows of view `view` of several of `n` rows each.
    pub(crate) fn part(&self, view: usize, n: usize) -> Embedded {
        let cut = |x: &Tensor| x.slice(0, view * n, n);
        Embedded {
            h: cut(&self.h),
            online: self.online.as_ref().map(cut),
            target: self.target.as_ref().map(cut),
        }
    }

    /// The same as constants.
    pub(crate) fn detach(&self) -> Embedded {
        let still = |x: &Tensor| x.detach();
        Embedded {
            h: still(&self.h),
            online: self.online.as_ref().map(still),
            target: self.target.as_ref().map(still),
        }
    }
}

impl Module for Model {
    fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        self.encoder.visit(f);
        self.heads.visit(f);
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        self.encoder.visit_mut(f);
        self.heads.visit_mut(f);
    }
}

impl Module for Heads {
    fn visit(&self, f: &mut dyn FnMut(&str, Role, &Tensor)) {
        if let Some(projector) = &self.projector {
            projector.visit(f);
        }
        if let Some(predictor) = &self.predictor {
            predictor.visit(f);
        }
        self.classifiers.iter().for_each(|Classifier(linear)| linear.visit(f));
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, Role, &mut Tensor)) {
        if let Some(projector) = &mut self.projector {
            projector.visit_mut(f);
        }
        if let Some(predictor) = &mut self.predictor {
            predictor.visit_mut(f);
        }
        self.classifiers.iter_mut().for_each(|Classifier(linear)| linear.visit_mut(f));
    }
}
