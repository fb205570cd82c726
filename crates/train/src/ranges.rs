//! Ranges of settings: what the numbers of methods, profiles and flags may be, in one table.
//!
//! Its upper ends are far above what anyone needs and small enough that no product of sizes wraps; a number beyond is a
//! slip, and is refused before anything is computed.

use serde::Serialize;
use toml::Value;

/// The numbers that a setting may have, from the least to the most, both included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

/// A setting that is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// The number is too small.
    #[error("`{key}` is {value} and has to be at least {least}; allowed is {least} to {most}", least = range.least, most = range.most)]
    TooSmall {
        /// The setting, with the tables that it stands in.
        key: String,
        /// Its value.
        value: f64,
        /// What is allowed.
        range: Range,
    },
    /// The number is too large, or none.
    #[error("`{key}` is {value} and has to be at most {most}; allowed is {least} to {most}", least = range.least, most = range.most)]
    TooLarge {
        /// The setting, with the tables that it stands in.
        key: String,
        /// Its value.
        value: f64,
        /// What is allowed.
        range: Range,
    },
    /// The table has no such setting.
    #[error("`{key}` has no range; give it one in the table of ranges")]
    Unknown {
        /// The setting, with the tables that it stands in.
        key: String,
    },
    /// The settings cannot be written as TOML, as every number of a file can.
    #[error("a setting is no number of a file: {0}")]
    Form(String),
}

const fn range(least: f64, most: f64) -> Range {
    Range { least, most }
}

/// Factors of terms in a loss.
const FACTOR: Range = range(0.0, 1e9);
/// What divides similarities or scores.
const TEMPERATURE: Range = range(1e-6, 1e6);
/// Shares, probabilities and momenta.
const SHARE: Range = range(0.0, 1.0);
/// Widths of layers.
const UNITS: Range = range(1.0, 65_536.0);
/// Images that are trained on or measured.
const IMAGES: Range = range(1.0, 1e9);
/// Radii of balls, and steps in them, in any norm: images that are farther apart do not exist.
const RADIUS: Range = range(0.0, 1e6);
/// Minutes of a run: two years.
const MINUTES: Range = range(0.0, 1e6);

