//! From a profile to the graph of jobs behind its tables.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use tarrl_bound::{Regularizer, RegularizerConfig};
use tarrl_data::Manifest;
use tarrl_train::Method;

use crate::jobs::{Graph, Key};
use crate::profile::Sweep;
use crate::stages::{self, StudyContext};
use crate::tables::Table;

/// The jobs of a study, and which of them each table shows.
pub struct Study {
    /// The jobs that its tables need.
    pub graph: Graph,
    /// The jobs whose results a table reads.
    pub tables: BTreeMap<Table, Vec<Key>>,
    /// The methods in the order of the tables, each with its jobs for every seed.
    pub rows: Vec<Row>,
    /// The pairs of T6: without and with the regularizer.
    pub pairs: Vec<[Row; 2]>,
    /// The curves of F2.
    pub curves: Vec<Curve>,
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

/// One method with several weights of its regularizer.
pub struct Curve {
    /// The divergence.
    pub label: String,
    /// λ and the method with it.
    pub points: Vec<(f64, Row)>,
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

impl Study {
    /// Lays out the study of a profile, with the methods in the folder `methods`.
    ///
    /// # Errors
    /// Fails if a dataset or a method that the profile names is missing or faulty.
    pub fn new(lab: &Arc<StudyContext>, methods: &Path) -> anyhow::Result<Self> {
        let profile = &lab.profile;
        let manifest = lab.catalog.manifest(&profile.dataset)?;
        let mut graph = Graph::default();
        let data = graph.add(stages::data::job(&lab.catalog, &profile.dataset)?);
        let mut layout = Layout { lab, methods, manifest, data, graph, under_way: Vec::new() };
        let rows =
            profile.methods.iter().map(|name| layout.named(name)).collect::<anyhow::Result<Vec<_>>>()?;
        let pair =
            |pair: &crate::profile::Pair| Ok([layout.named(&pair.without)?, layout.named(&pair.with)?]);
        let pairs = profile.pairs.iter().map(pair).collect::<anyhow::Result<Vec<_>>>()?;
        let curves = profile.sweep.as_ref().map_or(Ok(Vec::new()), |sweep| layout.curves(sweep))?;

        let attacks = |job: &RowJobs| [job.head, job.attack].into_iter().chain(job.autoattack).collect();
        let needs = |table: &Table| match table {
            Table::T1 | Table::F1 => jobs(&rows, attacks),
            Table::T5 | Table::F3 => jobs(&rows, |job| vec![job.bound]),
            Table::T6 => jobs(pairs.iter().flatten(), |job| vec![job.attack]),
            Table::T7 => jobs(&rows, |job| vec![job.pretrain, job.attack]),
            Table::F2 => {
                let points = curves.iter().flat_map(|curve| curve.points.iter().map(|(_, row)| row));
                jobs(points.chain(&rows), |job| vec![job.attack])
            }
        };
        let tables: BTreeMap<_, _> = profile.tables.iter().map(|table| (*table, needs(table))).collect();
        let graph = layout.graph.only(tables.values().flatten().copied());
        Ok(Self { graph, tables, rows, pairs, curves })
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
        Ok(Self { graph, ..self })
    }
}

fn jobs<'a>(rows: impl IntoIterator<Item = &'a Row>, of: impl Fn(&RowJobs) -> Vec<Key>) -> Vec<Key> {
    rows.into_iter().flat_map(|row| row.seeds.iter().flat_map(&of)).collect()
}

/// A study while its jobs are laid out; a job that several tables show is there once.
struct Layout<'a> {
    lab: &'a Arc<StudyContext>,
    methods: &'a Path,
    manifest: Manifest,
    data: Key,
    graph: Graph,
    /// The methods that wait for their teacher.
    under_way: Vec<String>,
}

