//! F1: robust accuracy against ε.

use tarrl_report::{Axis, Chart, Drawing, Figure, Mark, Point, Reference, Series};

use super::{Results, accuracy};
use crate::stages::{attack, autoattack};

/// A curve per method, down to chance.
pub(super) fn figure(results: &Results<'_>) -> anyhow::Result<Figure> {
    let profile = &results.lab.profile;
    let mut series = Vec::new();
    for row in &results.study.rows {
        let attacks: Vec<attack::Output> = results.of(row, |jobs| jobs.attack, |f| f.parse())?;
        let point = |epsilon: f64, count: &dyn Fn(&attack::Output) -> usize| {
            let estimate = accuracy(&attacks.iter().map(|a| (count(a), a.n)).collect::<Vec<_>>());
            Point { x: epsilon, y: estimate.mean, half_width: estimate.half_width, ..Point::default() }
        };
        let mut points = vec![point(0.0, &|a| a.clean_correct)];
        for level in &attacks[0].curve {
            points.push(point(level.epsilon, &|a| a.correct_at(level.epsilon)));
        }
        series.push(Series { label: row.method.title.clone(), points, mark: Mark::Band });
    }
    for row in &results.study.rows {
        let suite = results.autoattack(row)?;
        if suite.is_empty() {
            continue;
        }
        let point = |epsilon: f64, count: &dyn Fn(&autoattack::Output) -> usize| {
            let estimate = accuracy(&suite.iter().map(|a| (count(a), a.n)).collect::<Vec<_>>());
            Point { x: epsilon, y: estimate.mean, half_width: estimate.half_width, ..Point::default() }
        };
        let mut points = vec![point(0.0, &|a| a.clean_correct)];
        for level in &suite[0].levels {
            points.push(point(level.epsilon, &|a| a.correct_at(level.epsilon)));
        }
        let label = format!("{}, AutoAttack (n = {})", row.method.title, suite[0].n);
        series.push(Series { label, points, mark: Mark::Band });
    }
    let classes = results.lab.catalog.manifest(&profile.dataset)?.classes.len();
    Ok(Figure {
        id: "F1".into(),
        title: "Robust accuracy against ε".into(),
        caption: format!(
            "Accuracy of the linear head under PGD-{}, and under AutoAttack where it was run, as the radius of the l∞ ball grows, down to chance and below: an \
             attacked classifier does worse than a coin.",
            profile.attack.steps
        ),
        drawing: Drawing::Chart(Chart {
            x: Axis { title: "radius ε of the l∞ ball, in pixels of [0, 1]".into(), ..Axis::default() },
            y: Axis { title: "accuracy in per cent".into(), range: Some((0.0, 100.0)), ..Axis::default() },
            series,
            references: vec![Reference::level(100.0 / classes as f64, "chance")],
        }),
    })
}
