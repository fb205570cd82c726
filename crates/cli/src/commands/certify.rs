//! `tarrl certify`: certifies how far representations can move.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use tarrl_attacks::{Norm, Threat};
use tarrl_certify::{Certificates, CertifyConfig, Effort, Network, Provenance, Slopes, certify_until};
use tarrl_data::Source;
use tarrl_eval::{Displacements, dataset_pixels, displacement_attack, labels, median};
use tarrl_interop::Model;
use tarrl_tensor::{Arithmetic, Cpu, Key, Tensor};

use crate::inputs::{EncoderFile, ImageOptions, balanced, check_memory, check_output};
use crate::limits;
use crate::model_options::ModelOptions;
use crate::signals;
use crate::stdout::outln;
use tarrl_jobs::Stopped;
use tarrl_jobs::files::{cannot_write, write_atomic};
use tarrl_study::pixels::Pixels;
use tarrl_study::stages::certify::hash_pixels;

const EXAMPLES: &str = "\
Examples:
  tarrl certify encoder.safetensors                        a hundred images of the embedded sample, ε = 8/255
  tarrl certify encoder.safetensors --epsilon 0.02 --samples 20 --out small.certificates
  tarrl certify encoder.safetensors --norm l2 --epsilon 0.5 --slopes best    the Euclidean ball
  tarrl certify encoder.safetensors --epsilon 0.01 --effort optimized        tighter, for more work
  tarrl bound report small.certificates encoder.safetensors    what they say about a task

Certificates are made once for an encoder and serve every head that is put on it later. An encoder of ordinary training
has useful ones at small radii only; one trained by a method with a [certified] term also at larger ones.

The file appears when all images are certified. Ctrl-C, SIGTERM and SIGUSR2 end the command at its next batch with exit
code 75, a second one at once; an earlier file stays as it was, and the command starts over the next time.";

/// Images that are certified without `--samples`.
const SAMPLES: usize = 100;

/// Certify how far the representations of images can move, for any task
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.")]
pub(crate) struct Certify {
    /// The encoder: a checkpoint, or a model file of another program
    encoder: PathBuf,

    /// Norm of the ball: linf, l2 or l1
    #[arg(long, default_value = "linf")]
    norm: Norm,

    /// Radius ε of the ball, in pixels: a number, or a fraction such as 8/255
    #[arg(long, value_name = "PIXELS", default_value = "8/255")]
    epsilon: Pixels,

    #[command(flatten)]
    images: Images,

    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "certificates.safetensors")]
    out: PathBuf,

    /// Generators of a linear form that are kept one by one; more are tighter and take more room
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = limits::whole::<usize>("--generators"))]
    generators: usize,

    /// Slopes of linear forms: chord; sector, of use in large l2 balls; or best, the better of both for twice the work
    #[arg(long, default_value = "chord")]
    slopes: SlopesArg,

    /// What is spent: interval and linear are cheap and loose; optimized is tighter than full, for four to five times the work
    #[arg(long, default_value = "full")]
    effort: EffortArg,

    #[command(flatten)]
    reading: ModelOptions,

    /// Images in memory at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = limits::whole::<usize>("--batch"))]
    batch: usize,
}

/// [`Slopes`] by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SlopesArg {
    Chord,
    Sector,
    Best,
}

impl From<SlopesArg> for Slopes {
    fn from(arg: SlopesArg) -> Self {
        match arg {
            SlopesArg::Chord => Slopes::Chord,
            SlopesArg::Sector => Slopes::Sector,
            SlopesArg::Best => Slopes::Best,
        }
    }
}

/// [`Effort`] by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum EffortArg {
    Interval,
    Linear,
    Full,
    Optimized,
}

impl From<EffortArg> for Effort {
    fn from(arg: EffortArg) -> Self {
        match arg {
            EffortArg::Interval => Effort::Interval,
            EffortArg::Linear => Effort::Linear,
            EffortArg::Full => Effort::Full,
            EffortArg::Optimized => Effort::Optimized,
        }
    }
}

/// The images that certificates are of.
#[derive(Args, Debug)]
pub(crate) struct Images {
    /// The dataset whose test images are taken: a name as `tarrl data list` shows it, or a file or folder
    #[arg(long, value_name = "NAME|PATH", default_value = "fashion-mnist-sample")]
    pub(crate) dataset: String,

    /// Number of test images, balanced over the classes [default: 100, and those that were certified in a report]
    #[arg(long, value_name = "N", value_parser = limits::whole::<usize>("--samples"))]
    pub(crate) samples: Option<usize>,

