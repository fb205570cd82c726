//! `cargo xtask attack`

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tarrl_attacks::{
    Apgd, AutoAttack, Fab, LabelLoss, Norm, Part, RunConfig, Square, SuiteOutcome, Threat, Version,
};
use tarrl_data::{Catalog, Dataset};
use tarrl_encoders::checkpoint::load_encoder;
use tarrl_eval::{CONFIDENCE, accuracy_lower, accuracy_upper};
use tarrl_tensor::{Cpu, Key};

use crate::stages::autoattack::{Setup, pixels, run};
use crate::stages::{head, labels};
use crate::workspace_root;

const EXAMPLES: &str = "\
Examples:
  cargo xtask attack --checkpoint ENCODER --head HEAD --dataset fashion-mnist-sample --norm linf --epsilon 8/255
  cargo xtask attack --checkpoint ENCODER --head HEAD --dataset fashion-mnist-sample --epsilon 0.1 --images 100
  cargo xtask attack --checkpoint ENCODER --head HEAD --dataset mnist --norm l2 --epsilon 0.5 --attack apgd-dlr
  cargo xtask attack --checkpoint ENCODER --head HEAD --dataset mnist --epsilon 0.1 --json outcomes.json

ENCODER and HEAD are what `cargo xtask reproduce` leaves in its run folder:
  runs/PROFILE/jobs/KEY/encoder.safetensors   of a pre-training job
  runs/PROFILE/jobs/KEY/head.safetensors      of the head job trained on it (its config.toml names the encoder's key)

The attack goes through encoder and head together. An image is robust if no attack breaks it; the share of robust
images is an upper bound of the true robust accuracy, and its 95 % interval (Clopper and Pearson) says what these
images say about others. autoattack is the standard version with nothing left out: it takes some 7000 forward and 1900
backward passes for each robust image, and few for others. Results do not depend on --batch or --threads.";

/// Attack one encoder and head: robust accuracy with an interval, and what became of each image
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.", arg_required_else_help = true)]
pub(crate) struct Attack {
    /// The encoder, a file `encoder.safetensors`
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,

    /// The linear head that was trained on it, a file `head.safetensors`
    #[arg(long, value_name = "FILE")]
    head: PathBuf,

    /// Name of the dataset whose test images are attacked, as `cargo xtask data list` shows it
    #[arg(long, value_name = "NAME")]
    dataset: String,

    /// How perturbations are measured: linf, l2 or l1
    #[arg(long, default_value = "linf", value_parser = norm)]
    norm: Norm,

    /// Radius of the ball in pixels of [0, 1], such as 8/255 or 0.1
    #[arg(long, value_name = "ε", value_parser = epsilon)]
    epsilon: f64,

    /// What is run
    #[arg(long, value_enum, default_value = "autoattack")]
    attack: Kind,

    /// Number of test images, balanced over the classes [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    images: Option<u32>,

    /// Seed of the random starts
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Images in memory at a time
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,

    /// Write what became of each image to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Number of threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,

    /// Folder for datasets that were fetched or imported
    #[arg(long, value_name = "DIR", default_value_os_t = workspace_root().join("data"), hide_default_value = true)]
    data: PathBuf,

    /// Folder with your own dataset manifests, instead of this project's
    #[arg(long, value_name = "DIR", default_value_os_t = workspace_root().join("datasets"), hide_default_value = true)]
    datasets: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Kind {
    /// AutoAttack, standard: apgd-ce, apgd-t, fab-t, square
    Autoattack,
    /// AutoAttack, plus: more restarts, and the attacks without targets
    AutoattackPlus,
    /// APGD on the cross-entropy
    ApgdCe,
    /// APGD on the difference-of-logits ratio
    ApgdDlr,
    /// APGD towards nine classes
    ApgdT,
    /// FAB towards nine classes
    FabT,
    /// Square, forward passes alone
    Square,
}

impl Kind {
    fn parts(self, norm: Norm) -> Vec<Part> {
        match self {
            Kind::Autoattack => AutoAttack::default().parts(norm),
            Kind::AutoattackPlus => AutoAttack::new(Version::Plus).parts(norm),
            Kind::ApgdCe => vec![Part::Apgd { loss: LabelLoss::CrossEntropy, config: Apgd::default() }],
            Kind::ApgdDlr => vec![Part::Apgd { loss: LabelLoss::Dlr, config: Apgd::default() }],
            Kind::ApgdT => {
                vec![Part::ApgdTargeted { loss: Default::default(), targets: 9, config: Apgd::default() }]
            }
            Kind::FabT => vec![Part::FabTargeted { targets: 9, config: Fab::default() }],
            Kind::Square => vec![Part::Square { config: Square::default() }],
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl Attack {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        for (file, what) in [
            (&self.checkpoint, "an encoder, such as runs/default/jobs/KEY/encoder.safetensors"),
            (&self.head, "a head, such as runs/default/jobs/KEY/head.safetensors"),
        ] {
            if !file.is_file() {
                bail!(
                    "there is no file {}; give {what} (`cargo xtask reproduce` writes both)",
                    file.display()
                );
            }
        }
        let device = Cpu { threads: self.threads.map_or(0, usize::from), ..Cpu::default() }.open();
        let encoder = load_encoder(&self.checkpoint, &device)?;
        let head = head::load(&self.head)?;
        let data = self.images(&Catalog::new(&self.datasets, &self.data))?;
        if head.classes() != data.classes.len() {
            bail!(
                "the head {} tells {} classes apart, but {} has {}; take the head that was trained on it",
                self.head.display(),
                head.classes(),
                self.dataset,
                data.classes.len()
            );
        }
        let (x, y) = (pixels(&data, &device), labels(&data.labels));
        let features = encoder.dim();
        if features != head.features() || encoder.config().in_channels != x.shape()[3] {
            bail!(
                "encoder {} takes {} channels and gives {features} features; head {} takes {}, images of {} have {} \
                 channels; take files that belong together",
                self.checkpoint.display(),
                encoder.config().in_channels,
                self.head.display(),
                head.features(),
                self.dataset,
                x.shape()[3]
            );
        }
        let encoder = encoder.frozen();
        let classifier = head::Classifier::new(&head, &device);
        let logits = |u: &tarrl_tensor::Tensor| classifier.logits(&encoder.forward(u));
        let setup = Setup {
            parts: self.attack.parts(self.norm),
            config: RunConfig { batch: self.batch as usize, ..RunConfig::default() },
        };
        let keys: Vec<Key> = (0..y.len()).map(|i| Key::new(self.seed).fold("attack").fold(i)).collect();
        let bar = bar(y.len() as u64);
        let ball = Threat::new(self.norm, self.epsilon).around(&x);
        let found = run(&setup, ball, &y, &keys, &logits, &mut |progress| {
            bar.set_position(progress.finished as u64);
            bar.set_message(format!("{} broken", progress.broken));
        });
        bar.finish_and_clear();
        let summary = self.summary(&found, &setup.parts);
        print!("{}", table(&summary));
        if let Some(path) = &self.json {
            write(path, &self.report(&summary, &found, &y))?;
            println!("What became of each image: {}", path.display());
        }
        Ok(())
    }

    fn images(&self, catalog: &Catalog) -> anyhow::Result<Dataset> {
        let test = catalog.load(&self.dataset).with_context(|| format!("dataset {}", self.dataset))?.test;
        let Some(wanted) = self.images.map(|n| n as usize) else { return Ok(test) };
        let classes = test.classes.len();
        if wanted < classes || wanted > test.len() {
            bail!(
                "--images {wanted}: {} has {} test images of {classes} classes; take at least one of each",
                self.dataset,
                test.len()
            );
        }
        Ok(test.balanced_subset(wanted / classes, Key::new(self.seed).fold("images"))?)
    }

    fn summary(&self, found: &SuiteOutcome, parts: &[Part]) -> Summary {
        let n = found.success.len();
        let mut broken: BTreeMap<&str, usize> = BTreeMap::new();
        for origin in found.origin.iter().flatten() {
            *broken.entry(origin.attack.as_str()).or_default() += 1;
        }
        let mut left = n;
        let mut lines = Vec::new();
        for name in std::iter::once("clean").chain(parts.iter().map(Part::name)) {
            let by = broken.get(name).copied().unwrap_or(0);
            left -= by;
            lines.push((name.to_owned(), by, left));
        }
        let mean = |passes: &[u32]| passes.iter().map(|&p| f64::from(p)).sum::<f64>() / n as f64;
        let title = format!("{}, {}, ε = {}", self.attack.name(), self.norm, self.epsilon);
        Summary { title, n, lines, forward: mean(&found.forward), backward: mean(&found.backward) }
    }

    fn report(&self, summary: &Summary, found: &SuiteOutcome, labels: &[u32]) -> Value {
        let clean = summary.lines[0].2;
        let robust = summary.lines[summary.lines.len() - 1].2;
        let accuracy = |correct: usize| {
            let (low, high) = interval(correct, summary.n);
            let accuracy = correct as f64 / summary.n as f64;
            json!({"correct": correct, "n": summary.n, "accuracy": accuracy, "low": low, "high": high})
        };
        let samples = (0..summary.n).map(|i| {
            json!({
                "index": i, "label": labels[i], "robust": !found.success[i], "margin": finite(found.margin[i]),
                "broken_by": found.origin[i], "forward": found.forward[i], "backward": found.backward[i],
                "flags": found.flags[i],
            })
        });
        json!({
            "checkpoint": self.checkpoint, "head": self.head, "dataset": self.dataset, "norm": self.norm,
            "epsilon": self.epsilon, "attack": self.attack.name(), "seed": self.seed, "confidence": CONFIDENCE,
            "clean": accuracy(clean), "robust": accuracy(robust),
            "samples": samples.collect::<Vec<_>>(),
        })
    }
}

/// What the table shows.
struct Summary {
    title: String,
    n: usize,
    /// An attack, the images that it broke, and those that are left after it.
    lines: Vec<(String, usize, usize)>,
    forward: f64,
    backward: f64,
}

fn table(summary: &Summary) -> String {
    let mut text = format!("{}, {} images\n\n", summary.title, summary.n);
    text += "| attack    | broken | left | accuracy | 95 % interval  |\n";
    text += "|-----------|-------:|-----:|---------:|---------------:|\n";
    for (name, broken, left) in &summary.lines {
        let (low, high) = interval(*left, summary.n);
        let percent = 100.0 * *left as f64 / summary.n as f64;
        let range = format!("{:.1} … {:.1}", 100.0 * low, 100.0 * high);
        text += &format!("| {name:<9} | {broken:>6} | {left:>4} | {percent:>6.1} % | {range:>14} |\n");
    }
    text + &format!(
        "\nPasses of an image on average: {:.0} forward, {:.0} backward.\n",
        summary.forward, summary.backward
    )
}

/// The exact interval of an accuracy.
fn interval(correct: usize, n: usize) -> (f64, f64) {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    (accuracy_lower(correct, n, tail), accuracy_upper(correct, n, tail))
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn write(path: &Path, report: &Value) -> anyhow::Result<()> {
    std::fs::write(path, serde_json::to_vec_pretty(report)?)
        .with_context(|| format!("cannot write {}; choose a folder that exists", path.display()))
}

fn bar(images: u64) -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(images) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("attacked {pos}/{len} {bar:32} {msg}  {eta} left");
    bar.with_style(style.expect("the template is valid"))
}

fn norm(text: &str) -> Result<Norm, String> {
    match text.parse()? {
        Norm::L0 => Err("these attacks have no step for l0; write linf, l2 or l1".to_owned()),
        norm => Ok(norm),
    }
}

fn epsilon(text: &str) -> Result<f64, String> {
    let value = tarrl_attacks::fraction::parse(text)?;
    if value >= 0.0 { Ok(value) } else { Err(format!("a radius is not negative, but this is {value}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_adds_up() {
        let lines =
            vec![("clean".to_owned(), 1, 9), ("apgd-ce".to_owned(), 4, 5), ("square".to_owned(), 0, 5)];
        let text = table(&Summary { title: "autoattack".into(), n: 10, lines, forward: 7.0, backward: 3.0 });
        assert!(text.contains("| apgd-ce   |      4 |    5 |   50.0 % |    18.7 … 81.3 |"), "{text}");
        assert!(text.ends_with("7 forward, 3 backward.\n"));
    }

    #[test]
    fn senseless_values_are_refused_with_a_remedy() {
        assert!(norm("l0").unwrap_err().contains("linf, l2 or l1"));
        assert!(norm("l3").unwrap_err().contains("linf, l2, l1"));
        assert!(epsilon("-1/255").unwrap_err().contains("not negative"));
        assert!(epsilon("8 of 255").unwrap_err().contains("8/255"));
    }

    #[test]
    fn every_kind_has_parts_in_every_norm() {
        for kind in Kind::value_variants() {
            for norm in [Norm::Linf, Norm::L2, Norm::L1] {
                assert!(!kind.parts(norm).is_empty());
            }
        }
        let names: Vec<_> = Kind::Autoattack.parts(Norm::Linf).iter().map(Part::name).collect();
        assert_eq!(names, ["apgd-ce", "apgd-t", "fab-t", "square"]);
    }
}
