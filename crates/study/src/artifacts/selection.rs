//! Selection table (T8): the trials that hyperparameters were selected from, on held-out training images.

use tarrl_report::{Best, Cell, Column, Keys, Table};

use super::at_clean::{Paired, frontiers, most_clean, robust};
use super::cells::{accuracy, keys, radius};
use super::{Artifact, Rendered, Results};
use crate::layout::Layout;
use crate::profile::Profile;
use tarrl_jobs::Key;

/// What was tried for each method, and which of it is chosen?
pub(super) struct Selection;

impl Artifact for Selection {
    fn id(&self) -> &'static str {
        "T8"
    }

    fn title(&self) -> &'static str {
        "Selection of hyperparameters on held-out training images"
    }

    fn requires(&self, profile: &Profile) -> Result<(), String> {
        match (profile.trials.is_empty(), &profile.frontier) {
            (true, _) => Err("shows `trial`; add trials or remove it".to_owned()),
            (_, None) => Err("compares trials on `frontier`; add `frontier` or remove it".to_owned()),
            _ => Ok(()),
        }
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        let methods = layout.trials.iter().map(|(_, method)| method);
        Ok(keys(methods, |job| job.frontier.into_iter().collect()))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let profile = results.profile();
        let trials = &results.layout.trials;
        let clean = profile.frontier.as_ref().map_or(0.0, |frontier| frontier.clean);
        let frontiers = frontiers(results, trials.iter().map(|(_, method)| method))?;
        let epsilons: Vec<f64> = profile.attack.epsilons.iter().map(|e| e.value()).collect();
        let levels: Vec<Paired> = (0..epsilons.len()).map(|level| robust(&frontiers, level, clean)).collect();
        let scores: Vec<Option<f64>> = (0..trials.len()).map(|i| score(&levels, i)).collect();
        let chosen = |i: usize| {
            let rivals = (0..trials.len()).filter(|&j| trials[j].1.name == trials[i].1.name);
            let best =
                rivals.filter_map(|j| Some((j, scores[j]?))).reduce(|a, b| if b.1 > a.1 { b } else { a });
            best.is_some_and(|(best, _)| best == i)
        };
        let column = |label: String, best| Column { label, best, ..Column::default() };
        let mut columns = vec![column("largest clean".to_owned(), None)];
        columns.extend(epsilons.iter().map(|&e| column(radius(e), None)));
        columns.push(column("mean over ε".to_owned(), Some(Best::Highest)));
        let mut table = Table {
            id: self.id().into(),
            title: self.title().into(),
            caption: format!(
                "What was tried? Robust accuracy under PGD-{} at {:.1} % clean accuracy; the trial with the largest mean over \
                 the radii is chosen for its method.",
                profile.attack.steps,
                100.0 * clean
            ),
            stub: "method and what is set".into(),
            columns,
            notes: vec![format!(
                "{} training images are held out and evaluated on in the place of the test images, which are not used; \
                 seeds {} to {}. A dash: with one seed or more no head reaches the clean accuracy.",
                profile.subset.holdout.unwrap_or(0),
                profile.seeds().start,
                profile.seeds().end - 1
            )],
            ..Table::default()
        };
        for (i, (label, method)) in trials.iter().enumerate() {
            let keys = |attack: String, epsilon: Option<f64>, metric: &str| Keys {
                dataset: format!("{}, held out", profile.dataset),
                protocol: format!("linear, clean accuracy {clean}"),
                attack,
                epsilon,
                metric: metric.into(),
            };
            let pgd = format!("pgd-{}", profile.attack.steps);
            let most = accuracy(most_clean(&frontiers[i]));
            let mut cells =
                vec![Some(Cell::measured(most, keys("none".into(), None, "largest clean accuracy")))];
            for (level, &epsilon) in levels.iter().zip(&epsilons) {
                let estimate = level.estimate(i);
                cells.push(estimate.map(|e| Cell::measured(e, keys(pgd.clone(), Some(epsilon), "accuracy"))));
            }
            let mean = scores[i].map(|mean| tarrl_report::Estimate {
                mean,
                half_width: None,
                n: profile.seeds as usize,
            });
            cells.push(mean.map(|e| Cell::measured(e, keys(pgd, None, "mean accuracy"))));
            let mark = if chosen(i) { " (chosen)" } else { "" };
            table.push_row(format!("{}: {label}{mark}", method.method.title), cells);
        }
        Ok(Rendered { tables: vec![table], ..Rendered::default() })
    }
}

/// The mean over the radii of a trial's robust accuracy, if it has one at each.
fn score(levels: &[Paired], trial: usize) -> Option<f64> {
    let values: Option<Vec<f64>> = levels.iter().map(|level| Some(level.estimate(trial)?.mean)).collect();
    let values = values?;
    Some(values.iter().sum::<f64>() / values.len() as f64)
}
