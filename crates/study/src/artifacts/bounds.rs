//! Bound table (T5): clean, attacked, bounded and certified loss and accuracy, by family and by task.

use tarrl_eval::{BoundLevel, CorrectCounts, Interval, Mean, NO_CLAIM, TaskBound};
use tarrl_report::{Cell, Column, Estimate, Heading, Keys, Table};

use super::cells::{interval_note, keys, radius};
use super::{Artifact, Rendered, Results};
use crate::layout::Layout;
use crate::stages::bound::BoundResult;
use tarrl_jobs::Key;

/// The value of one seed, the half-width of its interval over samples if it has one, and the number of samples.
type Sampled = (f64, Option<f64>, usize);

/// A column of one radius: its heading, its name in files, its digits, and where it is found.
type Quantity = (&'static str, &'static str, usize, fn(&TaskBound) -> Option<Sampled>);

const QUANTITIES: [Quantity; 7] = [
    ("attacked loss", "attacked-loss", 3, |t| mean(t, t.attacked)),
    ("bound", "bound", 2, |t| mean(t, t.gap)),
    ("certified loss", "certified-loss", 2, |t| mean(t, t.certified)),
    ("certified / attacked, worst task", "certified-over-attacked", 2, |t| Some((t.worst_ratio, None, t.n))),
    ("accuracy, clean", "clean-accuracy", 1, |t| accuracy(t, |c| c.clean)),
    ("attacked", "attacked-accuracy", 1, |t| accuracy(t, |c| c.attacked)),
    ("certified", "certified-accuracy", 1, |t| accuracy(t, |c| c.certified)),
];

/// Does the bound hold, how tight is it, and what is certified?
pub(super) struct Bounds;

impl Artifact for Bounds {
    fn id(&self) -> &'static str {
        "T5"
    }

    fn title(&self) -> &'static str {
        "Bound and certificates beside the loss that attacks reach"
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        Ok(keys(&layout.methods, |job| vec![job.bound]))
    }

    /// The families of tasks, then every task in a table that starts closed.
    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let families = table(results, |level| &level.families)?;
        let tasks = table(results, |level| &level.tasks)?;
        let first = &outputs(results, 0)?[0].levels[0];
        let families = Table {
            id: self.id().into(),
            title: self.title().into(),
            caption: format!(
                "Does the bound hold, and how tight is it? One encoder each, {} tasks that it was not trained for; means over \
             the tasks of a family. Losses are cross-entropies in nats, squared errors for numbers.",
                first.tasks.len()
            ),
            notes: notes(results)?,
            ..families
        };
        let tasks = Table {
            id: format!("{}-tasks", self.id()),
            title: "The same, task by task".into(),
            folded: true,
            ..tasks
        };
        Ok(Rendered { tables: vec![families, tasks], ..Rendered::default() })
    }
}

fn notes(results: &Results<'_>) -> anyhow::Result<Vec<String>> {
    let mut notes = vec![
        held(results)?,
        interval_note(results),
        "Heads are linear and fitted to clean images, with a fixed weight of the squared norm of standardized features: 0.1, \
         and 1 for the short head. Bound: the gap \
         form at the largest displacement that any attack reached, which verifies the theorem and certifies nothing. \
         Certified: no attack within ε can do worse; stored linear forms of the encoder, made before any task was known, \
         applied to each head. Attack points are computed again in f64, as certificates are."
            .into(),
        format!(
            "Attacked accuracy is under all attacks of all tasks together (PGD-{} on each loss and on the displacement).",
            results.profile().attack.steps
        ),
    ];
    notes.extend(tightness(results)?);
    Ok(notes)
}

/// On how many pairs of sample and task bound and certificates were checked.
fn held(results: &Results<'_>) -> anyhow::Result<String> {
    let mut pairs = 0;
    for method in 0..results.methods().len() {
        let levels = outputs(results, method)?.into_iter().flat_map(|output| output.levels);
        pairs += levels.flat_map(|level| level.tasks).map(|task| task.n).sum::<usize>();
    }
    Ok(format!(
        "Bound and certificates hold at every one of {pairs} pairs of sample and task (a single violation would have \
         stopped the study)."
    ))
}

