//! `tarrl export`: encoders, heads and certificates for other programs.

mod claims;
mod function;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use tarrl_encoders::{Encoder, cast};
use tarrl_interop::onnx::{self, ExportBatch};
use tarrl_interop::save_state_dict;
use tarrl_jobs::files::{cannot_write, write_atomic};
use tarrl_study::heads::AnyHead;
use tarrl_tensor::{DType, Device, cpu};

use self::function::Function;
use crate::commands::certify::Images;
use crate::inputs::{EncoderFile, check_output};
use crate::limits;
use crate::model_options::ModelOptions;
use crate::stdout::outln;

const EXAMPLES: &str = "\
Examples:
  tarrl export encoder.safetensors --out encoder.onnx --side 32
  tarrl export encoder.safetensors --out encoder.onnx --side 32 --batch any
  tarrl export encoder.safetensors --head head.json --out classifier.onnx --side 32
  tarrl export encoder.safetensors --head head.json --out classifier.safetensors
  tarrl export encoder.safetensors --certificates certificates.safetensors --vnnlib queries

ONNX files take images (n, c, h, w) with pixels in [0, 1] and give y (n, d); batch norm is folded, so that there is no way
back to a checkpoint. The safetensors file is a state dict that PyTorch loads, with the head as fc. Certificates of the
l-infinity ball become an ONNX file, one VNN-LIB query for each image in versions 1.0 and 2.0, and instances.csv: a verifier
that answers `unsat` confirms them. With a head the queries ask for another class where the head is certified.";

/// Write an encoder as ONNX or PyTorch's safetensors, or certificates as VNN-LIB queries
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.")]
pub(crate) struct Export {
    /// The encoder: a checkpoint, or a model file of another program
    encoder: PathBuf,

    /// A head on it, as JSON or a file `head.safetensors`
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,

    /// The file to write, which ends in .onnx or .safetensors
    #[arg(long, value_name = "FILE", required_unless_present = "vnnlib")]
    out: Option<PathBuf>,

    /// The first axis of an ONNX file: one image, as verifiers take it, or any number
    #[arg(long, default_value = "one")]
    batch: BatchArg,

    /// Side of the images in pixels, where the encoder does not fix it
    #[arg(long, value_name = "PIXELS", value_parser = limits::whole::<usize>("--side"))]
    side: Option<usize>,

    /// Certificates to write as queries
    #[arg(long, value_name = "FILE", requires = "vnnlib")]
    certificates: Option<PathBuf>,

    /// The folder for the queries of --certificates
    #[arg(long, value_name = "DIR", requires = "certificates")]
    vnnlib: Option<PathBuf>,

    #[command(flatten)]
    images: Images,
}

/// [`ExportBatch`] by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum BatchArg {
    One,
    Any,
}

