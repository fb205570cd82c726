//! `tarrl bound`: what stored certificates say about a head.

mod head_attack;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use tarrl_bound::{KnnHead, LinearHead, RegressionHead};
use tarrl_certify::{Certificate, Certificates, CertifiedChain, HeadReport};
use tarrl_data::Source;
use tarrl_eval::{Interval, ProbeConfig, features, labels, linear_probe};
use tarrl_interop::Model;
use tarrl_tensor::Key;

use self::head_attack::attack;
use super::certify::{Chosen, Images, network, open};
use crate::inputs::{EncoderFile, batch_for};
use crate::limits;
use crate::model_options::ModelOptions;
use crate::stdout::outln;
use tarrl_study::heads::AnyHead;
use tarrl_study::stages::head::BATCH;

const EXAMPLES: &str = "\
Examples:
  tarrl bound report certificates.safetensors encoder.safetensors
  tarrl bound report certificates.safetensors encoder.safetensors --head head.json

  tarrl bound report certificates.safetensors encoder.safetensors --neighbors 5

A head is JSON with its `kind`, all matrices row by row:
  linear (or no kind)   `k` classes, `d` features, `weight` (k × d), `bias` (k)
  mlp                   `d`, `h` units, `hidden` (h × d), `hidden_bias` (h), `k`, `weight` (k × h), `bias` (k)
  regression            `d`, `o` outputs, `weight` (o × d), `bias` (o), `targets` (images × o)
A head may name its encoder, with the BLAKE3 of its file as `encoder_blake3`. A file head.safetensors of `tarrl
reproduce`, which does, is taken too. Without one, a linear head for the classes of the dataset is fitted on its training images. The images are those that
were certified.";

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
    /// What `tarrl certify` wrote
    certificates: PathBuf,
    /// The checkpoint of the encoder that was certified
    encoder: PathBuf,
    /// A head as JSON, or a file `head.safetensors`
    #[arg(long, value_name = "FILE", conflicts_with = "neighbors")]
    head: Option<PathBuf>,
    /// So many nearest neighbors among the training images, an odd number, instead of a head
    #[arg(long, value_name = "K", value_parser = limits::whole::<usize>("--neighbors"))]
    neighbors: Option<usize>,
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    reading: ModelOptions,
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
        let file = std::fs::File::open(&self.certificates)
            .with_context(|| format!("cannot read {path}; check the path"))?;
        let certificates = Certificates::from_reader(file).with_context(|| path.to_string())?;
        let file = open(&self.encoder, &self.reading)?;
        let head = self.head.as_ref().map(|path| self.read(path, &file)).transpose()?;
        let source = self.images.from.open(&self.images.dataset)?;
        let chosen = self.images.choose(&source, certificates.samples.len())?;
        file.check_images(&self.images.dataset, chosen.shape())?;
        certificates.check(&file.hash, &chosen.hash).with_context(|| path.to_string())?;
        certificates.provenance.config.check(&chosen.pixels).with_context(|| path.to_string())?;
        let encoder = &file.model;
        if let Some(k) = self.neighbors {
            return self.neighbors(&certificates, encoder, (&source, &chosen), k);
        }
        let head = match head {
            Some(head) => head,
            None => AnyHead::Linear(self.fitted(encoder, &source, &chosen)?),
        };
        let fits = |classes: usize| {
            if source.has_class_names() { classes == chosen.classes } else { classes >= chosen.classes }
        };
        if let Some(classes) = head.classes().filter(|&classes| !fits(classes)) {
            bail!(
                "the head tells {classes} classes apart, but {} has {}; take a head for its classes with --head",
                self.images.dataset,
                chosen.classes
            );
        }
        let labels: Vec<usize> = chosen.labels.iter().map(|&label| label as usize).collect();
        if let AnyHead::Regression { targets, layer, .. } = &head
            && targets.len() != labels.len() * layer.rows().len()
        {
            bail!("`targets` has {} numbers for {} certified images", targets.len(), labels.len());
        }
        let threat = certificates.provenance.config.threat;
        let worst = attack(&head, &|x| encoder.forward(x), &chosen.pixels, &chosen.labels, &threat);
        let attacked = network(encoder, &chosen.pixels)?.forward(&worst).array().to_f64();
        let report = match &head {
            AnyHead::Linear(head) => certificates.apply(head, &labels, &[&attacked])?,
            AnyHead::Mlp { head, .. } => certificates.apply_by_radius(head, &labels, &[&attacked])?,
            AnyHead::Regression { head, layer, targets } => {
                return numbers(&certificates, head, &layer.rows(), targets, &attacked);
            }
        };
        held(report.violations())?;
        print(&certificates, &report)
    }

    /// The head in a file, which has to belong to the encoder.
    fn read(&self, path: &Path, file: &EncoderFile<'_>) -> anyhow::Result<AnyHead> {
        let (head, named) = AnyHead::read(path)?;
        file.check_head(path, head.features(), named.as_deref())?;
        Ok(head)
    }

    fn fitted(&self, encoder: &Model, source: &Source, chosen: &Chosen) -> anyhow::Result<LinearHead> {
        let train = source.read(source.train_split()?)?;
        let labels = labels(&train.labels);
        let train_features = features(
            &|x| encoder.forward(x),
            &train,
            chosen.pixels.device(),
            batch_for(BATCH, chosen.shape()),
        );
        let key = Key::new(0).fold("probe");
        Ok(linear_probe(&train_features, &labels, train.classes.len(), &ProbeConfig::default(), key)?.head)
    }

    /// Nearest neighbors among the training images.
    fn neighbors(
        &self,
        certificates: &Certificates,
        encoder: &Model,
        (source, chosen): (&Source, &Chosen),
        k: usize,
    ) -> anyhow::Result<()> {
        if k.is_multiple_of(2) {
            bail!("--neighbors {k} could be a tie; take an odd number");
        }
        let train = source.read(source.train_split()?)?;
        if k > train.len() {
            bail!("--neighbors {k}: there are {} training images; take at most so many", train.len());
        }
        let bank = features(
            &|x| encoder.forward(x),
            &train,
            chosen.pixels.device(),
            batch_for(BATCH, chosen.shape()),
        );
        let bank_labels = train.labels.iter().map(|&label| usize::from(label)).collect();
        let d = certificates.features();
        let head = KnnHead::new(d, k, bank.array().to_f64(), bank_labels);
        let labels: Vec<usize> = chosen.labels.iter().map(|&label| label as usize).collect();
        let certified = certificates.certified_neighbors(&head, &labels)?;
        let votes = |(c, &y): (&Certificate, &usize)| head.votes_for(&c.representation(), y);
        let clean = certificates.samples.iter().zip(&labels).filter(|pair| votes(*pair)).count();
        let n = labels.len();
        outln!(
            "{n} images, ε = {}, f64, {k} nearest of {} training images",
            certificates.provenance.config.threat.epsilon,
            train.len()
        );
        accuracy("clean accuracy", clean, n)?;
        accuracy("certified accuracy, by the radius", certified.iter().filter(|c| **c).count(), n)?;
        Ok(())
    }
}

