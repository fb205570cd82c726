//! Bound scatter (F3): how far attacks raise the loss, against C·R.

use tarrl_report::{Axis, Chart, Drawing, Figure, Mark, Point, Reference, Scale, Series};

use super::cells::{keys, radius};
use super::{Artifact, Rendered, Results};
use crate::layout::Layout;
use crate::stages::bound::BoundResult;
use tarrl_jobs::Key;

/// Increases below this are shown as this: the axis is logarithmic.
const LEAST: f64 = 1e-4;

/// A point for each encoder, classifying task and radius, below the line of the bound.
pub(super) struct BoundScatter;

impl Artifact for BoundScatter {
    fn id(&self) -> &'static str {
        "F3"
    }

    fn title(&self) -> &'static str {
        "What attacks add to the loss, against C·R"
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        Ok(keys(&layout.methods, |job| vec![job.bound]))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let mut panels = Vec::new();
        for (i, epsilon) in results.profile().bound_epsilons().into_iter().enumerate() {
            let mut series = Vec::new();
            for method in results.methods() {
                let outputs: Vec<BoundResult> = results.of(method, |jobs| Some(jobs.bound))?;
                let tasks = outputs.iter().flat_map(|output| &output.levels[i].tasks);
                let points = tasks.filter(|task| task.correct.is_some()).map(|task| Point {
                    x: task.bound_increase.max(LEAST),
                    y: (task.attacked.mean - task.clean.mean).max(LEAST),
                    ..Point::default()
                });
                let label = method.method.title.clone();
                series.push(Series { label, points: points.collect(), mark: Mark::Points });
            }
            let axis = |title: &str| Axis { title: title.into(), scale: Scale::Log, ..Axis::default() };
            let chart = Chart {
                x: axis("C(h) R(f), nats"),
                y: axis("attacked loss − clean loss, nats"),
                series,
                references: vec![Reference::identity("the bound")],
            };
            panels.push((radius(epsilon), chart));
        }
        let figure = Figure {
            id: self.id().into(),
            title: self.title().into(),
            caption: "Each point is one encoder with one head: the constant of the head times the mean of the largest \
                      displacements that attacks reached, and how much attacks raised the mean loss. The bound says that \
                      no point lies above the line."
                .into(),
            drawing: Drawing::Panels(panels),
        };
        Ok(Rendered { figures: vec![figure], ..Rendered::default() })
    }
}
