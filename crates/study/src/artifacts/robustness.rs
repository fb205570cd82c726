//! Robustness table (T1): clean and attacked accuracy of a linear head.

use tarrl_report::{Best, Cell, Column, Heading, Keys, Table};

use super::cells::{accuracy, attacks, interval_note, keys, radius};
use super::{Artifact, Rendered, Results, published_columns};
use crate::layout::{Layout, MethodJobs};
use crate::profile::AttackedHead;
use crate::stages::autoattack::AutoAttackResult;
use crate::stages::head::HeadResult;
use tarrl_jobs::Key;

/// Is it more robust than the baselines?
pub(super) struct Robustness;

impl Artifact for Robustness {
    fn id(&self) -> &'static str {
        "T1"
    }

    fn title(&self) -> &'static str {
        "Robust accuracy of a linear head on frozen representations"
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        Ok(keys(&layout.methods, |job| [job.head, job.attack].into_iter().chain(job.autoattack).collect()))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let mut table = empty_table(self, results);
        for method in results.methods() {
            table.push_row(method.method.title.clone(), row(results, method)?);
        }
        published_columns::add(results, &mut table)?;
        Ok(Rendered { tables: vec![table], ..Rendered::default() })
    }
}

fn empty_table(artifact: &Robustness, results: &Results<'_>) -> Table {
    let profile = results.profile();
    // In files by head, on the page by radius.
    let column = |[group, label]: [&str; 2], page: [&str; 2]| Column {
        group: group.into(),
        label: label.into(),
        best: Some(Best::Highest),
        decimals: 1,
        page: Some(Heading { group: page[0].into(), label: page[1].into() }),
    };
    let attack = &profile.attack;
    let images = if attack.autoattack_head == AttackedHead::Selected { attack.autoattack } else { 0 };
    let attacks = [
        (format!("PGD-{}", profile.attack.steps), String::new()),
        ("AutoAttack".to_owned(), format!(" (n = {images})")),
    ];
    let mut columns = vec![column(["linear head", "clean"], ["clean", "linear head"])];
    for (attack, count) in &attacks[..if images > 0 { 2 } else { 1 }] {
        columns.extend(profile.attack.epsilons.iter().map(|e| {
            let at = radius(e.value());
            let label = format!("{attack}, {at}{count}");
            // On the page the number of images stays in one piece.
            let page = format!("{attack}{count}").replace(" = ", "\u{a0}=\u{a0}");
            column(["linear head", &label], [&at, &page])
        }));
    }
    columns.push(column(["nearest neighbors", "clean"], ["clean", "nearest neighbors"]));
    let mut table = Table {
        id: artifact.id().into(),
        title: artifact.title().into(),
        caption: "Is it more robust than the baselines? The head is trained on clean images, with labels and without \
                  any adversarial training; the attack goes through head and encoder together."
            .into(),
        stub: "method".into(),
        columns,
        notes: vec![
            interval_note(results),
            format!(
                "Accuracy in per cent; l∞ attack with {} restart(s), a sample counts as broken if any attack up to the \
                 radius broke it.",
                profile.attack.restarts
            ),
        ],
        ..Table::default()
    };
    if images > 0 {
        table.notes.push(format!(
            "AutoAttack: the standard version, on {images} test images for each seed, balanced over the classes; compare \
             its columns with PGD's within their intervals, because PGD is run on all test images."
        ));
    }
    if let Some(adversary) = profile.adversary {
        table.notes.push(format!(
            "Every method that is trained against an attack is trained at {} of the l∞ ball.",
            radius(adversary.epsilon.value())
        ));
    }
    table
}

/// The cells of a method.
fn row(results: &Results<'_>, method: &MethodJobs) -> anyhow::Result<Vec<Option<Cell>>> {
    let profile = results.profile();
    let pgd = format!("PGD-{}", profile.attack.steps);
    let attacks = attacks(results, method)?;
    let heads: Vec<HeadResult> = results.of(method, |jobs| Some(jobs.head))?;
    let keys = |protocol: &str, attack: &str, epsilon: Option<f64>| Keys {
        dataset: profile.dataset.clone(),
        protocol: protocol.into(),
        attack: attack.into(),
        epsilon,
        metric: "accuracy".into(),
    };
    let clean = accuracy(attacks.iter().map(|a| (a.clean_correct, a.n)));
    let mut cells = vec![Some(Cell::measured(clean, keys("linear", "none", None)))];
    for epsilon in &profile.attack.epsilons {
        let epsilon = epsilon.value();
        let robust = accuracy(attacks.iter().map(|a| (a.correct_at(epsilon), a.n)));
        cells.push(Some(Cell::measured(robust, keys("linear", &pgd.to_lowercase(), Some(epsilon)))));
    }
    let suite: Vec<AutoAttackResult> = results.of(method, |jobs| jobs.autoattack)?;
    for epsilon in profile.attack.epsilons.iter().filter(|_| !suite.is_empty()) {
        let epsilon = epsilon.value();
        let robust = accuracy(suite.iter().map(|a| (a.correct_at(epsilon), a.n)));
        cells.push(Some(Cell::measured(robust, keys("linear", "autoattack", Some(epsilon)))));
    }
    let near = accuracy(heads.iter().map(|h| (h.knn_correct, h.n)));
    cells.push(Some(Cell::measured(near, keys("knn-20", "none", None))));
    Ok(cells)
}
