//! Example images: clean, attacked and the enlarged perturbation; part of the epsilon curve (F1).

use anyhow::Context;
use tarrl_report::{Drawing, Figure, GridRow, ImageGrid, Picture};

use super::Results;
use super::cells::radius;
use crate::layout::MethodJobs;
use crate::stages::attack::{EXAMPLES, Example};

/// Images of the first method, the subject and the last method, at the largest radius of the tables; nothing without
/// methods.
pub(super) fn figure(results: &Results<'_>) -> anyhow::Result<Option<Figure>> {
    let methods = results.methods();
    let Some(epsilon) = results.profile().attack.epsilons.last().map(|e| e.value()) else {
        return Ok(None);
    };
    let classes = results.context().source(&results.profile().dataset)?.manifest()?.classes;
    let subject = results.subject().and_then(|subject| methods.iter().position(|m| m.name == subject.name));
    let mut grid = ImageGrid::default();
    for index in chosen(methods.len(), subject) {
        let method = &methods[index];
        let examples = read(results, method, epsilon)?;
        if grid.rows.is_empty() {
            grid = clean(&examples, &classes);
        }
        grid.rows.extend(attacked(&method.method.title, &examples, &classes));
    }
    if grid.rows.is_empty() {
        return Ok(None);
    }
    Ok(Some(Figure {
        id: "examples".into(),
        title: format!("Attacked images at {}", radius(epsilon)),
        caption: "The first test images. Below an attacked image stands what the head makes of it, after an arrow where \
                  that differs from what it made of the clean image. In the change, gray is nothing and black and white \
                  are ∓ε."
            .into(),
        drawing: Drawing::Grid(grid),
    }))
}

/// The first of `count` methods, the subject and the last, each once.
fn chosen(count: usize, subject: Option<usize>) -> Vec<usize> {
    let mut chosen: Vec<usize> = [Some(0), subject, count.checked_sub(1)].into_iter().flatten().collect();
    chosen.retain(|&index| index < count);
    chosen.dedup();
    chosen
}

fn read(results: &Results<'_>, method: &MethodJobs, epsilon: f64) -> anyhow::Result<Vec<Example>> {
    let path = results.finished[&method.seeds[0].attack].folder.join(EXAMPLES);
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let examples: Vec<Example> =
        serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))?;
    Ok(examples.into_iter().filter(|example| example.epsilon == epsilon).collect())
}

/// A grid with the clean images and their labels.
fn clean(examples: &[Example], classes: &[String]) -> ImageGrid {
    let images = examples.iter().map(|e| (Picture::new(e.shape, e.clean.clone()), name(classes, e.label)));
    let row = GridRow { label: "clean, with label".into(), images: images.collect() };
    ImageGrid { columns: vec![String::new(); examples.len()], rows: vec![row] }
}

/// The attacked images of a method, and what the attack changed.
fn attacked(title: &str, examples: &[Example], classes: &[String]) -> [GridRow; 2] {
    let answer = |e: &Example| {
        let (before, after) = (name(classes, e.prediction), name(classes, e.attacked_prediction));
        if before == after { before } else { format!("{before}\n→ {after}") }
    };
    let images = examples.iter().map(|e| (Picture::new(e.shape, e.attacked.clone()), answer(e)));
    let changes = examples.iter().map(|e| (Picture::new(e.shape, e.change.clone()), String::new()));
    [
        GridRow { label: format!("{title}: attacked"), images: images.collect() },
        GridRow { label: format!("{title}: change"), images: changes.collect() },
    ]
}

fn name(classes: &[String], class: u32) -> String {
    classes.get(class as usize).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_among_the_examples_and_no_method_stands_twice() {
        assert_eq!(chosen(6, Some(4)), [0, 4, 5]);
        assert_eq!(chosen(6, None), [0, 5]);
        for (count, subject, expected) in [(3, 0, vec![0, 2]), (3, 2, vec![0, 2]), (1, 0, vec![0])] {
            assert_eq!(chosen(count, Some(subject)), expected);
        }
        assert_eq!(chosen(0, None), [0; 0]);
    }

    #[test]
    fn an_arrow_shows_what_the_attack_made_of_the_answer() {
        let example = |prediction, attacked_prediction| Example {
            epsilon: 0.1,
            shape: [1, 1, 1],
            label: 0,
            prediction,
            attacked_prediction,
            clean: vec![0],
            attacked: vec![9],
            change: vec![200],
        };
        let classes = ["coat".to_owned(), "shirt".to_owned()];
        let [images, change] = attacked("TARR", &[example(0, 1), example(1, 1)], &classes);
        let words: Vec<&str> = images.images.iter().map(|(_, words)| words.as_str()).collect();
        assert_eq!((images.label.as_str(), words), ("TARR: attacked", vec!["coat\n→ shirt", "shirt"]));
        assert_eq!(change.images[0], (Picture::new([1, 1, 1], vec![200]), String::new()));
        assert_eq!(clean(&[example(0, 1)], &classes).rows[0].images[0].1, "coat");
    }
}
