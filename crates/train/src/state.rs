//! Training state and its checkpoints.

use crate::ema_model::EmaModel;
use crate::error::TrainError;
use crate::model::Model;
use crate::optimizer::Optimizer;
use crate::pretraining::Pretraining;
use crate::train_config::TrainConfig;
use serde_json::Value;
use std::path::Path;
use tarrl_encoders::checkpoint::{self, Fault, Metadata, Stored, Tensors, Values};
use tarrl_encoders::{Encoder, Module, track};
use tarrl_objectives::LossState;
use tarrl_parallel::SumOrder;
use tarrl_tensor::{Device, Key};

/// The state of a training between two steps. Random numbers need none: their keys follow from seed and step.
pub(crate) struct State {
    /// Its parameters track gradients.
    pub(crate) model: Model,
    pub(crate) optimizer: Optimizer,
    /// The momentum encoder.
    pub(crate) ema: Option<EmaModel>,
    /// The average of the encoder over the steps, the result of a method that asks for it.
    pub(crate) average: Option<Encoder>,
    /// The state of the objective, if it has one.
    pub(crate) loss: Option<Box<dyn LossState>>,
    /// Finished steps.
    pub(crate) step: u64,
    /// Sums over the epoch so far.
    pub(crate) sums: Sums,
}

/// Sums over the steps of an epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    /// Of loss, objective, R and the certified term.
    pub(crate) losses: [f64; 4],
    /// Images forward and backward.
    pub(crate) passes: [u64; 2],
}

impl Sums {
    pub(crate) fn add(&mut self, losses: [f64; 4], passes: [u64; 2]) {
        self.losses.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
        self.passes.iter_mut().zip(passes).for_each(|(sum, images)| *sum = sum.saturating_add(images));
    }
}

/// What a checkpoint must agree with: the settings and the images, as text.
pub(crate) struct Identity(Metadata);

const OPTIMIZER: &str = "optimizer";
const EMA: &str = "momentum";
const AVERAGE: &str = "average";
const LOSS: &str = "memory";
const STEP: &str = "training.step";
const LOSSES: &str = "training.losses";
const PASSES: &str = "training.passes";

impl Identity {
    pub(crate) fn new(training: &Pretraining<'_>) -> Self {
        let Pretraining { config, data, teacher, start, .. } = *training;
        let settings = serde_json::to_string(config).expect("checked settings are JSON");
        let pixels = data.images.as_slice().expect("Dataset keeps standard layout");
        let images = format!("{:?} {}", data.images.dim(), blake3::hash(pixels).to_hex());
        let mut notes = Metadata::from([("settings".into(), settings), ("images".into(), images)]);
        if config.method.uses_labels() {
            let labels: Vec<u8> = data.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
            notes.insert("labels".into(), blake3::hash(&labels).to_hex().to_string());
        }
        for (name, encoder) in [("teacher", teacher), ("start", start)] {
            if let Some(encoder) = encoder {
                notes.insert(name.into(), fingerprint(encoder));
            }
        }
        // The bits then depend on what adds, which the settings do not say.
        if training.options.group.as_ref().is_some_and(|group| group.order() == SumOrder::Any) {
            notes.insert("sum".into(), "any order".into());
        }
        Identity(notes)
    }
}

impl Identity {
    /// A hash of it, to compare processes by.
    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        self.0.iter().flat_map(|(key, value)| [key, value]).for_each(|text| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        });
        *hasher.finalize().as_bytes()
    }
}

