//! `tarrl pretrain`: trains one encoder by one method.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use tarrl_data::Dataset;
use tarrl_encoders::checkpoint::load_encoder;
use tarrl_encoders::{Arch, Encoder, EncoderConfig};
use tarrl_jobs::files::cannot_write;
use tarrl_jobs::{Claim, Claims, JobHeld, Phase, Stopped, Take};
use tarrl_study::context::ENCODER;
use tarrl_tensor::Device;
use tarrl_train::{Event, Finish, Method, Options, Pretraining, TrainConfig};

use crate::device::DeviceName;
use crate::inputs::ImageOptions;
use crate::limits;
use crate::ranks::{RankOptions, Ranks};
use crate::signals;
use crate::stdout::{note, outln};
use crate::workspace::workspace_root;

const EXAMPLES: &str = "\
Examples:
  tarrl pretrain --method tarr --dataset fashion-mnist-sample --out runs/mine
  tarrl pretrain --method simclr --dataset bloodmnist.npz --epochs 50 --out runs/blood
  tarrl pretrain --method tarr --dataset cifar10 --arch resnet18-cifar --epochs 200 --batch 512 --out runs/cifar
  tarrl pretrain --method deacl --teacher runs/simclr/encoder.safetensors --dataset cifar10 --out runs/deacl
  torchrun --no-python --nproc-per-node 4 tarrl pretrain --method simclr --dataset cifar10 --shards 4 --out runs/four
  srun --ntasks 4 --kill-on-bad-exit=1 tarrl pretrain --method simclr --dataset cifar10 --shards 4 --out /shared/runs/four
  tarrl evaluate runs/mine/encoder.safetensors --dataset fashion-mnist-sample

METHOD is a file of EXPERIMENTS/methods without its ending, or the path of a file of your own. The training writes metrics.jsonl
and checkpoint.safetensors into OUT while it runs, and encoder.safetensors at its end. Interrupted, the same command resumes from the
last checkpoint and ends with the same bits.

On several processes: `--shards` cuts every batch into equal parts, and each process that torchrun, srun or mpirun starts trains
its share of them. The shards determine the bits, the number of processes does not; docs/cluster.md has the rest.";

/// Train one encoder by one method, without labels
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.", arg_required_else_help = true)]
pub(crate) struct Pretrain {
    /// The method: a file of EXPERIMENTS/methods without its ending, or the path of a file
    #[arg(long, value_name = "NAME|FILE")]
    method: String,

    /// The dataset whose training images are used: a name as `tarrl data list` shows it, or a file or folder
    #[arg(long, value_name = "NAME|PATH")]
    dataset: String,

    /// Folder for the encoder, the checkpoint and the metrics
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// The architecture: conv-small, resnet18-cifar, vit-tiny and so on
    #[arg(long, value_name = "NAME", default_value = "conv-small", value_parser = architecture)]
    arch: Arch,

    /// Multiplies the number of channels
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = limits::width)]
    width: f64,

    /// Passes over the images
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = limits::whole::<usize>("--epochs"))]
    epochs: usize,

    /// Images of a step
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = limits::whole::<usize>("pretrain.--batch"))]
    batch: usize,

    /// The encoder that the method's teacher is, where it has one
    #[arg(long, value_name = "FILE")]
    teacher: Option<PathBuf>,

    /// The encoder that the method starts from, where it starts from one
    #[arg(long, value_name = "FILE")]
    start: Option<PathBuf>,

    /// Seed of all randomness
    #[arg(long, default_value_t = 0, value_parser = limits::whole::<u64>("--seed"))]
    seed: u64,

    /// Stop after so many minutes, at a checkpoint, with exit code 75; the same command resumes from there
    #[arg(long, value_name = "MINUTES", value_parser = limits::minutes)]
    time_limit: Option<f64>,

    /// Number of threads [default: all cores]; results are the same bits for any number. Each shard has one at least
    #[arg(long, value_name = "N", value_parser = limits::whole::<u16>("--threads"))]
    threads: Option<u16>,

    /// Where tensors are computed: cpu, or cuda:0 for an NVIDIA GPU
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,

    /// Folder with your own `methods`, instead of this project's
    #[arg(long, value_name = "DIR", default_value_os_t = workspace_root().join("experiments"), hide_default_value = true)]
    experiments: PathBuf,

    #[command(flatten)]
    from: ImageOptions,

    #[command(flatten)]
    ranks: RankOptions,
}

fn architecture(name: &str) -> Result<Arch, String> {
    let names = || Arch::ALL.map(Arch::name).join(", ");
    Arch::ALL.into_iter().find(|arch| arch.name() == name).ok_or_else(|| format!("there are {}", names()))
}

