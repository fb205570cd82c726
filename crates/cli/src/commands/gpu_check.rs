//! `tarrl gpu-check`: checks and measures the GPU backend.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::device::DeviceName;
use crate::limits;

const EXAMPLES: &str = "\
Examples:
  tarrl gpu-check                        everything, on the first GPU
  tarrl gpu-check --device cuda:1        on another one
  tarrl gpu-check --only conformance     only this part
  tarrl gpu-check --only speed,peers     only measurements
  tarrl gpu-check --emulated             without a GPU: compile the kernels, check them on an emulated driver

It runs the conformance suite on the GPU in f32 and f64, compares ops and ten training steps with the CPU, repeats
them for the same bits, compares captured functions and whole trainings with plain runs, adds numbers and trains over NCCL where it is
installed, and measures kernels and whole steps beside what
the card can do at most, and beside PyTorch if it is installed. It writes OUT/gpu-check.json and OUT/gpu-check.md after
every piece.";

/// Check the GPU backend on a GPU, and measure it
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.")]
pub(crate) struct GpuCheck {
    /// The GPU: cuda:0, cuda:1, ..
    #[arg(long, value_name = "DEVICE", default_value = "cuda:0")]
    device: DeviceName,

    /// Only these parts
    #[arg(long, value_name = "PART,..", value_enum, value_delimiter = ',')]
    only: Vec<Part>,

    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "runs/gpu-check")]
    out: PathBuf,

    /// Begin nothing more after so many minutes; what was found until then is written
    #[arg(long, value_name = "MINUTES", default_value_t = 8.0, value_parser = limits::minutes)]
    minutes: f64,

    /// Without a GPU: compile the kernels with NVRTC, and run the checks on an emulated driver
    #[arg(long, conflicts_with_all = ["only", "device", "out"])]
    emulated: bool,

    /// Write no files
    #[arg(long, hide = true)]
    dry: bool,
}

/// A part of the check.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Part {
    /// Every op against a plain evaluation
    Conformance,
    /// Ops on larger shapes and ten training steps against the CPU, and again
    Agreement,
    /// Captured functions against the same functions run as they are
    Replay,
    /// Whole trainings with graphs and without: the same bits, and what the host has to do in a step
    Steps,
    /// Sums and a training over NCCL, on as many GPUs as there are up to four
    Ranks,
    /// Kernels and whole steps against the limits of the card, and steps on images from the loader
    Speed,
    /// The same steps in PyTorch
    Peers,
}

impl GpuCheck {
    /// Runs the parts that were asked for.
    #[cfg(feature = "cuda")]
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        if self.emulated {
            tarrl_gpu_check::check_emulated()?;
            // The lines before it ignore that nobody reads them; this one tells.
            crate::stdout::outln!("   done");
            return Ok(());
        }
        let DeviceName::Cuda(ordinal) = self.device else {
            anyhow::bail!("gpu-check needs a GPU such as cuda:0, not the CPU");
        };
        let most = std::time::Duration::try_from_secs_f64(60.0 * self.minutes)
            .map_err(|_| anyhow::anyhow!("--minutes {} is no time; give a number such as 8", self.minutes))?;
        let parts = if self.only.is_empty() { Part::value_variants() } else { &self.only[..] };
        let parts: Vec<_> = parts.iter().map(|part| part.checked()).collect();
        let out = (!self.dry).then_some(&self.out);
        tarrl_gpu_check::run(ordinal, &parts, out.map(PathBuf::as_path), most)?;
        match out {
            Some(out) => {
                crate::stdout::outln!("   wrote gpu-check.json and gpu-check.md in {}", out.display())
            }
            None => crate::stdout::outln!("   done"),
        }
        Ok(())
    }

    /// Says how to build the program with the GPU backend.
    #[cfg(not(feature = "cuda"))]
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        Err(crate::device::without_the_backend("gpu-check"))
    }
}

#[cfg(feature = "cuda")]
impl Part {
    fn checked(self) -> tarrl_gpu_check::Part {
        match self {
            Self::Conformance => tarrl_gpu_check::Part::Conformance,
            Self::Agreement => tarrl_gpu_check::Part::Agreement,
            Self::Replay => tarrl_gpu_check::Part::Replay,
            Self::Steps => tarrl_gpu_check::Part::Steps,
            Self::Ranks => tarrl_gpu_check::Part::Ranks,
            Self::Speed => tarrl_gpu_check::Part::Speed,
            Self::Peers => tarrl_gpu_check::Part::Peers,
        }
    }
}
