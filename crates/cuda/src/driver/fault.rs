//! The fault word: how kernels report an operand whose values are out of range.

use super::allocation::DeviceAllocation;
use cudarc::driver::CudaStream;
use cudarc::driver::result::DriverError;
use std::sync::atomic::{AtomicBool, Ordering};

/// A word on the GPU that a kernel sets when an index or a label is out of range, read with the next download.
pub(crate) struct Fault {
    pub(crate) word: DeviceAllocation,
    /// Whether a kernel that may set it has run since it was read.
    possible: AtomicBool,
}

impl Fault {
    /// With the word cleared.
    pub(crate) fn new(stream: &CudaStream) -> Result<Fault, DriverError> {
        let word = DeviceAllocation::new(stream, 4)?;
        word.zero(stream)?;
        Ok(Fault { word, possible: AtomicBool::new(false) })
    }

    /// Notes that a kernel which may set the word is queued.
    pub(crate) fn note(&self) {
        self.possible.store(true, Ordering::Relaxed);
    }

    /// Whether the word has to be read; not again until another kernel may set it.
    pub(crate) fn is_possible(&self) -> bool {
        self.possible.swap(false, Ordering::Relaxed)
    }

    /// Panics if the word that was read tells of a fault.
    #[track_caller]
    pub(crate) fn tell(word: u32) {
        match word {
            0 => {}
            1 => panic!("gather/scatter: an index lies beyond the extent of its axis"),
            _ => panic!("cross_entropy: a label is not below the number of classes"),
        }
    }
}