/// Squared errors of a head that predicts numbers.
fn numbers(
    certificates: &Certificates,
    head: &RegressionHead,
    rows: &[&[f64]],
    targets: &[f64],
    attacked: &[f64],
) -> anyhow::Result<()> {
    let found = certificates.squared_errors(head, rows, targets)?;
    let (d, o) = (certificates.features(), rows.len());
    let error = |z: &[f64], i: usize| -> f64 {
        head.predict(z).iter().zip(&targets[i * o..]).map(|(p, t)| (p - t).powi(2)).sum()
    };
    let reached: Vec<f64> =
        found.iter().enumerate().map(|(i, pair)| error(&attacked[i * d..][..d], i).max(pair.0)).collect();
    let above = reached.iter().zip(&found).filter(|(r, pair)| **r > pair.1 * (1.0 + 1e-12)).count();
    held(above)?;
    let radius = |(i, c): (usize, &Certificate)| {
        head.squared_bound(&c.representation(), &targets[i * o..][..o], c.radius())
    };
    let by_radius: Vec<f64> = certificates.samples.iter().enumerate().map(radius).collect();
    outln!("{} images, ε = {}, f64", found.len(), certificates.provenance.config.threat.epsilon);
    line("clean squared error", &found.iter().map(|pair| pair.0).collect::<Vec<_>>())?;
    line("attacked squared error (PGD-20)", &reached)?;
    line("certified squared error", &found.iter().map(|pair| pair.1).collect::<Vec<_>>())?;
    line("certified, radius alone", &by_radius)?;
    Ok(())
}

/// Fails if an attack passed a certificate.
fn held(violations: usize) -> anyhow::Result<()> {
    if violations > 0 {
        bail!(
            "an attack passed the certificates of {violations} images: this is a bug in the program, because the theorem is proved"
        );
    }
    Ok(())
}

fn line(name: &str, values: &[f64]) -> anyhow::Result<()> {
    let interval = Interval::over_samples(values);
    outln!("  {name:34}{:9.4} ± {:.4}", interval.mean, interval.half_width);
    Ok(())
}

fn accuracy(name: &str, count: usize, n: usize) -> anyhow::Result<()> {
    let interval = Interval::accuracy(count, n);
    outln!("  {name:34}{:7.1} % ± {:.1}", 100.0 * interval.mean, 100.0 * interval.half_width);
    Ok(())
}

/// A line of the report: its name and what it shows of each image.
type Quantity<T> = (&'static str, fn(&CertifiedChain) -> T);

fn print(certificates: &Certificates, report: &HeadReport) -> anyhow::Result<()> {
    let n = report.chains.len();
    outln!(
        "{n} images, ε = {}, f64; ± is half of a 95 % interval over the images",
        certificates.provenance.config.threat.epsilon
    );
    let losses: [Quantity<f64>; 5] = [
        ("clean loss", |c| c.clean),
        ("attacked loss (PGD-20)", |c| c.attacked),
        ("certified loss", |c| c.certified),
        ("certified loss, radius alone", |c| c.radius),
        ("additive bound L + C r", |c| c.additive),
    ];
    for (name, of) in losses {
        line(name, &report.chains.iter().map(of).collect::<Vec<_>>())?;
    }
    let accuracies: [Quantity<bool>; 4] = [
        ("clean accuracy", |c| c.correct),
        ("accuracy under PGD-20", |c| c.survives),
        ("certified accuracy", |c| c.is_certified),
        ("certified, radius alone", |c| c.certified_by_radius),
    ];
    for (name, of) in accuracies {
        accuracy(name, report.count(of), n)?;
    }
    let ratio = |of: fn(&CertifiedChain) -> f64| report.mean(of) / report.mean(|c| c.attacked);
    outln!("  certified / attacked loss       {:8.2}", ratio(|c| c.certified));
    outln!("  additive bound / attacked loss  {:8.2}", ratio(|c| c.additive));
    let lower = report.certified_accuracy_lower(0.05);
    outln!(
        "  accuracy under any attack is above {:.1} % with 95 % confidence, for a head that has not seen them",
        100.0 * lower
    );
    Ok(())
}
