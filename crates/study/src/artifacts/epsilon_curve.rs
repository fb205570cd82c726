//! Epsilon curve (F1): robust accuracy against the radius, with example images.

use tarrl_report::{Axis, Chart, Drawing, Figure, Mark, Point, Reference, Series};

use super::cells::{accuracy, attacks, keys};
use super::{Artifact, Rendered, Results, examples};
use crate::jobs::Key;
use crate::layout::Layout;
use crate::stages::attack::AttackResult;
use crate::stages::autoattack::AutoAttackResult;

/// A curve per method, down to chance.
pub(super) struct EpsilonCurve;

impl Artifact for EpsilonCurve {
    fn id(&self) -> &'static str {
        "F1"
    }

    fn title(&self) -> &'static str {
        "Robust accuracy against ε"
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        Ok(keys(&layout.methods, |job| [job.head, job.attack].into_iter().chain(job.autoattack).collect()))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let profile = results.profile();
        let mut series = Vec::new();
        for method in results.methods() {
            let attacks = attacks(results, method)?;
            let point = |epsilon: f64, count: &dyn Fn(&AttackResult) -> usize| {
                let estimate = accuracy(attacks.iter().map(|a| (count(a), a.n)));
                Point { x: epsilon, y: estimate.mean, half_width: estimate.half_width, ..Point::default() }
            };
            let mut points = vec![point(0.0, &|a| a.clean_correct)];
            for level in &attacks[0].curve {
                points.push(point(level.epsilon, &|a| a.correct_at(level.epsilon)));
            }
            series.push(Series { label: method.method.title.clone(), points, mark: Mark::Band });
        }
        for method in results.methods() {
            let suite: Vec<AutoAttackResult> = results.of(method, |jobs| jobs.autoattack)?;
            if suite.is_empty() {
                continue;
            }
            let point = |epsilon: f64, count: &dyn Fn(&AutoAttackResult) -> usize| {
                let estimate = accuracy(suite.iter().map(|a| (count(a), a.n)));
                Point { x: epsilon, y: estimate.mean, half_width: estimate.half_width, ..Point::default() }
            };
            let mut points = vec![point(0.0, &|a| a.clean_correct)];
            for level in &suite[0].levels {
                points.push(point(level.epsilon, &|a| a.correct_at(level.epsilon)));
            }
            let label = format!("{}, AutoAttack (n = {})", method.method.title, suite[0].n);
            series.push(Series { label, points, mark: Mark::Band });
        }
        let classes = results.context().catalog.manifest(&profile.dataset)?.classes.len();
        let figure = Figure {
            id: self.id().into(),
            title: self.title().into(),
            caption: format!(
                "Accuracy of the linear head under PGD-{}, and under AutoAttack where it was run, as the radius of the l∞ ball grows, down to chance and below: an \
             attacked classifier does worse than a coin.",
                profile.attack.steps
            ),
            drawing: Drawing::Chart(Chart {
                x: Axis {
                    title: "radius ε of the l∞ ball, in pixels of [0, 1]".into(), ..Axis::default()
                },
                y: Axis {
                    title: "accuracy in per cent".into(),
                    range: Some((0.0, 100.0)),
                    ..Axis::default()
                },
                series,
                references: vec![Reference::level(100.0 / classes as f64, "chance")],
            }),
        };
        let figures = [figure].into_iter().chain(examples::figure(results)?).collect();
        Ok(Rendered { figures, ..Rendered::default() })
    }
}
