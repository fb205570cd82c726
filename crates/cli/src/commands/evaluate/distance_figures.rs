//! Figures and table of distances: accuracy at every radius, what is certified below it, and the same without labels.

use tarrl_eval::{RadiusInterval, median};
use tarrl_report::{Cell, Column, Drawing, Estimate, Figure, Keys, Table};
use tarrl_study::distance_charts::{curve, found_and_certified, intervals};
use tarrl_study::stages::distances::ImageDistances;

use super::attacks::{Attacked, PASSES};
use super::distances::{Distances, SHARE};
use super::subject::Subject;

/// What is drawn.
pub(super) struct Found<'a> {
    pub(super) subject: &'a Subject,
    /// The nearest mistake of every attacked image.
    pub(super) nearest: &'a Attacked,
    /// The images that are certified.
    pub(super) distances: &'a Distances,
}

/// The intervals of the images that are certified.
fn certified(results: &Found<'_>, of: fn(&ImageDistances) -> RadiusInterval) -> Vec<RadiusInterval> {
    results.distances.images.iter().map(of).collect()
}

/// The curve of all attacked images with the certified one, the same without labels, and a bar for each image.
pub(super) fn figures(results: &Found<'_>) -> Vec<Figure> {
    let norm = results.subject.norm;
    let (mistakes, moves) =
        (certified(results, |image| image.mistake), certified(results, |image| image.moved));
    let all = results.nearest.images.iter().map(|image| image.distance).collect();
    let mut lists = vec![("nearest mistake".to_owned(), all)];
    lists.extend(found_and_certified("nearest mistake", &mistakes).into_iter().skip(1));
    let figure = |id: &str, title: &str, caption: String, chart| Figure {
        id: id.to_owned(),
        title: title.to_owned(),
        caption,
        drawing: Drawing::Chart(chart),
    };
    vec![
        figure(
            "F2",
            "Accuracy at every radius, and what is certified",
            format!(
                "The share of images whose nearest mistake is farther than ε, from one run of at most {PASSES} passes for each \
                 of {} images; the certified share is of {} of them.",
                results.subject.indices.len(),
                mistakes.len()
            ),
            curve(norm, "accuracy in per cent", lists),
        ),
        figure(
            "F3",
            "Representations that stay, at every radius, without labels",
            format!(
                "The share of {} images whose representation no perturbation of length ε was found to move by {SHARE} of the \
                 spread of all representations.",
                moves.len()
            ),
            curve(norm, "images in per cent", found_and_certified("nearest move", &moves)),
        ),
        figure(
            "F4",
            "Where the nearest mistake of each image is",
            "A bar for each image that the head gets right: the distance of its nearest mistake lies between the certified \
             radius and what the attack found."
                .to_owned(),
            intervals(norm, "nearest mistake", &mistakes),
        ),
    ]
}

/// Medians of the distances over the images that are certified.
pub(super) fn table(results: &Found<'_>) -> Table {
    let mut table = Table {
        id: "E6".to_owned(),
        title: "Distance of the nearest mistake".to_owned(),
        caption: "How far is the nearest mistake of an image, how far the nearest point that moves its representation? Medians."
            .to_owned(),
        stub: "nearest".to_owned(),
        columns: ["found", "certified"]
            .map(|label| Column { label: label.to_owned(), decimals: 4, ..Column::default() })
            .to_vec(),
        notes: vec![format!(
            "{} distances of {} images; an image that the head gets wrong has distance 0. Moved: by {SHARE} of the spread of \
             all representations. A dash: no point was found for half of the images, or nothing can be certified.",
            results.subject.norm,
            results.distances.images.len()
        )],
        ..Table::default()
    };
    let middle = |values: Vec<Option<f64>>, metric: &str| {
        let n = values.len();
        // An image without a distance is farther than every other.
        let middle = median(values.into_iter().map(|value| value.unwrap_or(f64::MAX)));
        let estimate = Estimate { mean: middle, half_width: None, n };
        let keys = Keys {
            dataset: results.subject.dataset.clone(),
            protocol: "linear".to_owned(),
            attack: "nearest".to_owned(),
            epsilon: None,
            metric: metric.to_owned(),
        };
        (middle < 0.5 * f64::MAX).then(|| Cell::measured(estimate, keys))
    };
    let mut row = |label: &str, metric: &str, all: Vec<RadiusInterval>| {
        let found = all.iter().map(|interval| interval.found).collect();
        let certified = all.iter().map(|interval| interval.certified).collect();
        table.push_row(
            label,
            vec![
                middle(found, &format!("distance of the nearest {metric}")),
                middle(certified, &format!("certified radius of the nearest {metric}")),
            ],
        );
    };
    row("mistake", "mistake", certified(results, |image| image.mistake));
    row("move, without labels", "move", certified(results, |image| image.moved));
    table
}
