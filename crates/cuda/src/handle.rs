//! The handle of an open GPU: its device, facts, peak memory and counted driver calls.

use crate::backend::CudaBackend;
use crate::error::CudaError;
use crate::gpu::{self, Facts};
use crate::options::Cuda;
use crate::tables::Tables;
use std::ops::Sub;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tarrl_tensor::Device;

/// Opens the GPU `ordinal` as `cuda:ordinal`, with exact f32 products and the usual folders.
///
/// # Errors
/// [`CudaError`] without a driver, without such a GPU, or without NVRTC and cuBLASLt.
pub fn open(ordinal: usize) -> Result<Device, CudaError> {
    Cuda::new(ordinal).open().map(|gpu| gpu.device())
}

impl Cuda {
    /// Opens the device.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(&self) -> Result<Gpu, CudaError> {
        gpu::Gpu::open(self).map(|gpu| Gpu(Arc::new(gpu)))
    }
}

/// An open GPU: more than a [`Device`] tells of it.
#[derive(Clone, Debug)]
pub struct Gpu(pub(crate) Arc<gpu::Gpu>);

impl Gpu {
    /// The handle to compute with; all handles share memory and stream.
    pub fn device(&self) -> Device {
        Arc::new(CudaBackend(self.0.clone(), Tables::default()))
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

/// Calls of the driver since the device was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// Calls that concern the stream: kernels, products, copies, memory.
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

    /// The calls between two readings.
    fn sub(self, before: CallCounts) -> CallCounts {
        CallCounts {
            calls: self.calls - before.calls,
            uploads: self.uploads - before.uploads,
            waits: self.waits - before.waits,
            replays: self.replays - before.replays,
        }
    }
}
