//! T5: does the bound hold, and how tight is it?

use tarrl_eval::Interval;
use tarrl_report::{Cell, Column, Estimate, Keys, Table};

use super::{Results, interval_note, radius};
use crate::stages::bound::{Level, Mean, Output, TaskLevel};

/// The value of one seed, the half-width of its interval over samples if it has one, and the number of samples.
type Sampled = (f64, Option<f64>, usize);

/// A quantity of a task: its column, its name in files, and where it is found.
type Quantity = (&'static str, &'static str, fn(&TaskLevel) -> Mean);

const QUANTITIES: [Quantity; 4] = [
    ("clean loss", "clean-loss", |t| t.clean),
    ("attacked loss", "attacked-loss", |t| t.attacked),
    ("bound", "bound", |t| t.gap),
    ("additive bound", "additive-bound", |t| t.additive),
];

/// The table and what it shows in sentences.
pub(super) fn table(results: &Results<'_>) -> anyhow::Result<(Table, Vec<String>)> {
    let profile = &results.lab.profile;
    let epsilons: Vec<f64> = profile.attack.epsilons.iter().map(|e| e.value()).collect();
    let mut columns = Vec::new();
    for &epsilon in &epsilons {
        let column =
            |label: &str| Column { group: radius(epsilon), label: label.into(), best: None, decimals: 3 };
        columns.push(column("R / spread"));
        columns.extend(QUANTITIES.iter().map(|(label, ..)| column(label)));
        columns.push(column("bound / attacked"));
    }
    let mut table = Table {
        id: "T5".into(),
        title: "The bound beside the loss that attacks reach".into(),
        caption: "Does the bound hold, and how tight is it? One encoder, five tasks that it was not trained for. Losses \
                  are cross-entropies in nats."
            .into(),
        stub: "method and task".into(),
        columns,
        notes: vec![
            interval_note(results.lab),
            "R is the mean of the largest displacements that attacks reached, a lower bound of the true one: the table \
             verifies the theorem at the attacked points and certifies nothing. R / spread is R over the mean distance \
             of the representations from their mean."
                .into(),
        ],
        ..Table::default()
    };
    let (mut pairs, mut displacements) = (0, Vec::new());
    for row in &results.study.rows {
        let outputs: Vec<Output> = results.of(row, |jobs| jobs.bound, |f| f.parse())?;
        let at = |level: usize| outputs.iter().map(move |output| &output.levels[level]);
        let moved =
            |level: usize| over_seeds(at(level).map(|l| (l.displacement, None, l.tasks[0].n)), outputs.len());
        displacements.push(format!("{} {:.3}", row.method.title, moved(0).mean));
        for task in 0..outputs[0].levels[0].tasks.len() {
            let name = &outputs[0].levels[0].tasks[task].name;
            let mut cells = Vec::new();
            for (i, &epsilon) in epsilons.iter().enumerate() {
                let keys = |metric: &str| Keys {
                    dataset: profile.dataset.clone(),
                    protocol: name.clone(),
                    attack: format!("pgd-{}", profile.attack.steps),
                    epsilon: Some(epsilon),
                    metric: metric.into(),
                };
                let of = |pick: &dyn Fn(&Level) -> Sampled| over_seeds(at(i).map(pick), outputs.len());
                cells.push(Some(Cell::measured(moved(i), keys("relative-displacement"))));
                for (_, metric, quantity) in QUANTITIES {
                    let mean = of(&|level| {
                        let Mean { mean, half_width } = quantity(&level.tasks[task]);
                        (mean, Some(half_width), level.tasks[task].n)
                    });
                    cells.push(Some(Cell::measured(mean, keys(metric))));
                }
                let ratio = of(&|level| {
                    let found = &level.tasks[task];
                    (found.gap.mean / found.attacked.mean, None, found.n)
                });
                cells.push(Some(Cell::measured(ratio, keys("bound-over-attacked"))));
                pairs += at(i).map(|level| level.tasks[task].n).sum::<usize>();
            }
            table.push_row(format!("{}: {name}", row.method.title), cells);
        }
    }
    let findings = vec![
        format!(
            "The bound holds at every one of {pairs} pairs of sample and task (a single violation would have stopped the study)."
        ),
        format!(
            "Displacement relative to the spread at {}: {}.",
            radius(epsilons[0]),
            displacements.join(", ")
        ),
    ];
    Ok((table, findings))
}

/// The mean over seeds; of one seed the value itself, with its interval over samples if it has one.
fn over_seeds(values: impl Iterator<Item = Sampled>, seeds: usize) -> Estimate {
    let values: Vec<_> = values.collect();
    match values[..] {
        [(mean, half_width, n)] => Estimate { mean, half_width, n },
        _ => {
            let interval = Interval::over_seeds(&values.iter().map(|v| v.0).collect::<Vec<_>>());
            Estimate { mean: interval.mean, half_width: Some(interval.half_width), n: seeds }
        }
    }
}
