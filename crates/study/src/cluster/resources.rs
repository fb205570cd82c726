//! Resources of stages: the file `cluster.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use tarrl_train::check_ranges;
use tarrl_train::config::{parse_toml, read_toml};

/// What the jobs of each stage are given.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Resources {
    /// For all stages, where they name nothing else.
    #[serde(default)]
    default: Settings,
    /// By the kind of the stage, such as `pretrain`.
    #[serde(default)]
    stage: BTreeMap<String, Settings>,
}

/// A table of the file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpus: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minutes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warn_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_once: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<Vec<String>>,
}

/// What one job of a stage is given.
#[derive(Clone, Debug, PartialEq)]
pub struct StageResources {
    /// Cores.
    pub cpus: u32,
    /// GPUs.
    pub gpus: u32,
    /// Memory in megabytes; the engine's usual amount if none.
    pub memory_mb: Option<u64>,
    /// Time limit.
    pub minutes: u32,
    /// Time before it at which the job is told to stop.
    pub warn_seconds: u32,
    /// Jobs of an array at the same time; all if none.
    pub at_once: Option<u32>,
    /// Further options of the engine, as they are.
    pub options: Vec<String>,
}

/// What is written about ranges.
#[derive(Serialize)]
struct Ranged<'a> {
    cluster: &'a Settings,
}

/// The stages that there are.
const STAGES: [&str; 19] = [
    "data",
    "pretrain",
    "head",
    "attack",
    "autoattack",
    "best-known",
    "frontier",
    "matched",
    "certify",
    "bound",
    "alf",
    "any-predictor",
    "corruptions",
    "downstream",
    "few-labels",
    "retrieval",
    "universal",
    "distances",
    "report",
];

impl Resources {
    /// Reads `cluster.toml`.
    ///
    /// # Errors
    /// Fails with the file and the cause if it cannot be read, has unknown keys or stages, or a number out of its range.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        read_toml::<Self>(path)?.checked().with_context(|| path.display().to_string())
    }

    /// The resources in the text of a file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        parse_toml::<Self>(text, Path::new("cluster.toml"))?.checked()
    }

    fn checked(self) -> anyhow::Result<Self> {
        let found = self;
        if let Some(stage) = found.stage.keys().find(|stage| !STAGES.contains(&stage.as_str())) {
            bail!("there is no stage `{stage}`; there are {}", STAGES.join(", "));
        }
        for settings in [&found.default].into_iter().chain(found.stage.values()) {
            check_ranges(&Ranged { cluster: settings })?;
            for option in settings.options.iter().flatten() {
                let plain = |c: char| !c.is_control();
                ensure!(
                    option.starts_with("--") && option.chars().all(plain),
                    "`{}` is no option; it begins with `--` and is one line",
                    option.escape_debug()
                );
            }
        }
        Ok(found)
    }

    /// What a job of the stage `kind` is given: an hour, one core and a warning of two minutes, where the file says nothing.
    pub fn of(&self, kind: &str) -> StageResources {
        let none = Settings::default();
        let own = self.stage.get(kind).unwrap_or(&none);
        let all = &self.default;
        let minutes = own.minutes.or(all.minutes).unwrap_or(60);
        StageResources {
            cpus: own.cpus.or(all.cpus).unwrap_or(1),
            gpus: own.gpus.or(all.gpus).unwrap_or(0),
            memory_mb: own.memory_mb.or(all.memory_mb),
            minutes,
            warn_seconds: own.warn_seconds.or(all.warn_seconds).unwrap_or(120),
            at_once: own.at_once.or(all.at_once),
            options: own.options.clone().or_else(|| all.options.clone()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_takes_what_it_does_not_name_from_the_default() {
        let text = "[default]\ncpus = 4\nmemory-mb = 8000\noptions = ['--partition=main']\n\
                    [stage.pretrain]\ngpus = 1\nminutes = 600\nat-once = 3\n";
        let found = Resources::parse(text).unwrap();
        let expected = StageResources {
            cpus: 4,
            gpus: 1,
            memory_mb: Some(8000),
            minutes: 600,
            warn_seconds: 120,
            at_once: Some(3),
            options: vec!["--partition=main".to_owned()],
        };
        assert_eq!(found.of("pretrain"), expected);
        let head = StageResources { gpus: 0, minutes: 60, at_once: None, ..expected };
        assert_eq!(found.of("head"), head);
        assert_eq!(Resources::parse("").unwrap().of("head").cpus, 1);
    }

    #[test]
    fn what_no_engine_can_take_is_refused() {
        for (text, cause) in [
            ("[default]\ncpus = 0", "cluster.cpus"),
            ("[default]\nminutes = 99999999", "cluster.minutes"),
            ("[default]\nwarn-seconds = 1", "cluster.warn-seconds"),
            ("[default]\ncores = 1", "unknown key `cores`"),
            ("[stage.pretrian]\ncpus = 1", "no stage `pretrian`"),
            ("[default]\noptions = ['--a\\nrm -rf']", "one line"),
            ("[default]\noptions = ['rm']", "begins with `--`"),
        ] {
            let text = text.replace("['--a\\nrm -rf']", "[\"--a\\nrm\"]");
            let error = format!("{:#}", Resources::parse(&text).unwrap_err());
            assert!(error.contains(cause), "{text}: {error}");
        }
    }
}
