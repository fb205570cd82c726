//! The page of an evaluation: tables, the curve, and one sentence.

use std::collections::BTreeMap;

use serde_json::Value;
use tarrl_eval::{BoundLevel, Interval, NO_CLAIM, TaskBound, median};
use tarrl_jobs::{Finished, Graph, Key};
use tarrl_report::{
    Axis, Cell, Chart, Column, Drawing, Estimate, Figure, Keys, Mark, Point, Provenance, Report, Series,
    Table,
};

use super::attacks::Attacked;
use super::certificates::{Certified, Level};
use super::clean::Clean;
use super::displacement::Displaced;
use super::distance_figures::{self, Found};
use super::distances::Distances;
use super::jobs::Jobs;
use super::radius::radius;
use super::subject::Subject;

/// Everything that was measured.
pub(super) struct Results<'a> {
    pub(super) subject: &'a Subject,
    pub(super) clean: Clean,
    /// One for each radius.
    pub(super) pgd: Vec<Attacked>,
    pub(super) autoattack: Vec<Attacked>,
    pub(super) displaced: Vec<Displaced>,
    pub(super) certified: Certified,
    /// As `tarrl attack --examine --json` has it.
    pub(super) masking: Value,
    /// The nearest mistake of every attacked image.
    pub(super) nearest: Attacked,
    /// The images that are certified.
    pub(super) distances: Distances,
}

impl<'a> Results<'a> {
    pub(super) fn new(
        subject: &'a Subject,
        jobs: &Jobs,
        finished: &BTreeMap<Key, Finished>,
    ) -> anyhow::Result<Self> {
        let attacked =
            |keys: &[Key]| keys.iter().map(|key| finished[key].parse()).collect::<anyhow::Result<Vec<_>>>();
        Ok(Results {
            subject,
            clean: finished[&jobs.clean].parse()?,
            pgd: attacked(&jobs.pgd)?,
            autoattack: attacked(&jobs.autoattack)?,
            displaced: jobs
                .displacement
                .iter()
                .map(|key| finished[key].parse())
                .collect::<anyhow::Result<_>>()?,
            certified: finished[&jobs.certificates].parse()?,
            masking: finished[&jobs.masking].output.clone(),
            nearest: finished[&jobs.nearest].parse()?,
            distances: finished[&jobs.distances].parse()?,
        })
    }

    pub(super) fn report(&self, graph: &Graph, machine: &Value) -> Report {
        let mut tables = vec![self.accuracies(), self.bounds(), self.certificates()];
        tables.extend(self.heads());
        let found = Found { subject: self.subject, nearest: &self.nearest, distances: &self.distances };
        tables.push(distance_figures::table(&found));
        tables.push(self.representation());
        let figures = std::iter::once(self.curve()).chain(distance_figures::figures(&found)).collect();
        Report {
            title: format!("{} on {}", self.subject.name, self.subject.dataset),
            claim: self.claim(),
            subject: "AutoAttack".to_owned(),
            tables,
            figures,
            provenance: self.provenance(graph, machine),
        }
    }

    fn n(&self) -> usize {
        self.subject.indices.len()
    }

    fn claim(&self) -> String {
        let last = self.autoattack.last().expect("there is a radius");
        let percent = |correct: usize, n: usize| format!("{:.1} %", 100.0 * correct as f64 / n as f64);
        let conclusive = if self.masking["conclusive"] == Value::Bool(false) {
            " Signs of masked gradients make this inconclusive."
        } else {
            ""
        };
        format!(
            "A linear head classifies {} of {} test images correctly; within {} ≤ {}, AutoAttack leaves {} of {}.{conclusive}",
            percent(self.clean.correct.correct(), self.clean.correct.0.len()),
            self.clean.correct.0.len(),
            self.subject.norm,
            radius(last.epsilon),
            percent(last.robust(), self.n()),
            self.n(),
        )
    }

    fn keys(&self, attack: &str, epsilon: Option<f64>, metric: &str) -> Keys {
        Keys {
            dataset: self.subject.dataset.clone(),
            protocol: "linear".to_owned(),
            attack: attack.to_owned(),
            epsilon,
            metric: metric.to_owned(),
        }
    }

