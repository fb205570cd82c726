//! The tensor backend on NVIDIA GPUs: [`tarrl_tensor::Backend`] in f32, f64 and bf16, so that nothing but the device that is
//! passed in changes when a program moves to a GPU.
//!
//! ```
//! use tarrl_tensor::Tensor;
//!
//! match tarrl_cuda::open(0) {
//!     Ok(device) => {
//!         let x = Tensor::new(&device, [2, 2], &[1.0f32, -2.0, 3.0, 0.5]);
//!         println!("on {}: {}", device.name(), x.relu().sum_all().item());
//!     }
//!     Err(error) => println!("did not run: {error}"),
//! }
//! ```
//!
//! - Nothing is linked: the driver, cuBLASLt, cuDNN and NVRTC are searched for when a GPU is opened ([`Places`]), and what is
//!   missing is an [`CudaError`] that says where it was searched for and what to do.
//! - Matrix products run in cuBLASLt, convolutions in cuDNN or, where it is error or will not do, as products of
//!   patches in cuBLASLt; everything else in kernels of our own under `kernels/`. They are
//!   compiled for the card when they are first used, and kept on disk.
//! - Two runs give the same bits: sums run in a fixed order, no float is added atomically, and all work is queued on
//!   one stream. The bits are not those of the CPU, except for uniform random numbers and comparisons.
//! - What only the GPU can see, an index or label out of range, panics when a result is next read.
//! - `emulator/` is a driver, a cuBLASLt and a cuDNN of our own that run the same kernels on the CPU. With it
//!   `cargo xtask check --kernels` puts this whole crate through the conformance suite on any machine with a C++
//!   compiler and NVRTC. It shows that arithmetic, indices, arguments and barriers are right; it shows nothing about
//!   speed, and nothing about races between warps, because its threads run one after the other from barrier to barrier.

mod backend;
mod driver;
mod error;
mod gpu;
mod graph;
pub mod kernels;
mod launch;
mod libraries;
mod limits;
mod ops;
mod tables;

pub use error::CudaError;
pub use gpu::Facts;
pub use libraries::Places;
pub use libraries::cudnn::finalize_graphs;
pub use libraries::nvrtc::{Compiled, Compiler};
pub use limits::Limits;

use std::ops::Sub;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tables::Tables;
use tarrl_tensor::Device;

/// Opens the GPU `ordinal` as `cuda:ordinal`, with exact f32 products and the usual folders.
///
/// # Errors
/// [`CudaError`] without a driver, without such a GPU, or without NVRTC and cuBLASLt.
pub fn open(ordinal: usize) -> Result<Device, CudaError> {
    Cuda::new(ordinal).open().map(|gpu| gpu.device())
}

/// How to open a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cuda {
    /// Its place among the GPUs of the machine.
    pub ordinal: usize,
    /// How f32 products are computed.
    pub arithmetic: Arithmetic,
    /// Whether convolutions go to cuDNN where it is installed.
    pub cudnn: bool,
    /// Whether work that comes again and again is captured and queued as a whole ([`tarrl_tensor::CapturedFn`]).
    pub graphs: bool,
    /// Where libraries are searched for and compiled kernels are kept.
    pub places: Places,
}

/// How products and convolutions of f32 are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// In f32.
    #[default]
    Exact,
    /// On tensor cores with factors rounded to ten bits of mantissa and sums in f32.
    Tf32,
}

impl Cuda {
    /// Exact products, cuDNN where it is, graphs, and the usual folders.
    pub fn new(ordinal: usize) -> Cuda {
        Cuda {
            ordinal,
            arithmetic: Arithmetic::default(),
            cudnn: true,
            graphs: true,
            places: Places::usual(),
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(&self) -> Result<Gpu, CudaError> {
        gpu::Gpu::open(self).map(|gpu| Gpu(Arc::new(gpu)))
    }
}

/// An open GPU, for who wants to know more of it than a [`Device`] tells.
#[derive(Clone, Debug)]
pub struct Gpu(Arc<gpu::Gpu>);

impl Gpu {
    /// The handle to compute with; all handles share memory and stream.
    pub fn device(&self) -> Device {
        Arc::new(backend::CudaBackend(self.0.clone(), Tables::default()))
    }

    /// The card and the versions of what drives it.
    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// Bytes of memory that arrays and intermediate results took at most, if the driver tells.
    pub fn peak_memory(&self) -> Option<u64> {
        self.0.peak_memory()
    }

    /// A line for each convolution that was asked for so far: the engine of cuDNN and its workspace, or that there is none.
    ///
    /// # Panics
    /// If another thread panicked in a convolution.
    pub fn convolutions(&self) -> Vec<String> {
        let cudnn = self.0.cudnn.as_ref();
        cudnn.map_or_else(Vec::new, |cudnn| cudnn.lock().expect("no panic while held").describe())
    }

    /// What the host has asked of the driver so far.
    pub fn call_counts(&self) -> CallCounts {
        let counters = &self.0.counters;
        let [calls, uploads, waits, replays] =
            [&counters.calls, &counters.uploads, &counters.waits, &counters.replays]
                .map(|count| count.load(Ordering::Relaxed));
        CallCounts { calls, uploads, waits, replays }
    }

    /// Waits until all queued work is done.
    ///
    /// # Panics
    /// If the device failed.
    pub fn synchronize(&self) {
        self.0.forbid_capture("a wait");
        let _guard = self.0.stream_guard();
        self.0.expect("synchronize", self.0.wait());
    }
}

/// What the host asked of the driver: how much it has to do beside the card, and how often it waits for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// CallCounts that concern the stream: kernels, products, copies, memory.
    pub calls: u64,
    /// Copies from the host among them.
    pub uploads: u64,
    /// Times that the host waited until all work was done.
    pub waits: u64,
    /// Graphs that were queued as a whole.
    pub replays: u64,
}

impl Sub for CallCounts {
    type Output = CallCounts;

    /// What was asked between two looks.
    fn sub(self, before: CallCounts) -> CallCounts {
        CallCounts {
            calls: self.calls - before.calls,
            uploads: self.uploads - before.uploads,
            waits: self.waits - before.waits,
            replays: self.replays - before.replays,
        }
    }
}
