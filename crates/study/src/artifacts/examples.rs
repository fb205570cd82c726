//! Example images: clean, the enlarged perturbation, attacked; part of the epsilon curve (F1).

use anyhow::Context;
use tarrl_report::{Drawing, Figure, GridRow, ImageGrid, Picture};

use super::Results;
use super::cells::radius;
use crate::stages::attack::{EXAMPLES, Example};

/// Images of the first method and of the last, at the largest radius of the tables; nothing without methods.
pub(super) fn figure(results: &Results<'_>) -> anyhow::Result<Option<Figure>> {
    let methods = results.methods();
    let (Some(first), Some(last)) = (methods.first(), methods.last()) else { return Ok(None) };
    let Some(epsilon) = results.profile().attack.epsilons.last().map(|e| e.value()) else {
        return Ok(None);
    };
    let classes = results.context().catalog.manifest(&results.profile().dataset)?.classes;
    let mut grid = ImageGrid::default();
    for method in if methods.len() > 1 { vec![first, last] } else { vec![first] } {
        let path = results.finished[&method.seeds[0].attack].folder.join(EXAMPLES);
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let examples: Vec<Example> =
            serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))?;
        let examples: Vec<&Example> = examples.iter().filter(|e| e.epsilon == epsilon).collect();
        let line = |label: &str,
                    pixels: &dyn Fn(&Example) -> &Vec<u8>,
                    caption: &dyn Fn(&Example) -> String| GridRow {
            label: format!("{}: {label}", method.method.title),
            images: examples.iter().map(|e| (Picture::new(e.shape, pixels(e).clone()), caption(e))).collect(),
        };
        let named = |class: u32| classes.get(class as usize).cloned().unwrap_or_default();
        grid.columns = examples.iter().map(|e| named(e.label)).collect();
        grid.rows.push(line("clean", &|e| &e.clean, &|e| named(e.prediction)));
        grid.rows.push(line("change, enlarged", &|e| &e.change, &|_| String::new()));
        grid.rows.push(line("attacked", &|e| &e.attacked, &|e| named(e.attacked_prediction)));
    }
    Ok(Some(Figure {
        id: "examples".into(),
        title: format!("Attacked images at {}", radius(epsilon)),
        caption: "The first test images. Above each column what it shows, below each image what the head says. In the \
                  change, gray is nothing and black and white are ∓ε."
            .into(),
        drawing: Drawing::Grid(grid),
    }))
}
