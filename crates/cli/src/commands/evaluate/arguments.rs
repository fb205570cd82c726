//! The arguments of `tarrl evaluate`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use tarrl_attacks::Norm;

use crate::inputs::{ImageOptions, check_output};
use crate::limits;
use crate::model_options::ModelOptions;

const EXAMPLES: &str = "\
Examples:
  tarrl evaluate encoder.safetensors --dataset fashion-mnist-sample --epsilon 8/255
  tarrl evaluate resnet18.pt --dataset cifar10 --epsilon 2/255,4/255,8/255 --images 1000
  tarrl evaluate encoder.onnx --dataset bloodmnist.npz --norm l2 --epsilon 0.25,0.5
  tarrl evaluate encoder.pt --dataset photos/ --resize 256 --crop 224 --images 100
  tarrl evaluate encoder.pt --dataset CIFAR-10-C/fog.npy --severity 3 --train-dataset cifar10
  tarrl evaluate encoder.pt --dataset images.npz --head head.safetensors

What is measured, in this order; each part is a job of its own in OUT/jobs, so that the same command after an interruption
goes on from there, in the middle of an attack, too:
  clean          a linear probe fitted on the training split as the study fits it, and twenty nearest neighbors
  pgd            PGD with 50 steps from five random points, through encoder and head together, at every radius
  autoattack     the standard version; an image that a smaller radius broke is not attacked again
  displacement   how far representations move without any label, and the bound of the head with that radius
  certificates   what no attack can exceed, on a few images, at radii where it says something; an encoder with an operation
                 that has no rule is named with it, and everything else is measured as usual
  nearest        the nearest mistake of each image, which gives the accuracy at every radius from one run
  distances      certified radii below it, and the nearest point that moves the representation without any label
  masking        whether the accuracies could be too high because gradients are masked, on twenty images

OUT/index.html is the page; results.csv and results.json have its numbers, images.csv and images.json the outcome of each image
under its place in the split.

Images are named by their place in the split of the dataset that is read, counted from 0.";

/// Evaluate an encoder of any program on a dataset of any format: accuracy, attacks, bound, certificates, one page
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.")]
pub(crate) struct Evaluate {
    /// The encoder: a checkpoint, or a model file of another program
    pub(super) model: PathBuf,

    /// The dataset whose test images are evaluated: a name as `tarrl data list` shows it, or a file or folder
    #[arg(long, value_name = "NAME|PATH")]
    pub(super) dataset: String,

    /// The dataset with the images that heads are fitted on [default: the same]
    #[arg(long, value_name = "NAME|PATH")]
    pub(super) train_dataset: Option<String>,

    /// The split that heads are fitted on [default: train]
    #[arg(long, value_name = "SPLIT")]
    pub(super) train_split: Option<String>,

    /// A linear head, a file head.safetensors or JSON, instead of one that is fitted
    #[arg(long, value_name = "FILE")]
    pub(super) head: Option<PathBuf>,

    /// How perturbations are measured: linf, l2 or l1
    #[arg(long, default_value = "linf")]
    pub(super) norm: Norm,

    /// Radii of the balls, in pixels of [0, 1], such as 2/255,8/255
    #[arg(long, value_name = "ε,..", value_delimiter = ',', default_value = "8/255", value_parser = limits::radius)]
    pub(super) epsilon: Vec<f64>,

    /// Number of test images that are attacked, balanced over the classes; the clean accuracy is of all [default: 200]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("--images"))]
    pub(super) images: Option<u32>,

    /// Number of these images that are certified
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = limits::whole::<u32>("--samples"))]
    pub(super) samples: u32,

    /// Seed of the random starts and of the fit
    #[arg(long, default_value_t = 0, value_parser = limits::whole::<u64>("--seed"))]
    pub(super) seed: u64,

    /// Images in memory at a time [default: 250, and fewer of more than 32 × 32 pixels]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("--batch"))]
    pub(super) batch: Option<u32>,

    /// Folder for the page, the numbers and what is needed to go on after an interruption
    #[arg(long, value_name = "DIR", default_value = "evaluation")]
    pub(super) out: PathBuf,

    /// Stop after so many minutes, with exit code 75; the same command goes on from there
    #[arg(long, value_name = "MINUTES", value_parser = limits::minutes)]
    pub(super) time_limit: Option<f64>,

    /// Number of threads [default: all cores]; results are the same bits for any number
    #[arg(long, value_name = "N", value_parser = limits::whole::<u16>("--threads"))]
    pub(super) threads: Option<u16>,

    #[command(flatten)]
    pub(super) from: ImageOptions,

    #[command(flatten)]
    pub(super) reading: ModelOptions,
}

impl Evaluate {
    /// The radii, rising, each once.
    pub(super) fn radii(&self) -> anyhow::Result<Vec<f64>> {
        let mut radii = self.epsilon.clone();
        radii.sort_by(f64::total_cmp);
        radii.dedup();
        if radii.is_empty() || radii[0] == 0.0 {
            bail!("--epsilon needs radii above 0; the accuracy at 0 is always measured");
        }
        if self.norm == Norm::L0 {
            bail!("--norm l0 is known to `tarrl attack --attack pgd` alone; take linf, l2 or l1");
        }
        if let Some(error) = radii.iter().find_map(|&r| self.norm.check_pixel_radius(r).err()) {
            bail!("--epsilon: {error}");
        }
        Ok(radii)
    }

    /// Checks, before any work, that the output replaces none of the inputs.
    pub(super) fn check_outputs(&self, inputs: &[PathBuf]) -> anyhow::Result<()> {
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        for file in ["index.html", "results.json", "images.json"] {
            // A folder that does not exist yet holds no input, and is made later.
            if self.out.is_dir() {
                check_output(&self.out.join(file), "--out DIR", &inputs)?;
            }
        }
        Ok(())
    }
}
