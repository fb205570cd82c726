//! `tarrl import`: makes a checkpoint of an encoder that another program trained.

use std::path::PathBuf;

use clap::Args;
use tarrl_encoders::checkpoint::save_encoder;
use tarrl_interop::{ReadOptions, import_encoder, list_state_dict};
use tarrl_jobs::files::hash;
use tarrl_tensor::Cpu;

use crate::inputs::check_output;
use crate::model_options::ModelOptions;
use crate::stdout::outln;

const EXAMPLES: &str = "\
Examples:
  tarrl import model.pth --list                           what is in it, and which name maps fit
  tarrl import model.pth --out encoder.safetensors        the encoder, by the name map that fits
  tarrl import acl.pt --branch 0 --out clean.safetensors  of two sets of batch norms the one of clean images
  tarrl import acl.pt --both-branches --out dual.safetensors   both of them, to train on
  tarrl import resnet.pth --map mine.toml --normalization cifar10 --out encoder.safetensors
  tarrl certify encoder.safetensors                       and what is known of its representations

PyTorch files (.pt, .pth, .ckpt, .t7, .pth.tar) and safetensors are recognized by their content; nothing in them is
executed. Read are ResNet-18, 34 and 50, WideResNets, VGGs with batch norm, vision transformers and image towers of CLIP, under
the names of the programs that `docs/bring-your-own.md` lists.";

/// Make a checkpoint of an encoder that another program trained
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.")]
pub(crate) struct Import {
    /// The file of the other program
    model: PathBuf,

    /// The checkpoint to write
    #[arg(long, value_name = "FILE", required_unless_present = "list")]
    out: Option<PathBuf>,

    /// Show what the file contains and which name maps fit, and write nothing
    #[arg(long, conflicts_with = "out")]
    list: bool,

    /// Keep two sets of batch norms, of clean and of attacked images, instead of one
    #[arg(long, conflicts_with = "branch")]
    both_branches: bool,

    #[command(flatten)]
    flags: ModelOptions,
}

impl Import {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let options = ReadOptions { both_branches: self.both_branches, ..self.flags.read() };
        let Some(out) = &self.out else {
            for line in list_state_dict(&self.model, &options)? {
                outln!("{line}");
            }
            return Ok(());
        };
        check_output(out, "--out FILE", &[&self.model])?;
        let mut found = import_encoder(&self.model, &options, &Cpu::default().open())?;
        found.notes.insert("source_blake3".into(), hash(&self.model)?);
        save_encoder(out, &found.encoder, &found.notes)?;
        for line in &found.summary {
            outln!("{line}");
        }
        outln!("The encoder: {}", out.display());
        Ok(())
    }
}
