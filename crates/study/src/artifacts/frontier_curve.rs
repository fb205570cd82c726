//! Frontier curve (F4): clean against robust accuracy as the regularization of the head changes, one panel per radius.

use tarrl_eval::Interval;
use tarrl_report::{Axis, Chart, Drawing, Figure, Mark, Point, Series};

use super::at_clean::frontiers;
use super::cells::{accuracy, keys, radius};
use super::{Artifact, Rendered, Results};
use crate::layout::Layout;
use crate::profile::Profile;
use crate::stages::frontier::FrontierResult;
use tarrl_jobs::Key;

/// A line per method through the heads from strong to weak regularization.
pub(super) struct FrontierCurve;

impl Artifact for FrontierCurve {
    fn id(&self) -> &'static str {
        "F4"
    }

    fn title(&self) -> &'static str {
        "Frontier of clean and robust accuracy over heads"
    }

    fn requires(&self, profile: &Profile) -> Result<(), String> {
        match profile.frontier {
            Some(_) => Ok(()),
            None => Err("shows `frontier`; add `frontier` or remove it".to_owned()),
        }
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        Ok(keys(&layout.methods, |job| job.frontier.into_iter().collect()))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let profile = results.profile();
        let frontiers = frontiers(results, results.methods())?;
        let axis = |title: &str| Axis { title: title.into(), limits: Some((0.0, 100.0)), ..Axis::default() };
        let panel = |(level, epsilon): (usize, f64)| {
            let series = results.methods().iter().zip(&frontiers).map(|(method, seeds)| Series {
                label: method.method.title.clone(),
                points: points(seeds, level),
                mark: Mark::Path,
            });
            let chart = Chart {
                x: axis("clean accuracy in per cent"),
                y: axis("robust accuracy in per cent"),
                series: series.collect(),
                references: Vec::new(),
            };
            (radius(epsilon), chart)
        };
        let mut panels: Vec<_> =
            profile.attack.epsilons.iter().map(|e| e.value()).enumerate().map(panel).collect();
        let figure = Figure {
            id: self.id().into(),
            title: self.title().into(),
            caption: format!(
                "Each line is one method, each mark a linear head on its representation; the regularization of the head \
                 falls along the line. Up and to the right is better: of two lines, the upper one has the more robust \
                 representation at the same clean accuracy. Robust is PGD-{}.",
                profile.attack.steps
            ),
            drawing: match panels.len() {
                1 => Drawing::Chart(panels.swap_remove(0).1),
                _ => Drawing::Panels(panels),
            },
        };
        Ok(Rendered { figures: vec![figure], ..Rendered::default() })
    }
}

/// The mean over seeds of each head, with the interval of its robust accuracy over seeds if there are several.
fn points(seeds: &[FrontierResult], level: usize) -> Vec<Point> {
    let heads = seeds.first().map_or(0, |first| first.heads.len());
    let point = |head: usize| {
        let clean = accuracy(seeds.iter().map(|s| {
            let outcomes = &s.heads[head].clean;
            (outcomes.correct(), outcomes.0.len())
        }));
        let robust: Vec<f64> = seeds.iter().map(|s| 100.0 * s.heads[head].robust[level].accuracy()).collect();
        let interval = (robust.len() > 1).then(|| Interval::over_seeds(&robust));
        let y = interval.map_or(robust[0], |interval| interval.mean);
        Point { x: clean.mean, y, half_width: interval.map(|i| i.half_width), label: String::new() }
    };
    (0..heads).map(point).collect()
}
