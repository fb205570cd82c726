//! T1: is it more robust than the baselines?

use tarrl_report::{Best, Cell, Column, Keys, Table};

use super::{Results, accuracy, beside, interval_note, radius};
use crate::stages::{attack, head};

/// The table and what it shows in a sentence.
pub(super) fn table(results: &Results<'_>) -> anyhow::Result<(Table, Vec<String>)> {
    let profile = &results.lab.profile;
    let column = |group: &str, label: &str| Column {
        group: group.into(),
        label: label.into(),
        best: Some(Best::Highest),
        decimals: 1,
    };
    let pgd = format!("PGD-{}", profile.attack.steps);
    let mut columns = vec![column("linear head", "clean")];
    columns.extend(
        profile
            .attack
            .epsilons
            .iter()
            .map(|e| column("linear head", &format!("{pgd}, {}", radius(e.value())))),
    );
    let images = profile.attack.autoattack;
    if images > 0 {
        let label = |e: f64| format!("AutoAttack, {} (n = {images})", radius(e));
        columns.extend(profile.attack.epsilons.iter().map(|e| column("linear head", &label(e.value()))));
    }
    columns.push(column("nearest neighbors", "clean"));
    let mut table = Table {
        id: "T1".into(),
        title: "Robust accuracy of a linear head on frozen representations".into(),
        caption: "Is it more robust than the baselines? The head is trained on clean images, with labels and without \
                  any adversarial training; the attack goes through head and encoder together."
            .into(),
        stub: "method".into(),
        columns,
        notes: vec![
            interval_note(results.lab),
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
    let mut findings = Vec::new();
    for row in &results.study.rows {
        let attacks: Vec<attack::Output> = results.of(row, |jobs| jobs.attack, |f| f.parse())?;
        let heads: Vec<head::Output> = results.of(row, |jobs| jobs.head, head::parse)?;
        let keys = |protocol: &str, attack: &str, epsilon: Option<f64>| Keys {
            dataset: profile.dataset.clone(),
            protocol: protocol.into(),
            attack: attack.into(),
            epsilon,
            metric: "accuracy".into(),
        };
        let clean: Vec<_> = attacks.iter().map(|a| (a.clean_correct, a.n)).collect();
        let clean = accuracy(&clean);
        let mut sentence = format!("{}: {:.1} % clean", row.method.title, clean.mean);
        let mut cells = vec![Some(Cell::measured(clean, keys("linear", "none", None)))];
        for epsilon in &profile.attack.epsilons {
            let epsilon = epsilon.value();
            let counts: Vec<_> = attacks.iter().map(|a| (a.correct_at(epsilon), a.n)).collect();
            let robust = accuracy(&counts);
            sentence += &format!(", {:.1} % under {pgd} at {}", robust.mean, radius(epsilon));
            cells.push(Some(Cell::measured(robust, keys("linear", &pgd.to_lowercase(), Some(epsilon)))));
        }
        let suite = results.autoattack(row)?;
        for epsilon in profile.attack.epsilons.iter().filter(|_| !suite.is_empty()) {
            let epsilon = epsilon.value();
            let robust = accuracy(&suite.iter().map(|a| (a.correct_at(epsilon), a.n)).collect::<Vec<_>>());
            sentence += &format!(", {:.1} % under AutoAttack at {}", robust.mean, radius(epsilon));
            cells.push(Some(Cell::measured(robust, keys("linear", "autoattack", Some(epsilon)))));
        }
        let near: Vec<_> = heads.iter().map(|h| (h.knn_correct, h.n)).collect();
        cells.push(Some(Cell::measured(accuracy(&near), keys("knn-20", "none", None))));
        table.push_row(row.method.title.clone(), cells);
        findings.push(sentence + ".");
    }
    beside::add(results, &mut table)?;
    Ok((table, findings))
}
