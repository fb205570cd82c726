//! Distances (F6): robust accuracy at every radius from one run in each norm, with the certified curve of the same encoder
//! below it, and the interval of each image; the same without labels.

use tarrl_attacks::Norm;
use tarrl_eval::{RadiusInterval, median};
use tarrl_report::{Cell, Column, Drawing, Figure, Keys, Table};

use super::cells::{added_for, over_seeds, per_method_of};
use super::{Artifact, Rendered, Results};
use crate::distance_charts::{curve, found_and_certified, intervals};
use crate::layout::{Layout, MethodJobs};
use crate::profile::{Distances, Profile};
use crate::stages::distances::{self, DistancesResult, ImageDistances, NormDistances};
use tarrl_jobs::Key;

/// Two curves per method, and the intervals of the subject.
pub(super) struct DistanceCurve;

/// A distance of an image.
type Of = fn(&ImageDistances) -> RadiusInterval;

impl Artifact for DistanceCurve {
    fn id(&self) -> &'static str {
        "F6"
    }

    fn title(&self) -> &'static str {
        "Accuracy at every radius, and what is certified"
    }

    fn requires(&self, profile: &Profile) -> Result<(), String> {
        settings(profile).map(|_| ())
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        let settings = settings(&layout.context.profile).map_err(anyhow::Error::msg)?.clone();
        let asks = |name: &str| settings.asks(name);
        Ok(added_for(layout, &asks, |layout, job, title, seed| {
            let inputs = [job.pretrain, job.head];
            vec![distances::job(&layout.context, inputs, &layout.manifest, &settings, title, seed)]
        }))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let settings = settings(results.profile()).map_err(anyhow::Error::msg)?;
        let methods: Vec<&MethodJobs> =
            results.layout.methods.iter().filter(|method| settings.asks(&method.name)).collect();
        let found: Vec<Vec<DistancesResult>> = per_method_of(results, methods.len())?;
        let all: Vec<(&MethodJobs, Vec<DistancesResult>)> = methods.into_iter().zip(found).collect();
        let counts = format!(
            "{} test images, at most {} passes for each; a step is an image. Within the ball of its certified radius no \
             attack can succeed; within that of the distance found one has.",
            settings.images, settings.passes
        );
        let mut figures = vec![
            curves(
                &all,
                settings,
                |image| image.mistake,
                [
                    self.id(),
                    self.title(),
                    "accuracy in per cent",
                    &format!(
                        "Share of images whose nearest mistake is farther than ε: one run of the minimum-norm ensemble gives the \
                     accuracy at every radius. {counts}"
                    ),
                ],
            ),
            curves(
                &all,
                settings,
                |image| image.moved,
                [
                    "F6-moved",
                    "Representations that stay, at every radius, without labels",
                    "images in per cent",
                    &format!(
                        "Share of images whose representation no perturbation of length ε was found to move by {} of the spread \
                     of all representations. {counts}",
                        settings.share
                    ),
                ],
            ),
        ];
        let own = all.iter().find(|(method, _)| results.subject().is_some_and(|own| own.name == method.name));
        figures.extend(own.or(all.first()).map(|(method, seeds)| bars(method, &seeds[0])));
        Ok(Rendered { tables: vec![self.table(results, &all, settings)], figures, ..Rendered::default() })
    }
}

/// One of the distances of an image, if it is known.
type Length = fn(&ImageDistances) -> Option<f64>;

impl DistanceCurve {
    fn table(
        &self,
        results: &Results<'_>,
        all: &[(&MethodJobs, Vec<DistancesResult>)],
        settings: &Distances,
    ) -> Table {
        let labels = ["mistake", "certified", "moved", "certified, moved"];
        let kinds: [(&str, Length); 4] = [
            ("nearest mistake", |image| image.mistake.found),
            ("certified radius", |image| image.mistake.certified),
            ("nearest move", |image| image.moved.found),
            ("certified radius of moves", |image| image.moved.certified),
        ];
        let mut table = Table {
            id: "F6-medians".into(),
            title: "Distance of the nearest mistake".into(),
            caption: "How far is the nearest mistake of an image, how far the nearest point that moves its representation, and \
                      what is certified? Medians over the images."
                .into(),
            stub: "method".into(),
            notes: vec![format!(
                "Moved: by {} of the spread of the representations of the test images, without labels. A dash: no point was \
                 found for half of the images, or certificates know no such norm. {} test images, those that the head gets \
                 wrong with distance 0.",
                settings.share, settings.images
            )],
            ..Table::default()
        };
        for norm in &settings.norms {
            table.columns.extend(labels.map(|label| Column {
                group: norm.to_string(),
                label: label.into(),
                decimals: 4,
                ..Column::default()
            }));
        }
        for (method, seeds) in all {
            let mut cells = Vec::new();
            for (number, norm) in settings.norms.iter().enumerate() {
                for (metric, of) in kinds {
                    // An image without a distance is farther than every other.
                    let middle = |seed: &DistancesResult| {
                        median(seed.norms[number].images.iter().map(|image| of(image).unwrap_or(f64::MAX)))
                    };
                    let medians: Vec<f64> = seeds.iter().map(middle).collect();
                    let keys = Keys {
                        dataset: results.profile().dataset.clone(),
                        protocol: "linear".into(),
                        attack: format!("nearest, {norm}"),
                        epsilon: None,
                        metric: metric.into(),
                    };
                    let known = medians.iter().all(|median| *median < 0.5 * f64::MAX);
                    cells.push(known.then(|| Cell::measured(over_seeds(&medians), keys)));
                }
            }
            table.push_row(method.method.title.clone(), cells);
        }
        table
    }
}

fn settings(profile: &Profile) -> Result<&Distances, String> {
    profile.distances.as_ref().ok_or_else(|| "shows `distances`; add `distances` or remove it".to_owned())
}

/// A panel for each norm; of each method what was found and what is certified, over the images of all seeds.
fn curves(
    all: &[(&MethodJobs, Vec<DistancesResult>)],
    settings: &Distances,
    of: Of,
    [id, title, y, caption]: [&str; 4],
) -> Figure {
    let panel = |(number, norm): (usize, &Norm)| {
        let lists = all.iter().flat_map(|(method, seeds)| {
            let images = seeds.iter().flat_map(|seed| seed.norms[number].images.iter().map(of));
            found_and_certified(&method.method.title, &images.collect::<Vec<_>>())
        });
        (norm.to_string(), curve(*norm, y, lists.collect()))
    };
    let panels = settings.norms.iter().enumerate().map(panel).collect();
    Figure { id: id.into(), title: title.into(), caption: caption.into(), drawing: Drawing::Panels(panels) }
}

/// The interval of each image that the head gets right, from the certified radius to the distance found.
fn bars(method: &MethodJobs, result: &DistancesResult) -> Figure {
    let panel = |found: &NormDistances| {
        let images: Vec<RadiusInterval> = found.images.iter().map(|image| image.mistake).collect();
        (found.norm.to_string(), intervals(found.norm, &method.method.title, &images))
    };
    Figure {
        id: "F6-intervals".into(),
        title: format!("Where the nearest mistake of each image is, {}", method.method.title),
        caption: "A bar for each image that the head gets right: the distance of its nearest mistake lies between the certified \
                  radius, its lower end, and what the attack found, its upper end."
            .into(),
        drawing: Drawing::Panels(result.norms.iter().map(panel).collect()),
    }
}
