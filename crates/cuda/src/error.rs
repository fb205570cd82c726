//! Errors of the GPU backend: what is missing or failed, and what to do.

use std::path::PathBuf;

/// Why a GPU or a library of it cannot be used: what is missing, where it was searched for, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// The driver's library is nowhere.
    #[error(
        "no NVIDIA driver: libcuda.so.1 is neither on the loader's path nor in {}; \
         install the driver of the GPU, or name the folder of its library in TARRL_CUDA_LIBRARIES",
        list(searched)
    )]
    NoDriver {
        /// The folders that were searched besides the loader's own.
        searched: Vec<PathBuf>,
    },
    /// The driver knows no such device.
    #[error(
        "no device cuda:{ordinal}: {}; see `nvidia-smi -L`, and CUDA_VISIBLE_DEVICES if it is set",
        existing(*count)
    )]
    NoDevice {
        /// The device that was asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// A library of the toolkit is nowhere.
    #[error(
        "no {name}: {name}.so is neither on the loader's path nor in {}; \
         install the CUDA 13 toolkit or the Python packages {packages}, or name their folder in TARRL_CUDA_LIBRARIES",
        list(searched)
    )]
    NoLibrary {
        /// The library without its ending.
        name: &'static str,
        /// The Python packages that hold it.
        packages: &'static str,
        /// The folders that were searched besides the loader's own.
        searched: Vec<PathBuf>,
    },
    /// NCCL is nowhere.
    #[error(
        "no NCCL: libnccl.so.2 is neither on the loader's path nor in {}; install it (Debian: libnccl2, Python: \
         nvidia-nccl-cu13), name its folder in TARRL_CUDA_LIBRARIES, or connect the ranks with --connect tcp",
        list(searched)
    )]
    NoNccl {
        /// The folders that were searched besides the loader's own.
        searched: Vec<PathBuf>,
    },
    /// Everything is there, but something failed.
    #[error("the GPU cannot be used: {what} failed: {cause}; see `nvidia-smi`")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// What the library said.
        cause: String,
    },
    /// A kernel does not compile.
    #[error(
        "the kernels of {file} do not compile for {arch}: {log}; this is a bug of tarrl-cuda or of NVRTC {version}"
    )]
    Kernel {
        /// The file of the kernel without its ending.
        file: &'static str,
        /// The architecture, such as `sm_90`.
        arch: String,
        /// What the compiler said.
        log: String,
        /// The version of the compiler.
        version: String,
    },
    /// cuDNN does not take the graph of a convolution.
    #[error("cuDNN refuses the graph of {graph}: {cause}; `Cuda {{ cudnn: false, .. }}` computes without it")]
    RefusedGraph {
        /// Operation, type and shape.
        graph: String,
        /// What the library said.
        cause: String,
    },
}

impl CudaError {
    pub(crate) fn failed(what: &'static str) -> impl Fn(String) -> CudaError {
        move |cause| CudaError::Failed { what, cause }
    }
}

fn list(folders: &[PathBuf]) -> String {
    if folders.is_empty() {
        return "any other folder (none is configured)".to_owned();
    }
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn existing(count: usize) -> String {
    match count {
        0 => "the driver sees no GPU".to_owned(),
        1 => "there is only cuda:0".to_owned(),
        n => format!("there are cuda:0 to cuda:{}", n - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_says_what_is_missing_and_what_to_do() {
        let searched = vec![PathBuf::from("/a"), PathBuf::from("/b")];
        let driver = CudaError::NoDriver { searched: searched.clone() }.to_string();
        assert!(driver.contains("libcuda.so.1") && driver.contains("/a, /b") && driver.contains("install"));
        let device = CudaError::NoDevice { ordinal: 3, count: 2 }.to_string();
        assert!(device.contains("cuda:3") && device.contains("cuda:0 to cuda:1"), "{device}");
        let nccl = CudaError::NoNccl { searched: searched.clone() }.to_string();
        let parts = ["libnccl.so.2", "/a, /b", "nvidia-nccl-cu13", "TARRL_CUDA_LIBRARIES", "--connect tcp"];
        assert!(parts.iter().all(|part| nccl.contains(part)), "{nccl}");
        let library = CudaError::NoLibrary { name: "libnvrtc", packages: "nvidia-cuda-nvrtc", searched };
        assert!(library.to_string().contains("nvidia-cuda-nvrtc"), "{library}");
        assert!(CudaError::NoDriver { searched: vec![] }.to_string().contains("none is configured"));
    }
}