    fn accuracies(&self) -> Table {
        let column = |label: String| Column { label, ..Column::default() };
        let mut columns = vec![column("clean".to_owned())];
        columns.extend(self.subject.radii.iter().map(|&epsilon| column(format!("ε = {}", radius(epsilon)))));
        let mut table = Table {
            id: "E1".to_owned(),
            title: "Accuracy, clean and under attack".to_owned(),
            caption: "How many test images are classified correctly, whatever an attack within the ball does? The attack goes \
                      through encoder and head together."
                .to_owned(),
            stub: "head and attack".to_owned(),
            columns,
            notes: vec![
                format!(
                    "Accuracy in per cent with 95 % intervals over the images; {} balls. Clean accuracies are of all {} test \
                     images, those under attack of {}.",
                    self.subject.norm,
                    self.clean.correct.0.len(),
                    self.n()
                ),
                "PGD: 50 steps from five random points on the cross-entropy. AutoAttack: the standard version. Without labels: \
                 the accuracy where an ascent of the displacement ended that knows neither label nor head."
                    .to_owned(),
            ],
            ..Table::default()
        };
        let cell = |correct: usize, n: usize, keys: Keys| Some(Cell::measured(accuracy(correct, n), keys));
        let clean = &self.clean.correct;
        let radii = &self.subject.radii;
        let mut none = vec![cell(clean.correct(), clean.0.len(), self.keys("none", None, "accuracy"))];
        none.extend(radii.iter().map(|_| None));
        table.push_row("linear head", none);
        let robust = |attack: &str, found: &[Attacked]| {
            let cells = found
                .iter()
                .map(|at| cell(at.robust(), self.n(), self.keys(attack, Some(at.epsilon), "accuracy")));
            std::iter::once(None).chain(cells).collect::<Vec<_>>()
        };
        table.push_row("PGD", robust("pgd-50", &self.pgd));
        table.push_row("AutoAttack", robust("autoattack", &self.autoattack));
        let blind = self.displaced.iter().map(|at| {
            cell(at.correct.correct(), self.n(), self.keys("displacement", Some(at.epsilon), "accuracy"))
        });
        table.push_row("displacement, without labels", std::iter::once(None).chain(blind).collect());
        if let Some(neighbors) = &self.clean.neighbors {
            let keys = Keys { protocol: "knn-20".to_owned(), ..self.keys("none", None, "accuracy") };
            let mut cells = vec![cell(neighbors.correct(), neighbors.0.len(), keys)];
            cells.extend(radii.iter().map(|_| None));
            table.push_row("twenty nearest neighbors", cells);
        }
        table.notes.extend(self.signs());
        table
    }

    /// What the search for masked gradients found, in sentences.
    fn signs(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let from = |findings: &Value, found: &mut Vec<String>| {
            for finding in findings["findings"].as_array().into_iter().flatten() {
                let blocking = if finding["blocking"] == Value::Bool(true) { " It blocks." } else { "" };
                found.push(format!(
                    "Sign of masked gradients: {}.{blocking}",
                    finding["says"].as_str().unwrap_or_default()
                ));
            }
        };
        from(&self.masking, &mut found);
        self.pgd.iter().chain(&self.autoattack).for_each(|at| from(&at.findings, &mut found));
        if found.is_empty() {
            found.push("No sign of masked gradients was found, which proves nothing.".to_owned());
        }
        let known = &self.masking["known_examples"];
        if let (Some(tested), Some(success)) = (known["tested"].as_u64(), known["success"].as_f64())
            && tested > 0
        {
            found.push(format!(
                "Of examples that are known to exist around {tested} images, PGD finds {:.0} %.",
                100.0 * success
            ));
        }
        found
    }

    fn bounds(&self) -> Table {
        let columns = [
            ("R", "R / spread"),
            ("R", "R"),
            ("loss", "clean"),
            ("loss", "attacked"),
            ("bound", "gap form"),
            ("bound", "clean + C R"),
        ];
        let mut table = Table {
            id: "E2".to_owned(),
            title: "Displacement without labels, and the bound of the head".to_owned(),
            caption: "How far do representations move, and what does the bound make of it? adversarial loss ≤ clean loss + C R."
                .to_owned(),
            stub: "radius".to_owned(),
            columns: columns
                .map(|(group, label)| Column {
                    group: group.to_owned(),
                    label: label.to_owned(),
                    decimals: 3,
                    ..Column::default()
                })
                .to_vec(),
            notes: vec![
                "R is the mean of the largest displacements that attacks reached: a lower bound of the true one, so that the bound \
                 at R certifies nothing. Losses are cross-entropies in nats."
                    .to_owned(),
                format!("C = {:.4} for this head.", self.displaced.first().map_or(0.0, |at| at.bound.constant)),
            ],
            ..Table::default()
        };
        let spread = self.clean.diagnostics.spread;
        for at in &self.displaced {
            let bound = &at.bound;
            let values = [
                ("relative displacement", bound.radius / spread),
                ("displacement", bound.radius),
                ("clean loss", bound.clean),
                ("attacked loss", bound.attacked),
                ("gap bound", bound.gap),
                ("additive bound", bound.additive),
            ];
            let cells = values.map(|(metric, value)| {
                let keys = self.keys("displacement", Some(at.epsilon), metric);
                claims(value).then(|| Cell::measured(mean(value, self.n()), keys))
            });
            table.push_row(format!("ε = {}", radius(at.epsilon)), cells.to_vec());
        }
        table
    }

