//! Task settings: what encoders are asked for beside the classes of their own dataset.

use serde::{Deserialize, Serialize};
use tarrl_data::is_plain_name;
use tarrl_eval::{DrawConfig, UniversalConfig};

use super::repeated::repeated;
use super::trial::Trial;
use crate::pixels::Pixels;

/// What encoders are asked for beside the accuracy of one head.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tasks {
    /// The methods of the profile whose encoders are asked; all without this key.
    #[serde(default)]
    pub methods: Option<Vec<String>>,
    /// Test images, balanced over the classes, that heads of tasks and few labels, and queries, are attacked on.
    pub images: usize,
    /// Names of other datasets whose images heads are fitted to as well; those that are not here are left out and named.
    #[serde(default)]
    pub transfer: Vec<String>,
    /// Shares of the training labels that heads are fitted to.
    #[serde(default = "shares")]
    pub shares: Vec<f64>,
    /// Independent draws of each share.
    #[serde(default = "draws")]
    pub draws: usize,
    /// How one perturbation is made for all images.
    #[serde(default)]
    pub universal: UniversalConfig,
    /// The deviation of the noise on representations, as a share of the root mean square distance of the training images'
    /// representations from their mean.
    #[serde(default = "noise")]
    pub noise: f64,
    /// Draws of noisy representations that predictors are judged by.
    #[serde(default)]
    pub predictors: DrawConfig,
    /// How heads are fitted under attack.
    pub alf: AdversarialFit,
    /// Name of the method with labels that encoders are fine-tuned by as a whole.
    #[serde(default = "trades")]
    pub aff: String,
}

/// How heads are fitted under attack, on frozen encoders.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdversarialFit {
    /// Radius ε of the l∞ ball, in pixels.
    pub epsilon: Pixels,
    /// Steps of PGD.
    pub steps: usize,
    /// Passes over the training images.
    pub epochs: usize,
}

fn shares() -> Vec<f64> {
    vec![0.01, 0.1]
}

fn draws() -> usize {
    5
}

fn noise() -> f64 {
    0.25
}

fn trades() -> String {
    "trades".to_owned()
}

impl Tasks {
    /// Whether the encoders of a method are asked.
    pub fn asks(&self, method: &str) -> bool {
        self.methods.as_ref().is_none_or(|names| names.iter().any(|name| name == method))
    }

    /// What no type can rule out.
    pub(super) fn check(&self, methods: &[String]) -> Result<(), String> {
        if let Some(name) = self.methods.iter().flatten().find(|name| !methods.contains(name)) {
            return Err(format!("`tasks.methods` names `{name}`, which is none of `methods`; add it there"));
        }
        if self.methods.as_ref().is_some_and(Vec::is_empty) {
            return Err("`tasks.methods` is empty; leave it out for all methods".to_owned());
        }
        let counts = [
            ("images", self.images),
            ("draws", self.draws),
            ("universal.steps", self.universal.steps),
            ("universal.batch", self.universal.batch),
            ("universal.restarts", self.universal.restarts),
            ("predictors.pilot", self.predictors.pilot),
            ("predictors.draws", self.predictors.draws),
            ("predictors.attack", self.predictors.attack),
            ("alf.steps", self.alf.steps),
            ("alf.epochs", self.alf.epochs),
        ];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(format!("`tasks.{key}` is 0 and has to be at least 1"));
        }
        if self.alf.epsilon.value() == 0.0 {
            return Err("`tasks.alf.epsilon` has to be above 0; at 0 the fit is the usual one".to_owned());
        }
        let rise = self.shares.is_sorted_by(|a, b| a < b);
        if self.shares.is_empty() || !rise || !(self.shares[0] > 0.0 && self.shares.iter().all(|s| *s <= 1.0))
        {
            return Err("`tasks.shares` has to rise, from above 0 to at most 1".to_owned());
        }
        if !(self.noise > 0.0 && self.noise.is_finite()) {
            return Err("`tasks.noise` has to be above 0; without noise no bound holds for every predictor"
                .to_owned());
        }
        if !(self.predictors.delta > 0.0 && self.predictors.delta < 1.0) {
            return Err("`tasks.predictors.delta` has to lie between 0 and 1".to_owned());
        }
        let names = self.transfer.iter().chain([&self.aff]);
        if let Some(name) = names.into_iter().find(|name| !is_plain_name(name)) {
            return Err(format!("`tasks` has `{name}`, which is no plain name; remove separators and dots"));
        }
        match repeated(&self.transfer) {
            Some(twice) => Err(format!("`tasks.transfer` names `{twice}` twice; remove one")),
            None => Ok(()),
        }
    }
}

