//! NVIDIA's libraries, found and opened at run time: cuBLASLt, cuDNN, NCCL and NVRTC.

pub(crate) mod cublaslt;
pub(crate) mod cudnn;
mod locate;
pub(crate) mod nccl;
pub(crate) mod nvrtc;

pub use locate::Places;