/// The range of every number, by its key and as much of the tables around it as tells it from others of that name; flags
/// begin with two dashes.
pub const RANGES: &[(&str, Range)] = &[
    // Flags.
    ("--batch", range(1.0, 1_048_576.0)),
    ("bench.--batch", range(2.0, 1_048_576.0)),
    ("pretrain.--batch", range(2.0, 1_048_576.0)),
    ("--branch", range(0.0, 15.0)),
    ("--crop", range(1.0, 4096.0)),
    ("--epsilon", RADIUS),
    ("certify.--epsilon", SHARE),
    ("--epochs", range(1.0, 1e6)),
    ("--generators", range(0.0, 1_048_576.0)),
    ("--heads", range(1.0, 4096.0)),
    ("--heartbeat", range(1.0, 600.0)),
    ("--images", IMAGES),
    ("--passes", range(1.0, 1_000_000_000.0)),
    ("--processes", range(1.0, 1024.0)),
    ("--minutes", MINUTES),
    ("--most-restarts", range(1.0, 1e6)),
    ("--neighbors", range(1.0, 1_000_001.0)),
    ("--rank-timeout", range(1.0, 86_400.0)),
    ("--repeats", range(1.0, 1e6)),
    ("--resize", range(1.0, 4096.0)),
    ("--samples", IMAGES),
    ("--save-every", range(0.0, 1e9)),
    ("--seed", range(0.0, u64::MAX as f64)),
    ("--seeds", range(1.0, 1000.0)),
    ("--shards", range(1.0, 1024.0)),
    ("--severity", range(1.0, 5.0)),
    ("--side", range(1.0, 4096.0)),
    ("--stem-padding", range(1.0, 2.0)),
    ("--threads", range(1.0, 1024.0)),
    ("--time-limit", MINUTES),
    ("--timeout", range(0.0, 1e9)),
    ("--width", range(0.001, 64.0)),
    // Resources on a cluster.
    ("cluster.at-once", range(1.0, 1000.0)),
    ("cluster.cpus", range(1.0, 1024.0)),
    ("cluster.gpus", range(0.0, 64.0)),
    ("cluster.memory-mb", range(1.0, 1e9)),
    ("cluster.minutes", range(1.0, 1e6)),
    ("cluster.warn-seconds", range(30.0, 86_400.0)),
    // Profiles.
    ("seeds", range(1.0, 1000.0)),
    ("subset.train", IMAGES),
    ("first-seed", range(0.0, 1e9)),
    ("subset.test", IMAGES),
    ("subset.holdout", IMAGES),
    ("frontier.clean", SHARE),
    ("frontier.images", IMAGES),
    ("frontier.l2", range(1e-12, 1e9)),
    ("sweep.weights", FACTOR),
    ("encoder.width", range(0.001, 64.0)),
    ("pretrain.epochs", range(1.0, 1e6)),
    ("pretrain.batch", range(2.0, 1_048_576.0)),
    ("pretrain.warmup-epochs", range(0.0, 1e6)),
    ("optimizer.lr", range(1e-12, 1e4)),
    ("optimizer.momentum", SHARE),
    ("optimizer.weight_decay", range(0.0, 1e4)),
    ("optimizer.trust", SHARE),
    ("optimizer.betas", SHARE),
    ("optimizer.eps", SHARE),
    ("attack.epsilons", SHARE),
    ("attack.curve", SHARE),
    ("attack.autoattack", range(0.0, 1e9)),
    ("tasks.images", IMAGES),
    ("tasks.shares", SHARE),
    ("tasks.draws", range(1.0, 1000.0)),
    ("tasks.noise", range(1e-9, 1e9)),
    ("tasks.predictors.pilot", range(1.0, 1e6)),
    ("tasks.predictors.draws", range(1.0, 1e6)),
    ("tasks.predictors.attack", range(1.0, 1e5)),
    ("tasks.predictors.delta", range(1e-12, 0.5)),
    ("tasks.universal.batch", range(1.0, 1_048_576.0)),
    ("tasks.alf.epochs", range(1.0, 1e6)),
    ("distances.images", IMAGES),
    ("distances.passes", range(1.0, 1e9)),
    ("distances.certificates", range(1.0, 1000.0)),
    ("distances.share", range(0.0, 1e6)),
    ("bound.samples", range(10.0, 1e9)),
    ("bound.epsilons", SHARE),
    // Attacks, of profiles and methods.
    ("epsilon", RADIUS),
    ("steps", range(1.0, 100_000.0)),
    ("step_size", RADIUS),
    ("restarts", range(1.0, 10_000.0)),
    ("bounds", range(-1e6, 1e6)),
    // Objectives.
    ("temperature", TEMPERATURE),
    ("objective.teacher_temperature", TEMPERATURE),
    ("objective.base_temperature", range(0.0, 1e6)),
    ("objective.queue", range(1.0, 16_777_216.0)),
    ("objective.off_diagonal", FACTOR),
    ("objective.scale", range(1e-9, 1e9)),
    ("objective.invariance", FACTOR),
    ("objective.variance", FACTOR),
    ("objective.covariance", FACTOR),
    ("objective.block", range(2.0, 65_536.0)),
    ("objective.cuts", range(1.0, 10_000.0)),
    ("objective.epsilon", range(0.0, 1e6)),
    ("objective.iterations", range(1.0, 10_000.0)),
    ("objective.center_momentum", SHARE),
    ("objective.global", range(1.0, 64.0)),
    ("objective.beta", FACTOR),
    // Terms.
    ("weight", FACTOR),
    ("clean_weight", FACTOR),
    ("adversary.shift", SHARE),
    ("distillation.consistency", FACTOR),
    ("distillation.projected", SHARE),
    ("invariance.standard", FACTOR),
    ("invariance.adversarial", FACTOR),
    ("regularizer.sigma", range(1e-9, 1e9)),
    ("noise.sigma", range(1e-9, 1e9)),
    ("spectral_norm.iterations", range(1.0, 10_000.0)),
    ("ramp", SHARE),
    ("weight_ramp", SHARE),
    ("clusters", range(2.0, 65_536.0)),
    ("contrast.group", range(2.0, 65_536.0)),
    // Networks.
    ("hidden", UNITS),
    ("out", UNITS),
    ("layers", range(1.0, 64.0)),
    ("prototypes", range(0.0, 1_048_576.0)),
    ("momentum.start", SHARE),
    ("momentum.end", SHARE),
    ("network.average", SHARE),
    // Views.
    ("strength.start", SHARE),
    ("strength.end", SHARE),
    ("strength.stages", range(1.0, 1e6)),
    ("crop.scale", SHARE),
    ("crop.ratio", range(1e-6, 1e6)),
    ("crop.pixels", range(0.0, 4096.0)),
    ("flip", SHARE),
    ("grayscale", SHARE),
    ("solarize", SHARE),
    ("probability", SHARE),
    ("jitter.brightness", range(0.0, 1e6)),
    ("jitter.contrast", range(0.0, 1e6)),
    ("jitter.saturation", range(0.0, 1e6)),
    ("jitter.hue", range(0.0, 0.5)),
    ("blur.sigma", range(0.0, 1e6)),
    ("blur.kernel", range(0.0, 4096.0)),
    ("high_pass", range(0.0, 4096.0)),
];