impl Pretrain {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let ranks = self.ranks.start(self.device)?;
        ranks.finish(self.train(&ranks))
    }

    fn train(&self, ranks: &Ranks) -> anyhow::Result<()> {
        let deadline =
            self.time_limit.map(|minutes| Instant::now() + Duration::from_secs_f64(60.0 * minutes));
        let method = self.method()?;
        let device = ranks.device(self.device).open(ranks.threads(self.threads, self.ranks.shards))?;
        let teacher = other("teacher", method.teacher.as_deref(), self.teacher.as_deref(), &device)?;
        let start = other("start", method.start.as_deref(), self.start.as_deref(), &device)?;
        let data = Arc::new(self.data()?);
        let config = self.config(method, &data)?;
        let claim = ranks.is_first().then(|| self.claim()).transpose()?;
        let stop = signals::stop(deadline)?;
        let asked = stop.clone();
        if ranks.is_first() {
            note!("{}, {} images of {:?}", config.method.title, data.len(), data.shape());
        }
        let training = Pretraining {
            config: &config,
            data: &data,
            teacher: teacher.as_ref(),
            start: start.as_ref(),
            device: &device,
            folder: &self.out,
            options: Options {
                stop: Some(Arc::new(move || asked.reason().is_some())),
                group: ranks.group(),
                ..Options::default()
            },
        };
        let bar = if ranks.is_first() { bar() } else { ProgressBar::hidden() };
        // Of all ranks the first alone has events to tell.
        let finish = training.run(&mut |event| match event {
            _ if !ranks.is_first() => {}
            Event::Began { step, total, .. } => {
                if *step > 0 {
                    note!("resuming after {step} of {total} steps");
                }
                bar.set_length(*total);
                bar.set_position(*step);
            }
            Event::Stepped { record, .. } => {
                bar.set_position(record.step);
                bar.set_message(format!("loss {:.3}, R {:.3}", record.objective, record.regularizer));
            }
            Event::Epoch(epoch) => bar.suspend(|| {
                note!(
                    "epoch {}: loss {:.4}, R {:.4}, kNN {:.1} %, {:.0} images/s",
                    epoch.epoch,
                    epoch.loss,
                    epoch.regularizer,
                    100.0 * epoch.knn,
                    epoch.images_per_second
                );
            }),
            Event::Warning(warning) => {
                bar.suspend(|| note!("warning {}: {}", warning.name, warning.message));
            }
            Event::Saved { .. } => {}
        })?;
        bar.finish_and_clear();
        let Finish::Trained(_) = finish else {
            claim.map_or(Ok(()), |claim| claim.end(Phase::Stopped, ""))?;
            return Err(stop.reason().unwrap_or(Stopped::Signal).into());
        };
        claim.map_or(Ok(()), |claim| claim.end(Phase::Done, ""))?;
        if ranks.is_first() {
            outln!("The encoder: {}", self.out.join(ENCODER).display());
        }
        Ok(())
    }

    /// Makes sure that no other process trains in the same folder.
    fn claim(&self) -> anyhow::Result<Claim> {
        std::fs::create_dir_all(&self.out).map_err(|error| cannot_write(&self.out, "--out DIR", error))?;
        let folder = self.out.join("claims");
        std::fs::create_dir_all(&folder).map_err(|error| cannot_write(&folder, "--out DIR", error))?;
        match Claims::new(folder, Claims::HEARTBEAT).take("pretrain", String::new)? {
            Take::Claimed(claim) => Ok(claim),
            Take::Held(holder) | Take::Failed(holder) => {
                let job = format!("the training in {}", self.out.display());
                Err(JobHeld { job, holder }.into())
            }
        }
    }

    fn method(&self) -> anyhow::Result<Method> {
        let path = Path::new(&self.method);
        if path.extension().is_some_and(|ending| ending == "toml") {
            return Ok(Method::read(path)?);
        }
        let folder = self.experiments.join("methods");
        let path = folder.join(format!("{}.toml", self.method));
        if !tarrl_data::is_plain_name(&self.method) || !path.is_file() {
            bail!("there is no method {} in {}; `ls` shows the known ones", self.method, folder.display());
        }
        Ok(Method::read(&path)?)
    }

    /// The training images.
    fn data(&self) -> anyhow::Result<Dataset> {
        let source = self.from.open(&self.dataset)?;
        let split = match (&self.from.split, source.train_split()) {
            (Some(split), _) => split.as_str(),
            (None, Ok(split)) => split,
            // Images without any split are all for training.
            (None, Err(error)) => match source.splits()[..] {
                ["all"] => "all",
                _ => return Err(error).context("choose one with --split"),
            },
        };
        source.read(split).with_context(|| format!("dataset {}", source.name()))
    }

    fn config(&self, method: Method, data: &Dataset) -> anyhow::Result<TrainConfig> {
        let (h, w, c) = data.shape();
        if self.arch.needs_side() && h != w {
            bail!("{} takes square images, but these are {h} × {w}; take --crop", self.arch.name());
        }
        let statistics = data.channel_statistics();
        if let Some(channel) = statistics.iter().position(|(_, std)| *std == 0.0) {
            bail!(
                "channel {channel} of the training images of {} is the same everywhere, so that it cannot be normalized; \
                 take images that differ, or leave that channel out",
                self.dataset
            );
        }
        let encoder = EncoderConfig {
            arch: self.arch,
            width: self.width,
            in_channels: c,
            mean: statistics.iter().map(|(mean, _)| *mean).collect(),
            std: statistics.iter().map(|(_, std)| *std).collect(),
            side: if self.arch.needs_side() { h } else { 0 },
            ..EncoderConfig::default()
        };
        let defaults = TrainConfig::new(method);
        Ok(TrainConfig {
            encoder,
            epochs: self.epochs,
            batch: self.batch,
            warmup_epochs: defaults.warmup_epochs.min(self.epochs as f64 / 2.0),
            seed: self.seed,
            shards: self.ranks.shards,
            ..defaults
        })
    }
}

/// An encoder that a method needs.
fn other(
    what: &str,
    named: Option<&str>,
    given: Option<&Path>,
    device: &Device,
) -> anyhow::Result<Option<Encoder>> {
    match (named, given) {
        (None, None) => Ok(None),
        (Some(_), Some(path)) => Ok(Some(load_encoder(path, device)?)),
        (Some(name), None) => bail!(
            "the method needs an encoder trained by `{name}`; train it with `tarrl pretrain --method {name}` and give its file \
             with --{what}"
        ),
        (None, Some(path)) => {
            bail!("the method has no {what}, but --{what} is {}; leave it out", path.display())
        }
    }
}

fn bar() -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("step {pos}/{len} {bar:32} {msg}  {eta} left");
    bar.with_style(style.expect("the template is valid"))
}
