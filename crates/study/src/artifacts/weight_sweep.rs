//! Weight sweep (F2): clean against robust accuracy as the weight λ of the regularizer grows.

use tarrl_report::{Axis, Chart, Drawing, Figure, Mark, Point, Series};

use super::cells::{accuracy, attacks, keys, radius};
use super::{Artifact, Rendered, Results};
use crate::layout::{Layout, MethodJobs};
use crate::profile::Profile;
use tarrl_jobs::Key;

/// A curve per divergence, and the methods of T1 as points.
pub(super) struct WeightSweep;

impl Artifact for WeightSweep {
    fn id(&self) -> &'static str {
        "F2"
    }

    fn title(&self) -> &'static str {
        "Clean against robust accuracy"
    }

    fn requires(&self, profile: &Profile) -> Result<(), String> {
        match profile.sweep {
            Some(_) => Ok(()),
            None => Err("shows `sweep`; add `sweep` or remove it".to_owned()),
        }
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        let points = layout.sweep.iter().flat_map(|curve| curve.points.iter().map(|(_, method)| method));
        Ok(keys(points.chain(&layout.methods), |job| vec![job.attack]))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let profile = results.profile();
        let epsilon = profile.attack.epsilons[0].value();
        let point = |method: &MethodJobs, label: String| -> anyhow::Result<Point> {
            let attacks = attacks(results, method)?;
            let clean = accuracy(attacks.iter().map(|a| (a.clean_correct, a.n)));
            let robust = accuracy(attacks.iter().map(|a| (a.correct_at(epsilon), a.n)));
            Ok(Point { x: clean.mean, y: robust.mean, half_width: robust.half_width, label })
        };
        let mut series = Vec::new();
        for curve in &results.layout.sweep {
            let points = curve.points.iter().map(|(weight, method)| point(method, format!("λ = {weight}")));
            let points = points.collect::<anyhow::Result<_>>()?;
            series.push(Series { label: curve.label.clone(), points, mark: Mark::Path });
        }
        for method in results.methods() {
            let points = vec![point(method, String::new())?];
            series.push(Series { label: method.method.title.clone(), points, mark: Mark::Points });
        }
        let axis = |title: &str| Axis { title: title.into(), limits: Some((0.0, 100.0)), ..Axis::default() };
        let figure = Figure {
            id: self.id().into(),
            title: format!("{} at {}", self.title(), radius(epsilon)),
            caption: format!(
                "Each curve is one divergence of the regularizer with growing weight λ; single marks are the methods of T1. \
             Up and to the right is better. Robust is PGD-{} on the linear head.",
                profile.attack.steps
            ),
            drawing: Drawing::Chart(Chart {
                x: axis("clean accuracy in per cent"),
                y: axis("robust accuracy in per cent"),
                series,
                references: Vec::new(),
            }),
        };
        Ok(Rendered { figures: vec![figure], ..Rendered::default() })
    }
}
