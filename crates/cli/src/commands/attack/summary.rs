//! Attack summary: the printed table and the JSON report.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tarrl_bound::confidence::{accuracy_lower, accuracy_upper};
use tarrl_eval::CONFIDENCE;

use tarrl_study::attack_state::ImageOutcome;

/// Accuracies after each attack, and the mean cost.
pub(super) struct Summary {
    title: String,
    n: usize,
    /// An attack, the images that it broke, and those that are left after it.
    lines: Vec<(String, usize, usize)>,
    forward: f64,
    backward: f64,
    /// The median distance of the nearest mistakes, for attacks that look for them.
    distance: Option<f64>,
}

impl Summary {
    /// The summary of all images; `names` are the attacks in their order.
    pub(super) fn new(title: String, names: &[&str], images: &[ImageOutcome]) -> Self {
        let n = images.len();
        let mut broken: BTreeMap<&str, usize> = BTreeMap::new();
        for origin in images.iter().filter(|row| row.broken).filter_map(|row| row.origin.as_ref()) {
            *broken.entry(origin.attack.as_str()).or_default() += 1;
        }
        let mut left = n;
        let mut lines = Vec::new();
        for name in std::iter::once("clean").chain(names.iter().copied()) {
            let by = broken.get(name).copied().unwrap_or(0);
            left -= by;
            lines.push((name.to_owned(), by, left));
        }
        let mean = |of: fn(&ImageOutcome) -> u32| {
            images.iter().map(|row| f64::from(of(row))).sum::<f64>() / n as f64
        };
        let mut distances: Vec<f64> = images.iter().filter_map(|row| row.distance).collect();
        distances.sort_by(f64::total_cmp);
        let distance = distances.get(distances.len() / 2).copied();
        Summary {
            title,
            n,
            lines,
            forward: mean(|row| row.forward),
            backward: mean(|row| row.backward),
            distance,
        }
    }

    pub(super) fn table(&self) -> String {
        let mut text = format!("{}, {} images\n\n", self.title, self.n);
        text += "| attack        | broken | left | accuracy | 95 % interval  |\n";
        text += "|---------------|-------:|-----:|---------:|---------------:|\n";
        for (name, broken, left) in &self.lines {
            let (low, high) = interval(*left, self.n);
            let percent = 100.0 * *left as f64 / self.n as f64;
            let range = format!("{:.1} … {:.1}", 100.0 * low, 100.0 * high);
            text += &format!("| {name:<13} | {broken:>6} | {left:>4} | {percent:>6.1} % | {range:>14} |\n");
        }
        if let Some(distance) = self.distance {
            text += &format!("\nMedian distance of the nearest mistakes found: {distance:.4}.\n");
        }
        text + &format!(
            "\nPasses of an image on average: {:.0} forward, {:.0} backward.\n",
            self.forward, self.backward
        )
    }

    /// Clean and robust accuracy with their intervals, and every image with its label and its place in the test set.
    pub(super) fn report(&self, images: &[ImageOutcome], labels: &[u32], indices: &[usize]) -> Value {
        let accuracy = |correct: usize| {
            let (low, high) = interval(correct, self.n);
            let accuracy = correct as f64 / self.n as f64;
            json!({"correct": correct, "n": self.n, "accuracy": accuracy, "low": low, "high": high})
        };
        let sample = |((row, label), index): ((&ImageOutcome, &u32), &usize)| {
            json!({
                "index": index, "label": label, "robust": !row.broken, "margin": row.margin,
                "distance": row.distance, "broken_by": row.origin.as_ref().filter(|_| row.broken),
                "forward": row.forward, "backward": row.backward, "flags": row.flags,
                "found_by": row.found_by, "first_mistake": row.first_mistake,
            })
        };
        json!({
            "confidence": CONFIDENCE,
            "interval": "clopper-pearson",
            "clean": accuracy(self.lines[0].2),
            "robust": accuracy(self.lines[self.lines.len() - 1].2),
            "samples": images.iter().zip(labels).zip(indices).map(sample).collect::<Vec<_>>(),
        })
    }
}

/// The exact interval of an accuracy (Clopper and Pearson).
fn interval(correct: usize, n: usize) -> (f64, f64) {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    (accuracy_lower(correct, n, tail), accuracy_upper(correct, n, tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_attacks::Origin;

    /// One lost from the start, four to APGD, five left.
    fn images() -> Vec<ImageOutcome> {
        let by = |attack: Option<&str>| ImageOutcome {
            broken: attack.is_some(),
            origin: attack.map(|attack| Origin { attack: attack.to_owned(), ..Origin::default() }),
            forward: 7,
            backward: 3,
            ..ImageOutcome::default()
        };
        [vec![by(Some("clean"))], vec![by(Some("apgd-ce")); 4], vec![by(None); 5]].concat()
    }

    #[test]
    fn the_table_adds_up() {
        let text = Summary::new("autoattack".into(), &["apgd-ce", "square"], &images()).table();
        assert!(text.contains("| apgd-ce       |      4 |    5 |   50.0 % |    18.7 … 81.3 |"), "{text}");
        assert!(text.ends_with("7 forward, 3 backward.\n") && !text.contains("distance"), "{text}");
    }

    #[test]
    fn the_report_has_the_interval_and_every_image() {
        let summary = Summary::new("autoattack".into(), &["apgd-ce", "square"], &images());
        let report = summary.report(&images(), &[3; 10], &[2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert_eq!((&report["clean"]["correct"], &report["robust"]["correct"]), (&9.into(), &5.into()));
        // Beta quantiles: half of ten, 95 %.
        let near = |name: &str, wanted: f64| (report["robust"][name].as_f64().unwrap() - wanted).abs() < 1e-4;
        assert!(near("low", 0.18709) && near("high", 0.81291), "{}", report["robust"]);
        assert_eq!(report["samples"].as_array().unwrap().len(), 10);
        assert_eq!((&report["samples"][0]["index"], &report["samples"][9]["index"]), (&2.into(), &29.into()));
        assert_eq!(report["samples"][1]["broken_by"]["attack"], "apgd-ce");
        assert!(report["samples"][9]["broken_by"].is_null());
    }
}