impl Export {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        if let (Some(certificates), Some(folder)) = (&self.certificates, &self.vnnlib) {
            return claims::write(&self.encoder, self.head.as_deref(), certificates, folder, &self.images);
        }
        let out = self.out.as_ref().context("give a file with --out FILE")?;
        let inputs: Vec<&Path> =
            [&self.encoder].into_iter().chain(&self.head).map(PathBuf::as_path).collect();
        check_output(out, "--out FILE", &inputs)?;
        let ending = out.extension().and_then(|ending| ending.to_str()).unwrap_or("");
        match ending {
            "onnx" => self.onnx(out),
            "safetensors" => self.state_dict(out),
            _ => bail!(
                "{} ends neither in .onnx nor in .safetensors; choose a format by the name",
                out.display()
            ),
        }
    }

    fn onnx(&self, out: &Path) -> anyhow::Result<()> {
        let device = cpu();
        let is_onnx = self.encoder.extension().is_some_and(|ending| ending == "onnx");
        let mut function = if is_onnx { self.graph(&device)? } else { self.checkpoint(&device)? };
        if let Some(path) = &self.head {
            let (head, named) = AnyHead::read(path)?;
            if !is_onnx {
                EncoderFile::open(&self.encoder, &ModelOptions::default(), &device)?.check_head(
                    path,
                    head.features(),
                    named.as_deref(),
                )?;
            }
            function = function.with_head(&head, path, &device)?;
        }
        let batch = match self.batch {
            BatchArg::One => ExportBatch::One,
            BatchArg::Any => ExportBatch::Any,
        };
        let bytes = function.bytes(batch, &device)?;
        write_atomic(out, &bytes).map_err(|error| cannot_write(out, "--out FILE", error))?;
        let [h, w, c] = function.image;
        outln!("{}: images (n, {c}, {h}, {w}), {} bytes", out.display(), bytes.len());
        Ok(())
    }

    /// An encoder of ours, its batch norm folded in f64.
    fn checkpoint(&self, device: &Device) -> anyhow::Result<Function> {
        let file = EncoderFile::open(&self.encoder, &ModelOptions::default(), device)?;
        file.announce();
        let mut encoder = file.encoder()?;
        let image = image(&encoder, self.side)?;
        cast(&mut encoder, DType::F64);
        Ok(Function::of_encoder(&encoder, file.hash, image, DType::F64))
    }

    fn graph(&self, device: &Device) -> anyhow::Result<Function> {
        let path = self.encoder.display();
        let graph = onnx::read(&self.encoder, device)
            .with_context(|| format!("cannot read {path}; check the path"))?;
        let graph = graph.with_context(|| path.to_string())?;
        let side = graph
            .side()
            .or(self.side)
            .with_context(|| format!("{path} takes images of any side; choose one with --side"))?;
        let names = graph.constants();
        let source = EncoderFile::open(&self.encoder, &ModelOptions::default(), device)?.hash;
        let metadata = vec![("tarrl.source_blake3".to_owned(), source)];
        let image = [side, side, graph.channels()];
        Ok(Function { names, metadata, image, dtype: DType::F32, run: Box::new(move |x| graph.forward(x)) })
    }

    /// The checkpoint with its head as one state dict.
    fn state_dict(&self, out: &Path) -> anyhow::Result<()> {
        let device = cpu();
        let file = EncoderFile::open(&self.encoder, &ModelOptions::default(), &device)?;
        file.announce();
        let encoder = file.encoder()?;
        let config = encoder.config();
        let head = match &self.head {
            None => None,
            Some(path) => {
                let (head, named) = AnyHead::read(path)?;
                file.check_head(path, head.features(), named.as_deref())?;
                let AnyHead::Linear(head) = head else {
                    bail!(
                        "{} is no linear head, which `fc` of a state dict is; export ONNX instead",
                        path.display()
                    );
                };
                Some([head.weight(), head.bias()].map(single))
            }
        };
        let head = head.as_ref().map(|[weight, bias]| (&weight[..], &bias[..]));
        save_state_dict(out, &encoder, head)?;
        outln!("{}: torch.load_state_dict takes it as it is", out.display());
        if !config.mean.is_empty() || !config.std.is_empty() {
            outln!(
                "the encoder subtracts mean {:?} and divides by std {:?}, which a state dict does not",
                config.mean,
                config.std
            );
        }
        Ok(())
    }
}

/// As f32, which state dicts hold.
fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// Height, width and channels of the images of an encoder.
fn image(encoder: &Encoder, side: Option<usize>) -> anyhow::Result<[usize; 3]> {
    let config = encoder.config();
    let side = match (config.arch.needs_side(), side) {
        (true, Some(other)) if other != config.side => {
            bail!(
                "--side {other}: this encoder is made for images of {}×{}; leave it out",
                config.side,
                config.side
            )
        }
        (true, _) => config.side,
        (false, Some(side)) => side,
        (false, None) => {
            bail!("this encoder takes images of any side; choose the side of the ONNX file with --side")
        }
    };
    Ok([side, side, config.in_channels])
}