impl Layout<'_> {
    /// The method in the file `name`, against the attacker of the profile if that names one.
    fn read(&self, name: &str) -> anyhow::Result<Method> {
        let profile = &self.lab.profile;
        let method = Method::read(&self.methods.join(format!("{name}.toml")))?;
        let Some(adversary) = profile.adversary else { return Ok(method) };
        let changed = method.against(adversary.epsilon.value(), adversary.steps);
        changed.map_err(|reason| anyhow!("{}, `adversary` with {name}: {reason}", profile.path.display()))
    }

    /// The method in the file `name`.
    fn named(&mut self, name: &str) -> anyhow::Result<Row> {
        let method = self.read(name)?;
        self.row(name, method)
    }

    fn row(&mut self, name: &str, method: Method) -> anyhow::Result<Row> {
        let seeds = 0..u64::from(self.lab.profile.seeds);
        let seeds = seeds.map(|seed| self.jobs(name, &method, seed)).collect::<anyhow::Result<_>>()?;
        Ok(Row { name: name.to_owned(), method, seeds })
    }

    /// The job that trains `method`, after that of its teacher with the same seed, if it has one. A teacher that is a
    /// method of the study itself is trained once.
    fn pretrain(&mut self, name: &str, method: &Method, seed: u64) -> anyhow::Result<Key> {
        self.under_way.push(name.to_owned());
        let mut inputs = vec![self.data];
        if let Some(teacher) = &method.teacher {
            if self.under_way.contains(teacher) {
                let names = self.under_way.join(" and ");
                bail!("{names} teach each other; name another teacher in one of them");
            }
            let learned = self.read(teacher).with_context(|| format!("the teacher of {name}"))?;
            inputs.push(self.pretrain(teacher, &learned, seed)?);
        }
        self.under_way.pop();
        let title = format!("{name}, seed {seed}");
        Ok(self.graph.add(stages::pretrain::job(self.lab, inputs, &self.manifest, method, &title, seed)))
    }

    fn jobs(&mut self, name: &str, method: &Method, seed: u64) -> anyhow::Result<RowJobs> {
        let pretrain = self.pretrain(name, method, seed)?;
        let Layout { lab, manifest, graph, .. } = self;
        let title = format!("{name}, seed {seed}");
        let head = graph.add(stages::head::job(lab, pretrain, &title, seed));
        let attack = graph.add(stages::attack::job(lab, [pretrain, head], &title, seed));
        let images = lab.profile.attack.autoattack;
        let autoattack = (images > 0)
            .then(|| graph.add(stages::autoattack::job(lab, [pretrain, head], images, &title, seed)));
        let certify = graph.add(stages::certify::job(lab, pretrain, &title, seed));
        let bound = graph.add(stages::bound::job(lab, [pretrain, certify], manifest, &title, seed));
        Ok(RowJobs { pretrain, head, attack, autoattack, bound })
    }

    fn curves(&mut self, sweep: &Sweep) -> anyhow::Result<Vec<Curve>> {
        let method = self.read(&sweep.method)?;
        let Some(regularizer) = &method.regularizer else {
            bail!(
                "{}: `sweep.method` is `{}`, which has no regularizer to change; name one that has",
                self.lab.profile.path.display(),
                sweep.method
            );
        };
        let mut curves = Vec::new();
        for &divergence in &sweep.divergences {
            let label = serde_json::to_value(divergence)?.as_str().unwrap_or_default().to_owned();
            let mut points = Vec::new();
            for &weight in &sweep.weights {
                let config = RegularizerConfig { divergence, weight, ..regularizer.config().clone() };
                let regularizer = (weight > 0.0).then(|| Regularizer::new(config)).transpose();
                let regularizer = regularizer.with_context(|| format!("`sweep` with {label}"))?;
                // Titles are for tables of methods, and all points without a regularizer are the same job.
                let name = if weight > 0.0 {
                    format!("{}, {label}, λ = {weight}", sweep.method)
                } else {
                    format!("{}, λ = 0", sweep.method)
                };
                let method = Method { regularizer, ..method.clone() };
                points.push((weight, self.row(&name, method)?));
            }
            curves.push(Curve { label, points });
        }
        Ok(curves)
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
        Study {
            graph,
            tables: [(Table::T1, vec![attack]), (Table::T5, vec![bound])].into(),
            rows: vec![],
            pairs: vec![],
            curves: vec![],
        }
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