    #[command(flatten)]
    pub(crate) from: ImageOptions,
}

/// Images with what identifies them.
pub(crate) struct Chosen {
    /// `(n, h, w, c)`
    pub(crate) pixels: Tensor,
    /// Label of each.
    pub(crate) labels: Vec<u32>,
    /// Place of each in its split.
    pub(crate) indices: Vec<usize>,
    /// Number of classes of the dataset.
    pub(crate) classes: usize,
    /// Hash of the pixels.
    pub(crate) hash: String,
}

impl Certify {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let source = self.images.from.open(&self.images.dataset)?;
        let places = source.places();
        let mut inputs: Vec<&Path> = vec![&self.encoder, self.images.from.manifests()];
        inputs.extend(places.iter().map(PathBuf::as_path));
        check_output(&self.out, "--out FILE", &inputs)?;
        let file = open(&self.encoder, &self.reading)?;
        file.announce();
        let chosen = self.images.choose(&source, SAMPLES)?;
        file.check_images(&self.images.dataset, chosen.shape())?;
        let network = network(&file.model, &chosen.pixels)?;
        let config = CertifyConfig {
            threat: Threat::new(self.norm, self.epsilon.value()),
            effort: self.effort.into(),
            slopes: self.slopes.into(),
            generators: self.generators,
            batch: self.batch,
            ..CertifyConfig::default()
        };
        let stop = signals::stop(None)?;
        let Some((samples, cost)) =
            certify_until(&network, &chosen.pixels, &config, &|| stop.reason().is_some())?
        else {
            return Err(stop.reason().unwrap_or(Stopped::Signal).into());
        };
        let radii: Vec<f64> = samples.iter().map(|c| c.radius()).collect();
        let displacements = Displacements::measure(
            &|x| file.model.forward(x),
            &network,
            &chosen.pixels,
            &config.threat,
            &samples,
            &displacement_attack(&config.threat, 20, 3),
            Key::new(0).fold("certify"),
        )?;
        stop.check()?;
        let n = samples.len();
        let certificates = Certificates {
            provenance: Provenance { encoder: file.hash, samples: chosen.hash, config, cost },
            samples,
        };
        write_atomic(&self.out, &certificates.to_bytes())
            .map_err(|error| cannot_write(&self.out, "--out FILE", error))?;
        outln!(
            "{n} images, {}, ε = {}: certified displacement {:.4} in the median",
            self.norm,
            self.epsilon,
            median(radii.iter().copied())
        );
        let times = median(radii.iter().zip(&displacements.reached).map(|(c, r)| c / r));
        match times.is_finite() {
            true => outln!("{times:.2} times what PGD-20 with three restarts reaches, in the median"),
            false => outln!("PGD-20 with three restarts moves no representation, in the median"),
        }
        outln!("{:.0} forward passes and {:.0} rows substituted for each image", cost.forward, cost.rows);
        outln!("The certificates: {}", self.out.display());
        Ok(())
    }
}

impl Chosen {
    /// Height, width and channels of the images.
    pub(crate) fn shape(&self) -> [usize; 3] {
        [1, 2, 3].map(|axis| self.pixels.shape()[axis])
    }
}

impl Images {
    /// The images, the same for every encoder; `usual` of them without `--samples`.
    pub(crate) fn choose(&self, source: &Source, usual: usize) -> anyhow::Result<Chosen> {
        let test = self.from.read(source)?;
        let n = self.samples.unwrap_or(usual);
        let indices = balanced(&test, n, "--samples", Key::new(0).fold("bound"))?;
        let test = test.subset(&indices);
        check_memory(n, test.shape().into(), "--samples")?;
        let device = Cpu { arithmetic: Arithmetic::Direct, ..Cpu::default() }.open();
        let pixels = dataset_pixels(&test, &device);
        let hash = hash_pixels(&pixels);
        Ok(Chosen { pixels, labels: labels(&test.labels), indices, classes: test.classes.len(), hash })
    }
}

/// The encoder of a checkpoint, on a device whose arithmetic certificates cover.
pub(crate) fn open<'a>(path: &'a Path, options: &ModelOptions) -> anyhow::Result<EncoderFile<'a>> {
    EncoderFile::open(path, options, &Cpu { arithmetic: Arithmetic::Direct, ..Cpu::default() }.open())
}

/// The network that certificates of an encoder speak of.
pub(crate) fn network(encoder: &Model, pixels: &Tensor) -> anyhow::Result<Network> {
    Ok(Network::trace(&|x| encoder.forward(x), &pixels.slice(0, 0, 1))?)
}
