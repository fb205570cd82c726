//! Universal perturbations (F5): accuracy of the linear head under one perturbation for all images, made without labels.

use tarrl_report::{Axis, Chart, Drawing, Figure, Mark, Point, Reference, Series};

use super::cells::{accuracy, added, asked, per_method, tasks};
use super::{Artifact, Rendered, Results};
use crate::layout::Layout;
use crate::profile::Profile;
use crate::stages::universal::{self, UniversalResult};
use tarrl_jobs::Key;

/// A curve per method.
pub(super) struct Universal;

impl Artifact for Universal {
    fn id(&self) -> &'static str {
        "F5"
    }

    fn title(&self) -> &'static str {
        "Accuracy under one perturbation for all images"
    }

    fn requires(&self, profile: &Profile) -> Result<(), String> {
        tasks(profile).map(|_| ())
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        let settings = tasks(&layout.context.profile).map_err(anyhow::Error::msg)?.clone();
        Ok(added(layout, |layout, job, title, seed| {
            let inputs = [job.pretrain, job.head];
            vec![universal::job(&layout.context, inputs, &layout.manifest, &settings, title, seed)]
        }))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let classes = results.layout.manifest.classes.len();
        let mut series = Vec::new();
        for (method, seeds) in asked(results.layout).into_iter().zip(per_method::<UniversalResult>(results)?)
        {
            let point = |(level, &(epsilon, _)): (usize, &(f64, usize))| {
                let estimate = accuracy(seeds.iter().map(|seed| (seed.levels[level].1, seed.n)));
                Point { x: epsilon, y: estimate.mean, half_width: estimate.half_width, ..Point::default() }
            };
            let points = seeds[0].levels.iter().enumerate().map(point).collect();
            series.push(Series { label: method.method.title.clone(), points, mark: Mark::Band });
        }
        let figure = Figure {
            id: self.id().into(),
            title: self.title().into(),
            caption: "Accuracy of the linear head on test images that are all moved by one perturbation, the one that moves \
                      the representations of training images the farthest in the mean. No label is used to make it. Bands \
                      are 95 % intervals."
                .into(),
            drawing: Drawing::Chart(Chart {
                x: Axis { title: "radius ε of the l∞ ball, pixels in [0, 1]".into(), ..Axis::default() },
                y: Axis { title: "accuracy in per cent".into(), range: Some((0.0, 100.0)), ..Axis::default() },
                series,
                references: vec![Reference::level(100.0 / classes as f64, "chance")],
            }),
        };
        Ok(Rendered { figures: vec![figure], ..Rendered::default() })
    }
}
