//! From a profile to the graph of jobs behind its tables.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use tarrl_data::Manifest;
use tarrl_train::Method;

use crate::jobs::{Graph, Key};
use crate::stages::{self, Lab};
use crate::tables::Table;

/// The jobs of a study, and which of them each table shows.
pub struct Study {
    /// All jobs.
    pub graph: Graph,
    /// The jobs whose results a table reads.
    pub tables: BTreeMap<Table, Vec<Key>>,
    /// The methods in the order of the tables, each with its jobs for every seed.
    pub rows: Vec<Row>,
}

/// One method of a study.
pub struct Row {
    /// Name of its file, without the ending.
    pub name: String,
    /// What it is.
    pub method: Method,
    /// Its jobs, seed by seed.
    pub seeds: Vec<RowJobs>,
}

/// The jobs of one method with one seed.
#[derive(Clone, Copy, Debug)]
pub struct RowJobs {
    /// Trains the encoder.
    pub pretrain: Key,
    /// Fits the head.
    pub head: Key,
    /// Attacks both together.
    pub attack: Key,
    /// Runs AutoAttack on both, if the profile says so.
    pub autoattack: Option<Key>,
    /// Measures the bound.
    pub bound: Key,
}

/// Adds the jobs that train a method.
struct Trainer<'a> {
    lab: &'a Arc<Lab>,
    methods: &'a Path,
    manifest: &'a Manifest,
    data: Key,
    graph: &'a mut Graph,
    /// The methods that wait for their teacher.
    under_way: Vec<String>,
}

impl Trainer<'_> {
    /// The job that trains `method`, after that of its teacher with the same seed, if it has one. A teacher that is a
    /// method of the study itself is trained once.
    fn job(&mut self, name: &str, method: &Method, seed: u64) -> anyhow::Result<Key> {
        self.under_way.push(name.to_owned());
        let mut inputs = vec![self.data];
        if let Some(teacher) = &method.teacher {
            if self.under_way.contains(teacher) {
                bail!(
                    "{} teach each other; name another teacher in one of them",
                    self.under_way.join(" and ")
                );
            }
            let learnt = Method::read(&self.methods.join(format!("{teacher}.toml")))
                .with_context(|| format!("the teacher of {name}"))?;
            inputs.push(self.job(teacher, &learnt, seed)?);
        }
        self.under_way.pop();
        let title = format!("{name}, seed {seed}");
        Ok(self.graph.add(stages::pretrain::job(self.lab, inputs, self.manifest, method, &title, seed)))
    }
}

impl Study {
    /// Lays out the study of a profile, with the methods in the folder `methods`.
    ///
    /// # Errors
    /// Fails if a dataset or a method that the profile names is missing or faulty.
    pub fn new(lab: &Arc<Lab>, methods: &Path) -> anyhow::Result<Self> {
        let profile = &lab.profile;
        let manifest = lab.catalog.manifest(&profile.dataset)?;
        let mut graph = Graph::default();
        let data = graph.add(stages::data::job(&lab.catalog, &profile.dataset)?);
        let mut rows = Vec::new();
        for name in &profile.methods {
            let method = Method::read(&methods.join(format!("{name}.toml")))?;
            let mut row = Row { name: name.clone(), method, seeds: Vec::new() };
            for seed in 0..u64::from(profile.seeds) {
                let title = format!("{name}, seed {seed}");
                let mut trainer =
                    Trainer { lab, methods, manifest: &manifest, data, graph: &mut graph, under_way: vec![] };
                let pretrain = trainer.job(name, &row.method, seed)?;
                let head = graph.add(stages::head::job(lab, pretrain, &title, seed));
                let attack = graph.add(stages::attack::job(lab, [pretrain, head], &title, seed));
                let images = profile.attack.autoattack;
                let autoattack = (images > 0)
                    .then(|| graph.add(stages::autoattack::job(lab, [pretrain, head], images, &title, seed)));
                let bound = graph.add(stages::bound::job(lab, pretrain, &manifest, &title, seed));
                row.seeds.push(RowJobs { pretrain, head, attack, autoattack, bound });
            }
            rows.push(row);
        }
        let jobs = |of: fn(&RowJobs) -> Vec<Key>| -> Vec<Key> {
            rows.iter().flat_map(|row| row.seeds.iter().flat_map(of)).collect()
        };
        let needs = |table: &Table| match table {
            Table::T1 => jobs(|job| [job.head, job.attack].into_iter().chain(job.autoattack).collect()),
            Table::T5 => jobs(|job| vec![job.bound]),
            Table::F1 => jobs(|job| [job.attack].into_iter().chain(job.autoattack).collect()),
        };
        let tables = profile.tables.iter().map(|table| (*table, needs(table))).collect();
        Ok(Self { graph, tables, rows })
    }

    /// Keeps the tables `chosen` and the jobs that they need; nothing chosen keeps everything.
    ///
    /// # Errors
    /// Fails if the study has no such table.
    pub fn only(mut self, chosen: &[Table]) -> anyhow::Result<Self> {
        if chosen.is_empty() {
            return Ok(self);
        }
        if let Some(missing) = chosen.iter().find(|table| !self.tables.contains_key(table)) {
            let known: Vec<_> = self.tables.keys().map(|table| table.id()).collect();
            bail!("this profile does not make {}; it makes {}", missing.id(), known.join(", "));
        }
        self.tables.retain(|table, _| chosen.contains(table));
        let graph = self.graph.only(self.tables.values().flatten().copied());
        Ok(Self { graph, tables: self.tables, rows: self.rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{Job, Spec, Stage};
    use serde_json::{Value, json};

    fn job(name: &str, inputs: &[Key]) -> Job {
        let stage = Stage { kind: "test", version: 1 };
        let inputs = inputs.to_vec();
        let spec = Spec { name: name.into(), stage, seed: 0, config: json!(name), inputs, seconds: 1.0 };
        Job::new(spec, |_| Ok(Value::Null))
    }

    fn study() -> Study {
        let mut graph = Graph::default();
        let encoder = graph.add(job("encoder", &[]));
        let attack = graph.add(job("attack", &[encoder]));
        let bound = graph.add(job("bound", &[encoder]));
        Study { graph, tables: [(Table::T1, vec![attack]), (Table::T5, vec![bound])].into(), rows: vec![] }
    }

    fn names(study: &Study) -> Vec<&str> {
        study.graph.jobs().iter().map(|job| job.spec().name.as_str()).collect()
    }

    #[test]
    fn a_chosen_table_brings_what_it_needs_and_nothing_else() {
        assert_eq!(names(&study().only(&[Table::T1]).unwrap()), ["encoder", "attack"]);
        assert_eq!(names(&study().only(&[Table::T5, Table::T1]).unwrap()), ["encoder", "attack", "bound"]);
        assert_eq!(names(&study().only(&[]).unwrap()), ["encoder", "attack", "bound"]);
    }

    #[test]
    fn a_table_that_the_profile_lacks_is_refused() {
        let error = study().only(&[Table::F1]).err().unwrap().to_string();
        assert_eq!(error, "this profile does not make F1; it makes T1, T5");
    }
}
