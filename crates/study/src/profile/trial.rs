//! Trials: variations of method files that hyperparameters are selected from.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tarrl_train::Method;
use tarrl_train::config::{ConfigError, read_toml};

/// A method with other values of some of its keys.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Name of the file in `experiments/methods`, without its ending.
    pub method: String,
    /// Keys of that file with their values, nested as there: `{ regularizer.weight = 4.0 }`. Nothing is the file as it is.
    #[serde(default)]
    pub set: Map<String, Value>,
}

impl Trial {
    /// The method of the file in `folder`, with the keys that are set.
    ///
    /// # Errors
    /// Names the file and the mistake in it or in what is set.
    pub fn read(&self, folder: &Path) -> Result<Method, ConfigError> {
        let path = folder.join(format!("{}.toml", self.method));
        if self.set.is_empty() {
            return Method::read(&path);
        }
        let mut file: Map<String, Value> = read_toml(&path)?;
        merge(&mut file, &self.set);
        let refused = |reason: Box<dyn std::error::Error + Send + Sync>| ConfigError::Refused {
            path: path.clone(),
            reason: format!("with {}: {reason}", self.label()).into(),
        };
        let method: Method = serde_json::from_value(file.into()).map_err(|error| refused(error.into()))?;
        method.check().map_err(|error| refused(error.into()))?;
        Ok(method)
    }

    /// What is set: `regularizer.weight = 4`, or `as in its file`.
    pub fn label(&self) -> String {
        let mut lines = Vec::new();
        flatten("", &self.set, &mut lines);
        if lines.is_empty() { "as in its file".to_owned() } else { lines.join(", ") }
    }
}

/// Values of `set` in the place of those of `file`; tables are merged key by key.
fn merge(file: &mut Map<String, Value>, set: &Map<String, Value>) {
    for (key, value) in set {
        match (file.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            _ => {
                file.insert(key.clone(), value.clone());
            }
        }
    }
}

fn flatten(prefix: &str, set: &Map<String, Value>, lines: &mut Vec<String>) {
    for (key, value) in set {
        match value {
            Value::Object(table) => flatten(&format!("{prefix}{key}."), table, lines),
            other => lines.push(format!("{prefix}{key} = {other}")),
        }
    }
}

/// Whether every method has as many trials as the others, and images are held out to compare them on.
pub(super) fn check(trials: &[Trial], holdout: Option<usize>) -> Result<(), String> {
    if holdout.is_none() {
        return Err("`trial` without `subset.holdout` would select on test images; hold some out".to_owned());
    }
    let mut counts = BTreeMap::new();
    for (i, trial) in trials.iter().enumerate() {
        if trials[..i].contains(trial) {
            return Err(format!("`trial` has {} {} twice; remove one", trial.method, trial.label()));
        }
        *counts.entry(&trial.method).or_insert(0) += 1;
    }
    let most = counts.values().max().copied().unwrap_or(0);
    match counts.iter().find(|(_, count)| **count < most) {
        Some((method, count)) => {
            Err(format!("`trial`: {method} has {count} and another method {most}; give every method as many"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn trial(method: &str, set: Value) -> Trial {
        serde_json::from_value(json!({"method": method, "set": set})).unwrap()
    }

    #[test]
    fn keys_that_are_set_replace_those_of_the_file_and_no_others() {
        let folder = crate::repository().join("experiments/methods");
        let plain = Method::read(&folder.join("tarr.toml")).unwrap();
        assert_eq!(trial("tarr", json!({})).read(&folder).unwrap(), plain);
        let weight = plain.regularizer.as_ref().unwrap().config().weight + 1.0;
        let found = trial("tarr", json!({"regularizer": {"weight": weight}})).read(&folder).unwrap();
        let (old, new) = (plain.regularizer.unwrap(), found.regularizer.unwrap());
        assert_eq!(new.config().weight, weight);
        assert_eq!(new.config().divergence, old.config().divergence);
        assert_eq!(found.objective, plain.objective);
    }

    #[test]
    fn a_key_that_no_method_has_is_refused_with_the_file() {
        let folder = crate::repository().join("experiments/methods");
        let error =
            trial("tarr", json!({"regularizer": {"wait": 1.0}})).read(&folder).unwrap_err().to_string();
        assert!(error.contains("tarr.toml") && error.contains("regularizer.wait = 1.0"), "{error}");
    }

    #[test]
    fn trials_are_as_many_for_every_method_and_have_images_of_their_own() {
        let (a, b) = (trial("acl", json!({})), trial("tarr", json!({})));
        let more = trial("tarr", json!({"regularizer": {"weight": 4.0}}));
        assert_eq!(check(&[a.clone(), b.clone()], Some(100)), Ok(()));
        let refused = |trials: &[Trial], held| check(trials, held).unwrap_err();
        assert!(refused(&[a.clone(), b.clone()], None).contains("hold some out"));
        assert!(refused(&[a.clone(), b.clone(), more], Some(100)).contains("acl has 1 and another method 2"));
        assert!(refused(&[a.clone(), a], Some(100)).contains("acl as in its file twice"));
    }
}