impl State {
    /// A hash of the step and of all parameters, to compare processes by.
    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.step.to_le_bytes());
        self.model.visit(&mut |_, _, tensor| {
            tensor.array().to_f64().iter().for_each(|value| {
                hasher.update(&value.to_le_bytes());
            });
        });
        *hasher.finalize().as_bytes()
    }

    /// The state before the first step.
    pub(crate) fn new(
        config: &TrainConfig,
        classes: usize,
        start: Option<&Encoder>,
        device: &Device,
    ) -> Self {
        let mut model = Model::new(config, &config.method.classifiers(classes), device);
        if let Some(start) = start {
            model.encoder.start_from(start);
        }
        let optimizer = Optimizer::new(&config.optimizer, &model.described());
        let ema = config.method.network.momentum.map(|_| EmaModel::new(&model));
        let average = config.method.network.average.map(|_| model.encoder.clone());
        track(&mut model);
        let (key, dim) = (Key::new(config.seed).fold("queue"), config.method.projector.out);
        let loss = config.method.loss().and_then(|loss| loss.initial_state(device, key, dim));
        State { model, optimizer, ema, average, loss, step: 0, sums: Sums::default() }
    }

    /// The encoder that the training keeps.
    pub(crate) fn result(&self) -> &Encoder {
        self.average.as_ref().unwrap_or(&self.model.encoder)
    }

    /// Replaces the state by that of a checkpoint of a training of `total` steps.
    pub(crate) fn load(
        &mut self,
        path: &Path,
        device: &Device,
        identity: &Identity,
        total: u64,
    ) -> Result<(), TrainError> {
        let resume = |source| TrainError::Resume { source };
        let (mut tensors, metadata) = checkpoint::load_tensors(path).map_err(resume)?;
        if let Some(cause) = difference(&metadata, &identity.0) {
            return Err(TrainError::Foreign { path: path.to_path_buf(), cause });
        }
        checkpoint::load_state_dict(&mut self.model, &mut tensors).map_err(|fault| resume(fault.at(path)))?;
        track(&mut self.model);
        let ema = self.ema.as_mut().map(|ema| (EMA, ema.module_mut()));
        let average = self.average.as_mut().map(|average| (AVERAGE, average as &mut dyn Module));
        for (name, module) in ema.into_iter().chain(average) {
            let prefix = format!("{name}.");
            let mut own: Tensors = tensors
                .iter()
                .filter_map(|(name, stored)| Some((name.strip_prefix(&prefix)?.to_string(), stored.clone())))
                .collect();
            checkpoint::load_state_dict(module, &mut own).map_err(|fault| resume(fault.at(path)))?;
        }
        let lacks = |what: String| resume(Fault::Missing(what).at(path));
        (self.step, self.sums) =
            position(&tensors).ok_or_else(|| lacks("the position in the training".into()))?;
        if self.step > total {
            let cause = format!("it is of step {} of a training of {total} steps", self.step);
            return Err(resume(Fault::Damaged(cause).at(path)));
        }
        let stored = |name: &str| tensors.get(&format!("{OPTIMIZER}.{name}"))?.to_tensor(device);
        self.optimizer.restore(self.step, &stored).map_err(|error| lacks(error.to_string()))?;
        let Some(loss) = &mut self.loss else { return Ok(()) };
        let prefix = format!("{LOSS}.{}", loss.name());
        let stored = |name: &str| tensors.get(&format!("{prefix}.{name}"))?.to_tensor(device);
        loss.restore(&stored).map_err(|error| lacks(format!("the objective's memory: {error}")))
    }

    /// Writes a checkpoint in place of the old one, which stays if that fails.
    pub(crate) fn save(&self, path: &Path, identity: &Identity) -> Result<(), TrainError> {
        let mut tensors: Tensors = checkpoint::state_dict(&self.model);
        for (name, tensor) in self.optimizer.state() {
            tensors.insert(format!("{OPTIMIZER}.{name}"), Stored::from_tensor(&tensor));
        }
        let ema = self.ema.as_ref().map(|ema| (EMA, ema.module()));
        let average = self.average.as_ref().map(|average| (AVERAGE, average as &dyn Module));
        for (prefix, module) in ema.into_iter().chain(average) {
            let state = checkpoint::state_dict(module);
            tensors.extend(state.into_iter().map(|(name, stored)| (format!("{prefix}.{name}"), stored)));
        }
        if let Some(loss) = &self.loss {
            for (name, tensor) in loss.tensors() {
                tensors.insert(format!("{LOSS}.{}.{name}", loss.name()), Stored::from_tensor(&tensor));
            }
        }
        tensors.insert(STEP.into(), Stored::new(&[1], Values::U64(vec![self.step])));
        tensors.insert(LOSSES.into(), Stored::new(&[4], Values::F64(self.sums.losses.to_vec())));
        tensors.insert(PASSES.into(), Stored::new(&[2], Values::U64(self.sums.passes.to_vec())));
        checkpoint::save_tensors(path, &tensors, &identity.0).map_err(TrainError::Save)
    }
}

/// A hash of all tensors of an encoder.
fn fingerprint(encoder: &Encoder) -> String {
    let mut hasher = blake3::Hasher::new();
    encoder.visit(&mut |name, _, tensor| {
        hasher.update(name.as_bytes());
        tensor.array().to_f64().iter().for_each(|value| {
            hasher.update(&value.to_le_bytes());
        });
    });
    hasher.finalize().to_hex().to_string()
}

/// The finished steps and the sums of the epoch, if they are there.
fn position(tensors: &Tensors) -> Option<(u64, Sums)> {
    let whole = |name: &str| match tensors.get(name)?.values() {
        Values::U64(values) => Some(values),
        _ => None,
    };
    let Values::F64(losses) = tensors.get(LOSSES)?.values() else { return None };
    let sums = Sums { losses: losses[..].try_into().ok()?, passes: whole(PASSES)?[..].try_into().ok()? };
    Some((*whole(STEP)?.first()?, sums))
}

/// The first thing in which a checkpoint's training differs from this one, in words.
fn difference(found: &Metadata, expected: &Metadata) -> Option<String> {
    if found == expected {
        return None;
    }
    let parse = |notes: &Metadata| notes.get("settings").and_then(|text| serde_json::from_str(text).ok());
    let Some(old) = parse(found) else { return Some("it is not the checkpoint of a training".into()) };
    let new: Value = parse(expected).unwrap_or_default();
    let cause = match first_difference("", &old, &new) {
        Some((key, old, new)) => format!("it was written with {key} = {old}, but now {key} is {new}"),
        None => {
            let other = |(key, _): &(&str, &'static str)| found.get(*key) != expected.get(*key);
            let parts = [
                ("images", "other images"),
                ("labels", "other labels"),
                ("teacher", "another teacher"),
                ("start", "another start"),
                ("sum", "another order of sums"),
            ];
            let what = parts.into_iter().find(other).map_or("other notes", |(_, what)| what);
            format!("it was written with {what}")
        }
    };
    Some(cause)
}

/// The path of the first value in which two JSON values differ, and both values there.
fn first_difference(path: &str, old: &Value, new: &Value) -> Option<(String, Value, Value)> {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            keys.into_iter().find_map(|key| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let of = |side: &serde_json::Map<String, Value>| side.get(key).cloned().unwrap_or_default();
                first_difference(&path, &of(a), &of(b))
            })
        }
        _ => (old != new).then(|| (path.to_string(), old.clone(), new.clone())),
    }
}
