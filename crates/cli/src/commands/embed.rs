//! `tarrl embed`: representations of a dataset, as a file of NumPy.

use std::path::{Path, PathBuf};

use clap::Args;
use tarrl_data::{npy, write_zip};
use tarrl_eval::{features, labels};
use tarrl_jobs::files::{cannot_write, write_atomic};
use tarrl_study::stages::head::BATCH;
use tarrl_tensor::Cpu;

use crate::inputs::{EncoderFile, ImageOptions, batch_for, check_output};
use crate::limits;
use crate::model_options::ModelOptions;
use crate::stdout::outln;

const EXAMPLES: &str = "\
Examples:
  tarrl embed encoder.safetensors --dataset fashion-mnist-sample
  tarrl embed encoder.onnx --dataset bloodmnist.npz --split train --out train.npz
  tarrl embed encoder.pt --dataset photos/ --resize 256 --crop 224

The file has `features` (n, d) of 32-bit floating-point numbers, `labels` (n) and `index` (n), the place of each image in
the split. In Python: numpy.load(\"features.npz\")[\"features\"].";

/// Compute the representations of a dataset and write them as npz
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.")]
pub(crate) struct Embed {
    /// The encoder: a checkpoint, or a model file of another program
    model: PathBuf,

    /// The dataset: a name as `tarrl data list` shows it, or a file or folder
    #[arg(long, value_name = "NAME|PATH")]
    dataset: String,

    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "features.npz")]
    out: PathBuf,

    /// Images in memory at a time [default: 250, and fewer of more than 32 × 32 pixels]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("--batch"))]
    batch: Option<u32>,

    /// Number of threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u16>("--threads"))]
    threads: Option<u16>,

    #[command(flatten)]
    from: ImageOptions,

    #[command(flatten)]
    reading: ModelOptions,
}

impl Embed {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let source = self.from.open(&self.dataset)?;
        let places = source.places();
        let mut inputs: Vec<&Path> = vec![&self.model, self.from.manifests()];
        inputs.extend(places.iter().map(PathBuf::as_path));
        check_output(&self.out, "--out FILE", &inputs)?;
        let device = Cpu { threads: self.threads.map_or(0, usize::from), ..Cpu::default() }.open();
        let file = EncoderFile::open(&self.model, &self.reading, &device)?;
        file.announce();
        let data = self.from.read(&source)?;
        file.check_images(&self.dataset, data.shape().into())?;
        let batch = self.batch.map_or_else(|| batch_for(BATCH, data.shape().into()), |batch| batch as usize);
        let found = features(&|x| file.model.forward(x), &data, &device, batch);
        let (n, d) = (data.len(), found.shape()[1]);
        let index: Vec<u32> = (0..n as u32).collect();
        let members = [
            ("features.npy", npy::encode_f32(&[n, d], &found.to_vec::<f32>())),
            ("labels.npy", npy::encode_u32(&[n], &labels(&data.labels))),
            ("index.npy", npy::encode_u32(&[n], &index)),
        ];
        let members = members.each_ref().map(|(name, bytes)| (*name, &bytes[..]));
        let mut bytes = Vec::new();
        write_zip(&mut bytes, &members)?;
        write_atomic(&self.out, &bytes).map_err(|error| cannot_write(&self.out, "--out FILE", error))?;
        outln!("{n} images of {}, {d} features each: {}", source.name(), self.out.display());
        Ok(())
    }
}
