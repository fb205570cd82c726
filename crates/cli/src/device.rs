//! Device names: `cpu`, or `cuda:N` for a GPU.

use std::str::FromStr;

use tarrl_tensor::{Cpu, Device};

/// `cpu`, or `cuda:N` for a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceName {
    Cpu,
    Cuda(usize),
}

impl DeviceName {
    /// Opens the device; `threads` are those of the CPU, 0 for all cores.
    ///
    /// # Errors
    /// Fails if there is no such GPU, saying what is missing and what to do.
    pub(crate) fn open(self, threads: usize) -> anyhow::Result<Device> {
        match self {
            DeviceName::Cpu => Ok(Cpu { threads, ..Cpu::default() }.open()),
            DeviceName::Cuda(ordinal) => gpu(ordinal),
        }
    }
}

impl std::fmt::Display for DeviceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceName::Cpu => f.write_str("cpu"),
            DeviceName::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let number = name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        match (name, number) {
            ("cpu", _) => Ok(DeviceName::Cpu),
            ("cuda" | "gpu", _) => Ok(DeviceName::Cuda(0)),
            (_, Some(ordinal)) => Ok(DeviceName::Cuda(ordinal)),
            _ => Err("there are 'cpu', and 'cuda:0', 'cuda:1', .. for NVIDIA GPUs".to_owned()),
        }
    }
}

#[cfg(feature = "cuda")]
fn gpu(ordinal: usize) -> anyhow::Result<Device> {
    // Captured graphs can be switched off when something looks wrong.
    let graphs = std::env::var_os("TARRL_CUDA_GRAPHS").is_none_or(|value| value != "0");
    let gpu = tarrl_cuda::Cuda { graphs, ..tarrl_cuda::Cuda::new(ordinal) }.open()?;
    Ok(gpu.device())
}

#[cfg(not(feature = "cuda"))]
fn gpu(ordinal: usize) -> anyhow::Result<Device> {
    Err(without_the_backend(&format!("cuda:{ordinal}")))
}

/// The error of a program without GPU backend where `what` needs it, with the remedy.
#[cfg(not(feature = "cuda"))]
pub(crate) fn without_the_backend(what: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "{what} needs the GPU backend, which this program was built without; `cargo xtask` builds it where it is needed, \
         and `cargo install --path crates/cli --features cuda` installs a program that has it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdout::note;

    #[test]
    fn devices_are_named_by_kind_and_number() {
        assert_eq!("cpu".parse(), Ok(DeviceName::Cpu));
        assert_eq!("cuda:3".parse(), Ok(DeviceName::Cuda(3)));
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda(0)));
        for wrong in ["cuda:", "cuda:x", "cuda:-1", "cpv", ""] {
            let error = wrong.parse::<DeviceName>().unwrap_err();
            assert!(error.contains("'cpu'") && error.contains("'cuda:0'"), "{error}");
        }
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error_with_a_remedy() {
        match DeviceName::Cuda(999).open(0) {
            Ok(_) => note!("did not run: this machine has a thousand GPUs"),
            Err(error) => {
                let error = error.to_string();
                assert!(["install", "nvidia-smi"].iter().any(|word| error.contains(word)), "{error}");
            }
        }
    }
}
