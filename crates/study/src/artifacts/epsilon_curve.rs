//! Epsilon curve (F1): robust accuracy against the radius under each attack, with example images.

use tarrl_report::{Axis, Chart, Drawing, Estimate, Figure, Mark, Point, Reference, Series};

use super::cells::{accuracy, attacks, keys, radius};
use super::{Artifact, Rendered, Results, examples};
use crate::layout::{Layout, MethodJobs};
use crate::profile::AttackedHead;
use crate::stages::autoattack::AutoAttackResult;
use tarrl_jobs::Key;

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
        let classes = results.context().source(&profile.dataset)?.manifest()?.classes.len();
        let chart = |series| Chart {
            x: Axis { title: "radius ε of the l∞ ball, pixels in [0, 1]".into(), ..Axis::default() },
            y: Axis { title: "accuracy in per cent".into(), range: Some((0.0, 100.0)), ..Axis::default() },
            series,
            references: vec![Reference::level(100.0 / classes as f64, "chance")],
        };
        let mut panels = vec![(format!("PGD-{}", profile.attack.steps), chart(under_pgd(results)?))];
        if profile.attack.autoattack > 0 && profile.attack.autoattack_head == AttackedHead::Selected {
            let heading = format!("AutoAttack, {} images", profile.attack.autoattack);
            panels.push((heading, chart(under_autoattack(results)?)));
        }
        let figure = Figure {
            id: self.id().into(),
            title: self.title().into(),
            caption: "Accuracy of the linear head under attack as the radius grows, down to chance and below: an attacked \
                      classifier does worse than a coin. Bands are 95 % intervals."
                .into(),
            drawing: match panels.len() {
                1 => Drawing::Chart(panels.swap_remove(0).1),
                _ => Drawing::Panels(panels),
            },
        };
        let figures = [figure].into_iter().chain(examples::figure(results)?).collect();
        Ok(Rendered { figures, claim: claim(results)?, ..Rendered::default() })
    }
}

fn under_pgd(results: &Results<'_>) -> anyhow::Result<Vec<Series>> {
    let mut series = Vec::new();
    for method in results.methods() {
        let attacks = attacks(results, method)?;
        let mut points = vec![point(0.0, attacks.iter().map(|a| (a.clean_correct, a.n)))];
        for level in &attacks[0].curve {
            let epsilon = level.epsilon;
            points.push(point(epsilon, attacks.iter().map(|a| (a.correct_at(epsilon), a.n))));
        }
        series.push(Series { label: method.method.title.clone(), points, mark: Mark::Band });
    }
    Ok(series)
}

fn under_autoattack(results: &Results<'_>) -> anyhow::Result<Vec<Series>> {
    let mut series = Vec::new();
    for method in results.methods() {
        let suite: Vec<AutoAttackResult> = results.of(method, |jobs| jobs.autoattack)?;
        let mut points = vec![point(0.0, suite.iter().map(|a| (a.clean_correct, a.n)))];
        for level in &suite[0].levels {
            let epsilon = level.epsilon;
            points.push(point(epsilon, suite.iter().map(|a| (a.correct_at(epsilon), a.n))));
        }
        series.push(Series { label: method.method.title.clone(), points, mark: Mark::Band });
    }
    Ok(series)
}

fn point(epsilon: f64, counts: impl Iterator<Item = (usize, usize)>) -> Point {
    let estimate = accuracy(counts);
    Point { x: epsilon, y: estimate.mean, half_width: estimate.half_width, ..Point::default() }
}

/// The subject beside the best of the others that learn without labels, at the largest radius of the tables.
fn claim(results: &Results<'_>) -> anyhow::Result<Option<String>> {
    let profile = results.profile();
    let (Some(subject), Some(epsilon)) = (results.subject(), profile.attack.epsilons.last()) else {
        return Ok(None);
    };
    let epsilon = epsilon.value();
    let robust = |method: &MethodJobs| -> anyhow::Result<Estimate> {
        Ok(accuracy(attacks(results, method)?.iter().map(|a| (a.correct_at(epsilon), a.n))))
    };
    let others = results.methods().iter().filter(|m| m.name != subject.name && !m.method.uses_labels());
    let mut best: Option<(&MethodJobs, Estimate)> = None;
    for method in others {
        let estimate = robust(method)?;
        if best.is_none_or(|(_, top)| estimate.mean > top.mean) {
            best = Some((method, estimate));
        }
    }
    let Some((other, theirs)) = best else { return Ok(None) };
    let ours = robust(subject)?;
    let share = |e: Estimate| format!("{:.1} % ± {:.1}", e.mean, e.half_width.unwrap_or(0.0));
    Ok(Some(format!(
        "Under PGD-{} at {}, {} classifies {} of the test images correctly; {}, the best of the other methods that learn \
         without labels, {}.",
        profile.attack.steps,
        radius(epsilon),
        subject.method.title,
        share(ours),
        other.method.title,
        share(theirs)
    )))
}
