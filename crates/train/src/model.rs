//! The trained model: encoder, projector, predictor and classifiers.

use crate::optimizer::Parameter;
use crate::train_config::TrainConfig;
use tarrl_encoders::{
    Encoder, EncoderConfig, ForwardContext, Linear, LinearBias, Module, ParamBuilder, Predictor,
    PredictorConfig, Projector, ProjectorConfig, Role,
};
use tarrl_tensor::{Device, Key, Tensor};

/// The encoder, which is the result of training, and the heads, which are discarded.
///
/// The names of tensors are those of the parts, which share none.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// From images to representations h.
    pub(crate) encoder: Encoder,
    /// From representations to what the objective compares.
    pub(crate) heads: Heads,
}

/// The networks between representations and objective, those that the method needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heads {
    /// From representations to embeddings z, or to scores of prototypes.
    pub(crate) projector: Option<Projector>,
    /// From embeddings to predictions of the other view's.
    pub(crate) predictor: Option<Predictor>,
    /// From representations to logits of classes: of a labeled reference first, then of each set of pseudo-labels.
    pub(crate) classifiers: Vec<Classifier>,
}

/// A linear map from representations to logits.
#[derive(Clone, Debug)]
pub(crate) struct Classifier(Linear);

/// The outputs of encoder and heads for a batch.
#[derive(Clone, Debug)]
pub(crate) struct NetworkOutput {
    /// `(n, d)`: representations.
    pub(crate) features: Tensor,
    /// `(n, out)`: what the objective compares: predictions, projections or logits.
    pub(crate) embeddings: Option<Tensor>,
    /// `(n, out)`: outputs of the projector, the targets where there is no momentum encoder.
    pub(crate) projections: Option<Tensor>,
}

impl Model {
    /// A model with the initial values of the training's seed, whose classifiers tell `classes` apart.
    pub(crate) fn new(config: &TrainConfig, classes: &[usize], device: &Device) -> Self {
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
        let builder = ParamBuilder::new(device, key.fold("classifier")).at("classifier");
        let linear = |(i, &k): (usize, &usize)| {
            Classifier(Linear::new(&builder.at(&i.to_string()), [dim, k], LinearBias::With))
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

    /// The outputs of encoder and heads for images `(n, h, w, c)`.
    #[track_caller]
    pub(crate) fn embed(&self, x: &Tensor, pass: &mut ForwardContext) -> NetworkOutput {
        self.heads.embed(self.encoder.forward(x, pass), pass)
    }
}

/// The projector of a distillation of projections `(n, dim)`: constants, drawn from the training's seed.
pub(crate) fn fixed_projector(config: &TrainConfig, dim: usize, device: &Device) -> Option<Projector> {
    config.method.projected()?;
    let key = Key::new(config.seed).fold("model").fold("distillation projector");
    Some(Projector::new(&config.method.projector, dim, device, key))
}

impl Heads {
    /// The outputs of the objective's heads for representations `(n, d)`.
    #[track_caller]
    pub(crate) fn embed(&self, h: Tensor, pass: &mut ForwardContext) -> NetworkOutput {
        let Some(projector) = &self.projector else {
            let embeddings = self.classifiers.first().map(|classifier| classifier.logits(&h));
            return NetworkOutput { features: h, embeddings, projections: None };
        };
        let projections = projector.forward(&h, pass);
        let embeddings = match &self.predictor {
            Some(predictor) => predictor.forward(&projections, pass),
            None => projections.clone(),
        };
        NetworkOutput { features: h, embeddings: Some(embeddings), projections: Some(projections) }
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

impl NetworkOutput {
    /// The rows of view `view` of several of `n` rows each.
    pub(crate) fn part(&self, view: usize, n: usize) -> NetworkOutput {
        let cut = |x: &Tensor| x.slice(0, view * n, n);
        NetworkOutput {
            features: cut(&self.features),
            embeddings: self.embeddings.as_ref().map(cut),
            projections: self.projections.as_ref().map(cut),
        }
    }

    /// The same as constants.
    pub(crate) fn detach(&self) -> NetworkOutput {
        let still = |x: &Tensor| x.detach();
        NetworkOutput {
            features: still(&self.features),
            embeddings: self.embeddings.as_ref().map(still),
            projections: self.projections.as_ref().map(still),
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
