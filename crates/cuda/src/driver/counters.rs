//! Counters of driver calls: how much the host asked of the driver.

use std::sync::atomic::AtomicU64;

/// Counted since the device was opened.
#[derive(Default)]
pub(crate) struct DriverCounters {
    /// Calls that concern the stream: kernels, products, copies, memory.
    pub(crate) calls: AtomicU64,
    /// Copies from the host among them.
    pub(crate) uploads: AtomicU64,
    /// Times that the host waited until all work was done.
    pub(crate) waits: AtomicU64,
    /// Launches of whole graphs.
    pub(crate) replays: AtomicU64,
}
