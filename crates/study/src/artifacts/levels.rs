//! Columns that repeat for several groups: clean accuracy, and accuracy at each radius of the tables.

use tarrl_report::{Best, Cell, Column, Estimate, Keys};

use super::Results;
use super::cells::radius;

/// One column for clean accuracy and one for each radius, in every group.
pub(super) fn columns(results: &Results<'_>, groups: &[String]) -> Vec<Column> {
    let radii = results.profile().attack.epsilons.iter().map(|e| radius(e.value()));
    let labels: Vec<String> = ["clean".to_owned()].into_iter().chain(radii).collect();
    let column = |group: &String, label: &String| Column {
        group: group.clone(),
        label: label.clone(),
        best: Some(Best::Highest),
        ..Column::default()
    };
    groups.iter().flat_map(|group| labels.iter().map(|label| column(group, label))).collect()
}

/// The cells of one group: what `of` gives for clean images (`None`) and for the radius at a place.
pub(super) fn cells(
    results: &Results<'_>,
    [dataset, protocol, attack, metric]: [&str; 4],
    of: impl Fn(Option<usize>) -> Estimate,
) -> Vec<Option<Cell>> {
    let keys = |attack: &str, epsilon: Option<f64>| Keys {
        dataset: dataset.into(),
        protocol: protocol.into(),
        attack: attack.into(),
        epsilon,
        metric: metric.into(),
    };
    let epsilons = results.profile().attack.epsilons.iter().map(|e| e.value()).enumerate();
    let attacked = epsilons.map(|(level, e)| Some(Cell::measured(of(Some(level)), keys(attack, Some(e)))));
    [Some(Cell::measured(of(None), keys("none", None)))].into_iter().chain(attacked).collect()
}