    /// What is certified, or the sentence that says why nothing is.
    fn certificates(&self) -> Table {
        let labels = ["certified displacement", "certified / reached", "clean", "PGD", "certified"];
        let places: Vec<usize> = super::certificates::places(self.subject);
        let mut table = Table {
            id: "E3".to_owned(),
            title: "Certificates".to_owned(),
            caption: "What can no attack exceed, however strong?".to_owned(),
            stub: "radius".to_owned(),
            columns: labels
                .iter()
                .enumerate()
                .map(|(i, label)| Column {
                    group: if i < 2 { "median" } else { "accuracy of the head" }.to_owned(),
                    label: (*label).to_owned(),
                    decimals: if i < 2 { 3 } else { 1 },
                    ..Column::default()
                })
                .collect(),
            notes: vec![format!(
                "On {} of the attacked images, in real arithmetic with the weights of the file. A dash claims nothing.",
                places.len()
            )],
            ..Table::default()
        };
        if let Some(reason) = &self.certified.refused {
            table.notes.push(format!("Not certified: {reason}."));
        }
        if let Some(epsilon) = self.certified.nothing_from {
            table.notes.push(format!(
                "From ε = {} on nothing is certified, and larger radii were left out.",
                radius(epsilon)
            ));
        }
        for level in &self.certified.levels {
            table.push_row(format!("ε = {}", radius(level.bound.epsilon)), self.level(level));
        }
        if table.rows.is_empty() {
            // A table needs a row to be shown; this one says that there is no claim.
            table.push_row("any radius", vec![None; labels.len()]);
        }
        table
    }

    fn level(&self, level: &Level) -> Vec<Option<Cell>> {
        let BoundLevel { epsilon, tightness, tasks, .. } = &level.bound;
        let n = level.displacement.len();
        let number = |value: f64, metric: &str| {
            claims(value)
                .then(|| Cell::measured(mean(value, n), self.keys("certificate", Some(*epsilon), metric)))
        };
        let own = tasks.first().and_then(|task| Some((task.n, task.correct?)));
        let share = |of: fn(&tarrl_eval::CorrectCounts) -> usize, attack: &str| {
            own.map(|(n, correct)| {
                Cell::measured(
                    accuracy(of(&correct), n),
                    self.keys(attack, Some(*epsilon), "accuracy of certified images"),
                )
            })
        };
        vec![
            number(median(level.displacement.iter().copied()), "certified displacement"),
            number(*tightness, "tightness"),
            share(|c| c.clean, "none"),
            share(|c| c.attacked, "pgd-20"),
            share(|c| c.certified, "certificate"),
        ]
    }

    /// Losses of many heads at the largest radius at which something is certified.
    fn heads(&self) -> Option<Table> {
        let level = self.certified.levels.iter().rev().find(|level| {
            level.bound.tasks.iter().any(|task| task.correct.is_some_and(|correct| correct.certified > 0))
        });
        let level = level.or(self.certified.levels.first())?;
        let columns = ["clean", "attacked", "bound at reached R", "certified"];
        let mut table = Table {
            id: "E4".to_owned(),
            title: format!("The bound for many heads, ε = {}", radius(level.bound.epsilon)),
            caption: "Does one encoder bound the loss of any head? Means over the tasks of each family."
                .to_owned(),
            stub: "family of tasks".to_owned(),
            columns: columns
                .map(|label| Column {
                    group: "loss".to_owned(),
                    label: label.to_owned(),
                    decimals: 3,
                    ..Column::default()
                })
                .to_vec(),
            notes: vec!["Cross-entropies in nats, of numbers squared errors.".to_owned()],
            ..Table::default()
        };
        for family in &level.bound.families {
            table.push_row(family.name.clone(), self.family(family, level.bound.epsilon));
        }
        Some(table)
    }