impl Range {
    /// The range of a setting, named with the tables that it stands in, such as `regularizer.inner.steps`.
    ///
    /// # Errors
    /// If the table has none.
    pub fn of(key: &str) -> Result<Range, RangeError> {
        let names = |name: &str| {
            key.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        let known = RANGES.iter().filter(|(name, _)| names(name)).max_by_key(|(name, _)| name.len());
        known.map(|(_, range)| *range).ok_or_else(|| RangeError::Unknown { key: key.to_owned() })
    }

    /// Whether the number is in the range.
    pub fn contains(&self, value: f64) -> bool {
        (self.least..=self.most).contains(&value)
    }

    /// Checks the number of a setting.
    ///
    /// # Errors
    /// Names the setting, its value and what is allowed.
    pub fn check(&self, key: &str, value: f64) -> Result<(), RangeError> {
        let (key, range) = (key.to_owned(), *self);
        match value {
            _ if self.contains(value) => Ok(()),
            _ if value < self.least => Err(RangeError::TooSmall { key, value, range }),
            _ => Err(RangeError::TooLarge { key, value, range }),
        }
    }
}

/// Checks every number of a configuration against the range of its key. A key without a range is refused too, so that
/// none is forgotten.
///
/// # Errors
/// The first number that is out of its range.
pub fn check_ranges(settings: &impl Serialize) -> Result<(), RangeError> {
    let settings = Value::try_from(settings).map_err(|error| RangeError::Form(error.to_string()))?;
    visit_numbers(&settings, "", &mut |key, value| Range::of(key)?.check(key, value))
}

/// Calls `see` with every number and its key; all of an array have the key of the array.
fn visit_numbers(
    value: &Value,
    key: &str,
    see: &mut dyn FnMut(&str, f64) -> Result<(), RangeError>,
) -> Result<(), RangeError> {
    match value {
        Value::Integer(number) => see(key, *number as f64),
        Value::Float(number) => see(key, *number),
        Value::Array(items) => items.iter().try_for_each(|item| visit_numbers(item, key, see)),
        Value::Table(table) => table.iter().try_for_each(|(name, item)| {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            visit_numbers(item, &key, see)
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
