//! `cargo xtask bound`

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use tarrl_attacks::{LabelLoss, Pgd, attack_classifier};
use tarrl_bound::LinearHead;
use tarrl_bound::certify::{Certificates, CertifiedChain, HeadReport};
use tarrl_data::Catalog;
use tarrl_encoders::Frozen;
use tarrl_eval::{Interval, ProbeConfig, features, linear_probe};
use tarrl_tensor::{Key, Tensor, Transpose};

use super::certify::{Chosen, Images, network, open};
use crate::stages::head::{BATCH, Weights};

const EXAMPLES: &str = "\
Examples:
  cargo xtask bound report certificates.safetensors encoder.safetensors
  cargo xtask bound report certificates.safetensors encoder.safetensors --head head.json

A head is JSON with `k` classes, `d` features, `weight` (k × d, row by row) and `bias` (k). Without one, a linear head
for the classes of the dataset is fitted on its training images. The images are those that were certified.";

/// Say what stored certificates mean for a head
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.", arg_required_else_help = true)]
pub(crate) struct Bound {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Clean, attacked and certified loss and accuracy of a head
    Report(Report),
}

#[derive(Args, Debug)]
struct Report {
    /// What `cargo xtask certify` wrote
    certificates: PathBuf,
    /// The checkpoint of the encoder that was certified
    encoder: PathBuf,
    /// A linear head as JSON
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    #[command(flatten)]
    images: Images,
}

impl Bound {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let Action::Report(report) = &self.action;
        report.run()
    }
}

impl Report {
    fn run(&self) -> anyhow::Result<()> {
        let path = self.certificates.display();
        let bytes = std::fs::read(&self.certificates)
            .with_context(|| format!("cannot read {path}; check the path"))?;
        let certificates = Certificates::from_bytes(&bytes).with_context(|| path.to_string())?;
        let (encoder, hash) = open(&self.encoder)?;
        let chosen = self.images.choose()?;
        certificates.check(&hash, &chosen.hash).with_context(|| path.to_string())?;
        let head = self.head(&encoder, &chosen)?;
        let labels: Vec<usize> = chosen.labels.iter().map(|&label| label as usize).collect();
        // A head that does not fit is refused before anything is attacked.
        certificates.apply(&head, &labels, &[])?;
        let attacked = attacked(&certificates, &encoder, &head, &chosen)?;
        let report = certificates.apply(&head, &labels, &[&attacked])?;
        if report.violations() > 0 {
            bail!(
                "an attack passed the certificates of {} images: the program is wrong, because the theorem is not",
                report.violations()
            );
        }
        print(&certificates, &report);
        Ok(())
    }

    fn head(&self, encoder: &Frozen, chosen: &Chosen) -> anyhow::Result<LinearHead> {
        if let Some(path) = &self.head {
            let text = std::fs::read(path)
                .with_context(|| format!("cannot read {}; check the path", path.display()))?;
            let weights: Weights =
                serde_json::from_slice(&text).with_context(|| format!("{} is no head", path.display()))?;
            if weights.weight.len() != weights.k * weights.d
                || weights.bias.len() != weights.k
                || weights.k < 2
            {
                bail!("{}: `weight` or `bias` have not as many numbers as `k` and `d` say", path.display());
            }
            return Ok(weights.head());
        }
        let catalog = Catalog::new(&self.images.datasets, &self.images.data);
        let train = catalog.load(&self.images.dataset)?.train;
        let labels: Vec<u32> = train.labels.iter().map(|&label| label.into()).collect();
        let train_features = features(&|x| encoder.forward(x), &train, chosen.pixels.device(), BATCH);
        let key = Key::new(0).fold("probe");
        Ok(linear_probe(&train_features, &labels, train.classes.len(), &ProbeConfig::default(), key).head)
    }
}

/// The representations, in f64, where PGD on the loss of the head ends.
fn attacked(
    certificates: &Certificates,
    encoder: &Frozen,
    head: &LinearHead,
    chosen: &Chosen,
) -> anyhow::Result<Vec<f64>> {
    let x = &chosen.pixels;
    let threat = certificates.about.config.threat;
    let tensor = |shape: &[usize], values: &[f64]| Tensor::new(x.device(), shape, values).cast(x.dtype());
    let weight = tensor(&[head.classes(), head.features()], head.weight());
    let bias = tensor(&[head.classes()], head.bias());
    let logits =
        |u: &Tensor| &encoder.forward(u).matmul_with(&weight, Transpose { a: false, b: true }) + &bias;
    let pgd = Pgd { steps: 20, step_size: threat.epsilon / 8.0, ..Pgd::default() };
    let keys: Vec<Key> = (0..chosen.labels.len()).map(|i| Key::new(0).fold("attack").fold(i)).collect();
    let loss = LabelLoss::CrossEntropy;
    let worst = attack_classifier(&logits, x, &chosen.labels, loss, &threat, &pgd, &keys).worst;
    Ok(network(encoder, x)?.forward(&worst).array().to_f64())
}

/// A line of the report: its name and what it shows of each image.
type Quantity<T> = (&'static str, fn(&CertifiedChain) -> T);

fn print(certificates: &Certificates, report: &HeadReport) {
    let n = report.chains.len();
    println!(
        "{n} images, ε = {}, f64; ± is half of a 95 % interval over the images",
        certificates.about.config.threat.epsilon
    );
    let losses: [Quantity<f64>; 5] = [
        ("clean loss", |c| c.clean),
        ("attacked loss (PGD-20)", |c| c.attacked),
        ("certified loss", |c| c.certified),
        ("certified loss, radius alone", |c| c.radius),
        ("additive bound L + C r", |c| c.additive),
    ];
    for (name, of) in losses {
        let interval = Interval::over_samples(&report.chains.iter().map(of).collect::<Vec<_>>());
        println!("  {name:32}{:8.3} ± {:.3}", interval.mean, interval.half_width);
    }
    let accuracies: [Quantity<bool>; 4] = [
        ("clean accuracy", |c| c.correct),
        ("accuracy under PGD-20", |c| c.survives),
        ("certified accuracy", |c| c.is_certified),
        ("certified, radius alone", |c| c.certified_by_radius),
    ];
    for (name, of) in accuracies {
        let interval = Interval::accuracy(report.count(of), n);
        println!("  {name:32}{:7.1} % ± {:.1}", 100.0 * interval.mean, 100.0 * interval.half_width);
    }
    let ratio = |of: fn(&CertifiedChain) -> f64| report.mean(of) / report.mean(|c| c.attacked);
    println!("  certified / attacked loss       {:8.2}", ratio(|c| c.certified));
    println!("  additive bound / attacked loss  {:8.2}", ratio(|c| c.additive));
    let lower = report.certified_accuracy_lower(0.05);
    println!(
        "  accuracy under any attack is above {:.1} % with 95 % confidence, for a head that has not seen them",
        100.0 * lower
    );
}