    fn family(&self, family: &TaskBound, epsilon: f64) -> Vec<Option<Cell>> {
        let cell = |value: &tarrl_eval::Mean, metric: &str| {
            let estimate = Estimate { mean: value.mean, half_width: Some(value.half_width), n: family.n };
            let keys = Keys { protocol: family.name.clone(), ..self.keys("pgd-20", Some(epsilon), metric) };
            claims(value.mean).then(|| Cell::measured(estimate, keys))
        };
        vec![
            cell(&family.clean, "clean loss"),
            cell(&family.attacked, "attacked loss"),
            cell(&family.gap, "gap bound"),
            cell(&family.certified, "certified loss"),
        ]
    }

    fn representation(&self) -> Table {
        let found = &self.clean.diagnostics;
        let values = [
            ("spread", found.spread),
            ("deviation of a feature", found.deviation),
            ("uniformity", found.uniformity),
            ("RankMe", found.rank_me),
            ("effective rank", found.effective_rank),
            ("participation ratio", found.participation),
        ];
        let mut table = Table {
            id: "E5".to_owned(),
            title: "Representations of the test images".to_owned(),
            caption: "How are they spread, and in how many directions?".to_owned(),
            stub: "figure".to_owned(),
            columns: vec![Column { label: "value".to_owned(), decimals: 3, ..Column::default() }],
            folded: true,
            ..Table::default()
        };
        for (name, value) in values {
            let cell = Cell::measured(mean(value, self.subject.test.len()), self.keys("none", None, name));
            table.push_row(name, vec![value.is_finite().then_some(cell)]);
        }
        table
    }

    fn curve(&self) -> Figure {
        let n = self.n();
        let clean = self.subject.indices.iter().filter(|&&i| self.clean.correct.0[i]).count();
        let points = |found: Vec<(f64, usize)>| {
            let all = std::iter::once((0.0, clean)).chain(found);
            all.map(|(x, correct)| {
                let estimate = accuracy(correct, n);
                Point { x, y: estimate.mean, half_width: estimate.half_width, label: String::new() }
            })
            .collect()
        };
        let series = |label: &str, found: Vec<(f64, usize)>| Series {
            label: label.to_owned(),
            points: points(found),
            mark: Mark::Band,
        };
        let robust = |found: &[Attacked]| found.iter().map(|at| (at.epsilon, at.robust())).collect();
        let blind = self.displaced.iter().map(|at| (at.epsilon, at.correct.correct())).collect();
        let axis = |title: String, limits| Axis { title, limits, ..Axis::default() };
        Figure {
            id: "F1".to_owned(),
            title: "Accuracy against the radius".to_owned(),
            caption: format!("{n} test images; the bands are 95 % intervals over them."),
            drawing: Drawing::Chart(Chart {
                x: axis(format!("ε ({})", self.subject.norm), None),
                y: axis("accuracy in per cent".to_owned(), Some((0.0, 100.0))),
                series: vec![
                    series("AutoAttack", robust(&self.autoattack)),
                    series("PGD", robust(&self.pgd)),
                    series("displacement, without labels", blind),
                ],
                references: Vec::new(),
            }),
        }
    }

    fn provenance(&self, graph: &Graph, machine: &Value) -> Provenance {
        let text = |name: &str| machine[name].as_str().unwrap_or("unknown").to_owned();
        let jobs = graph.jobs().iter().map(|job| tarrl_report::Job {
            key: job.key().to_string(),
            title: format!("{}: {}", job.spec().stage.kind, job.spec().name),
        });
        Provenance {
            version: format!("{} (commit {})", text("version"), text("commit")),
            machine: format!("{}, {}, {}", text("cpu"), text("device"), text("rustc")),
            command: "tarrl evaluate".to_owned(),
            seeds: vec![self.subject.seed],
            jobs: jobs.collect(),
            facts: self.subject.facts.clone(),
        }
    }
}

/// An accuracy in per cent with its interval over the images.
fn accuracy(correct: usize, n: usize) -> Estimate {
    let interval = Interval::accuracy(correct, n);
    Estimate { mean: 100.0 * interval.mean, half_width: Some(100.0 * interval.half_width), n }
}

/// Whether a mean says something: one image without any claim makes it larger than any other.
fn claims(mean: f64) -> bool {
    mean.is_finite() && mean < 1e-9 * NO_CLAIM
}

fn mean(value: f64, n: usize) -> Estimate {
    Estimate { mean: value, half_width: None, n }
}