/// How far certified displacements lie above attacked ones, a sentence for each radius.
fn tightness(results: &Results<'_>) -> anyhow::Result<Vec<String>> {
    let mut sentences = Vec::new();
    for (i, epsilon) in results.profile().bound_epsilons().into_iter().enumerate() {
        let mut ratios = Vec::new();
        for (m, method) in results.methods().iter().enumerate() {
            let level = outputs(results, m)?.swap_remove(0).levels.swap_remove(i);
            ratios.push(format!("{} {:.2}", method.method.title, level.tightness));
        }
        sentences.push(format!(
            "Certified displacement over the largest that an attack reached, median over the samples of the first seed, \
             {}: {}.",
            radius(epsilon),
            ratios.join(", ")
        ));
    }
    Ok(sentences)
}

fn outputs(results: &Results<'_>, method: usize) -> anyhow::Result<Vec<BoundResult>> {
    results.of(&results.methods()[method], |jobs| Some(jobs.bound))
}

fn table(results: &Results<'_>, of: fn(&BoundLevel) -> &Vec<TaskBound>) -> anyhow::Result<Table> {
    let profile = results.profile();
    let epsilons = profile.bound_epsilons();
    let column = |group: String, label: &str, decimals| Column {
        group,
        label: label.into(),
        decimals,
        ..Column::default()
    };
    let mut columns = vec![column(String::new(), "clean loss", 3)];
    for &epsilon in &epsilons {
        columns
            .extend(QUANTITIES.iter().map(|(label, _, digits, _)| column(radius(epsilon), label, *digits)));
    }
    let mut table = Table { stub: "method and task".into(), columns, ..Table::default() };
    for (i, method) in results.methods().iter().enumerate() {
        let outputs = outputs(results, i)?;
        for task in 0..of(&outputs[0].levels[0]).len() {
            let name = &of(&outputs[0].levels[0])[task].name;
            let cell = |level: usize, epsilon, metric: &str, quantity: fn(&TaskBound) -> Option<Sampled>| {
                let found: Option<Vec<Sampled>> =
                    outputs.iter().map(|output| quantity(&of(&output.levels[level])[task])).collect();
                let keys = Keys {
                    dataset: profile.dataset.clone(),
                    protocol: name.clone(),
                    attack: format!("pgd-{}", profile.attack.steps),
                    epsilon,
                    metric: metric.into(),
                };
                let found = found.map(over_seeds).filter(|e| e.mean < 1e-3 * NO_CLAIM);
                found.map(|estimate| Cell::measured(estimate, keys))
            };
            let mut cells = vec![cell(0, None, "clean-loss", |t| mean(t, t.clean))];
            for (level, &epsilon) in epsilons.iter().enumerate() {
                for (_, metric, _, quantity) in QUANTITIES {
                    cells.push(cell(level, Some(epsilon), metric, quantity));
                }
            }
            table.push_row(format!("{}: {name}", method.method.title), cells);
            let heading = Heading { group: name.clone(), label: method.method.title.clone() };
            table.rows.last_mut().expect("pushed above").page = Some(heading);
        }
    }
    Ok(table)
}

fn mean(task: &TaskBound, of: Mean) -> Option<Sampled> {
    Some((of.mean, of.half_width.is_finite().then_some(of.half_width), task.n))
}

/// A share in per cent, of all images and tasks; with an interval where there is one task.
fn accuracy(task: &TaskBound, which: fn(&CorrectCounts) -> usize) -> Option<Sampled> {
    let counted = which(&task.correct?);
    let share = 100.0 * counted as f64 / (task.n * task.tasks) as f64;
    let interval = (task.tasks == 1).then(|| 100.0 * Interval::accuracy(counted, task.n).half_width);
    Some((share, interval, task.n))
}

/// The mean over seeds; of one seed the value itself, with its interval over samples if it has one.
fn over_seeds(values: impl IntoIterator<Item = Sampled>) -> Estimate {
    let values: Vec<_> = values.into_iter().collect();
    match values[..] {
        [(mean, half_width, n)] => Estimate { mean, half_width, n },
        _ => {
            let interval = Interval::over_seeds(&values.iter().map(|v| v.0).collect::<Vec<_>>());
            Estimate { mean: interval.mean, half_width: Some(interval.half_width), n: values.len() }
        }
    }
}
