//! From the results of a study to its report.

mod beside;
mod examples;
mod f1;
mod f2;
mod f3;
mod t1;
mod t5;
mod t6;
mod t7;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tarrl_eval::Interval;
use tarrl_report::{Estimate, Job, Provenance, Report};

use crate::jobs::{Finished, Key};
use crate::stages::{StudyContext, autoattack};
use crate::study::{Row, Study};
use crate::tables::Table;

/// Everything that tables and figures read.
pub struct Results<'a> {
    /// Profile, datasets and device.
    pub lab: &'a StudyContext,
    /// The jobs.
    pub study: &'a Study,
    /// The folder with the files of methods.
    pub methods: &'a Path,
    /// What every job gave.
    pub finished: &'a BTreeMap<Key, Finished>,
    /// What machine and version made them.
    pub provenance: &'a Value,
}

/// A table, or several that belong together, and what they show in sentences.
type Made = anyhow::Result<(Vec<tarrl_report::Table>, Vec<String>)>;

/// What makes the tables of one id.
type Make<'a> = fn(&Results<'a>) -> Made;

impl Results<'_> {
    /// The report.
    ///
    /// # Errors
    /// Fails if a result has an unexpected form.
    pub fn report(&self) -> anyhow::Result<Report> {
        let mut report = Report {
            title: format!("TARRL: {}", self.lab.profile.title),
            provenance: self.provenance(),
            ..Report::default()
        };
        let tables: [(Table, Make<'_>); 4] = [
            (Table::T1, |results| alone(t1::table(results))),
            (Table::T5, t5::tables),
            (Table::T6, |results| alone(t6::table(results))),
            (Table::T7, |results| alone(t7::table(results))),
        ];
        for (_, make) in tables.into_iter().filter(|(table, _)| self.has(*table)) {
            let (tables, findings) = make(self)?;
            report.tables.extend(tables);
            report.findings.extend(findings);
        }
        if self.has(Table::F1) {
            report.figures.push(f1::figure(self)?);
            report.figures.extend(examples::figure(self)?);
        }
        if self.has(Table::F2) {
            report.figures.push(f2::figure(self)?);
        }
        if self.has(Table::F3) {
            report.figures.push(f3::figure(self)?);
        }
        Ok(report)
    }

    fn has(&self, table: Table) -> bool {
        self.study.tables.contains_key(&table)
    }

    /// The parsed results of one kind of job of a method, seed by seed.
    fn of<T>(
        &self,
        row: &Row,
        job: impl Fn(&crate::study::RowJobs) -> Key,
        parse: impl Fn(&Finished) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<T>> {
        row.seeds.iter().map(|jobs| parse(&self.finished[&job(jobs)])).collect()
    }

    /// The same of AutoAttack; empty if the profile does not run it.
    fn autoattack(&self, row: &Row) -> anyhow::Result<Vec<autoattack::Output>> {
        row.seeds.iter().filter_map(|jobs| jobs.autoattack).map(|key| self.finished[&key].parse()).collect()
    }

    fn facts(&self) -> Vec<(String, String)> {
        let profile = &self.lab.profile;
        let adversary = profile.adversary.map(|adversary| {
            let steps = adversary.steps.map_or(String::new(), |steps| format!(", {steps} steps"));
            ("adversary of the training".to_owned(), format!("{}{steps}", radius(adversary.epsilon.value())))
        });
        let backend = self.provenance["backend"].as_object().into_iter().flatten();
        let backend =
            backend.map(|(name, fact)| (name.clone(), fact.as_str().unwrap_or_default().to_owned()));
        let peak =
            self.study.graph.jobs().iter().filter_map(|job| self.finished[&job.key()].peak_bytes).max();
        let peak = peak.map(|bytes| ("most memory of a job".to_owned(), format!("{} MB", bytes / 1_000_000)));
        let dataset = ("dataset".to_owned(), profile.dataset.clone());
        [dataset].into_iter().chain(adversary).chain(backend).chain(peak).collect()
    }

    fn provenance(&self) -> Provenance {
        let text = |name: &str| match &self.provenance[name] {
            Value::Null => "unknown".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let jobs = self.study.graph.jobs().iter();
        Provenance {
            version: format!("{} (commit {})", text("version"), text("commit")),
            machine: format!("{}, {}, {}", text("cpu"), text("device"), text("rustc")),
            command: "tarrl reproduce".into(),
            seeds: (0..u64::from(self.lab.profile.seeds)).collect(),
            jobs: jobs
                .map(|job| Job {
                    key: job.key().to_string(),
                    title: format!("{}: {}", job.spec().stage.kind, job.spec().name),
                })
                .collect(),
            facts: self.facts(),
        }
    }
}

/// One table as a list.
fn alone(made: anyhow::Result<(tarrl_report::Table, Vec<String>)>) -> Made {
    made.map(|(table, findings)| (vec![table], findings))
}

/// An accuracy in per cent from counts of correct images, one count for each seed: over seeds where there are
/// several, else over the images of the one.
fn accuracy(counts: &[(usize, usize)]) -> Estimate {
    let interval = match counts {
        [(correct, n)] => Interval::accuracy(*correct, *n),
        _ => Interval::over_seeds(&counts.iter().map(|&(c, n)| c as f64 / n as f64).collect::<Vec<_>>()),
    };
    estimate(interval, 100.0)
}

fn estimate(interval: Interval, scale: f64) -> Estimate {
    Estimate { mean: interval.mean * scale, half_width: Some(interval.half_width * scale), n: interval.n }
}

/// What the intervals of a report are over.
fn interval_note(lab: &StudyContext) -> String {
    match lab.profile.seeds {
        1 => "One seed: ± is half of a 95 % interval over the test images, and says nothing about another training.".into(),
        n => format!("Mean ± half of a 95 % interval over {n} seeds (Student's t)."),
    }
}

/// A radius as tables show it.
fn radius(epsilon: f64) -> String {
    format!("ε = {}", (epsilon * 1e4).round() / 1e4)
}