/// Whether every variant is another one.
pub(super) fn check_variants(variants: &[Trial]) -> Result<(), String> {
    match repeated(variants) {
        Some(twice) => Err(format!("`variant` has {} {} twice; remove one", twice.method, twice.label())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_train::config::read_toml;

    const GOOD: &str = "images = 100\nalf = { epsilon = 0.1, steps = 5, epochs = 2 }\n";

    fn check(text: &str) -> Result<Tasks, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tasks.toml");
        std::fs::write(&path, text).unwrap();
        let tasks: Tasks = read_toml(&path).map_err(|error| error.to_string())?;
        tasks.check(&["tarr".to_owned()]).map(|()| tasks)
    }

    #[test]
    fn settings_have_their_defaults() {
        let tasks = check(GOOD).unwrap();
        assert_eq!((tasks.shares, tasks.draws, tasks.aff.as_str()), (vec![0.01, 0.1], 5, "trades"));
        assert!(tasks.transfer.is_empty());
    }

    #[test]
    fn a_slip_is_answered_with_its_key_and_a_remedy() {
        for (from, to, expected) in [
            ("images = 100", "images = 0", "`tasks.images` is 0"),
            ("images = 100", "images = 100\ndraws = 0", "`tasks.draws` is 0"),
            ("images = 100", "images = 100\nshares = [0.1, 0.01]", "`tasks.shares` has to rise"),
            ("images = 100", "images = 100\nshares = [0.1, 1.5]", "to at most 1"),
            ("images = 100", "images = 100\ntransfer = [\"mnist\", \"mnist\"]", "names `mnist` twice"),
            ("images = 100", "images = 100\ntransfer = [\"../mnist\"]", "no plain name"),
            ("images = 100", "images = 100\naff = \"a/b\"", "no plain name"),
            ("images = 100", "images = 100\nnoise = 0.0", "`tasks.noise` has to be above 0"),
            ("images = 100", "images = 100\npredictors = { draws = 0 }", "`tasks.predictors.draws` is 0"),
            (
                "images = 100",
                "images = 100\npredictors = { delta = 1.0 }",
                "`tasks.predictors.delta` has to lie",
            ),
            ("epsilon = 0.1", "epsilon = 0", "`tasks.alf.epsilon` has to be above 0"),
            ("epochs = 2", "epochs = 0", "`tasks.alf.epochs` is 0"),
            ("images = 100", "images = 100\nuniversal = { steps = 0 }", "`tasks.universal.steps` is 0"),
            ("images = 100", "images = 100\nmethods = [\"acl\"]", "names `acl`, which is none of `methods`"),
            ("images = 100", "images = 100\nmethods = []", "`tasks.methods` is empty"),
            ("images = 100", "image = 100", "unknown key `image`"),
        ] {
            let error = check(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(expected), "{from} -> {to}: {error}");
        }
    }

    #[test]
    fn a_variant_is_there_once() {
        let variant = |weight: f64| -> Trial {
            let set = serde_json::json!({"regularizer": {"weight": weight}});
            serde_json::from_value(serde_json::json!({"method": "tarr", "set": set})).unwrap()
        };
        assert_eq!(check_variants(&[variant(1.0), variant(2.0)]), Ok(()));
        let error = check_variants(&[variant(1.0), variant(1.0)]).unwrap_err();
        assert!(error.contains("tarr regularizer.weight = 1.0 twice"), "{error}");
    }
}
