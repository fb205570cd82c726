//! Work of one step as counts, their file, and their comparison.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The counts of one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Work {
    /// Forward passes of each image.
    pub(crate) forward: f64,
    /// Backward passes of each image; of a certificate, rows that were substituted back.
    pub(crate) backward: f64,
    /// Calls of kernels.
    pub(crate) kernels: u64,
    /// Multiply-adds of convolutions, matrix products and their adjoints.
    pub(crate) multiply_adds: u64,
    /// Copies between host and device.
    pub(crate) transfers: u64,
    /// Allocations.
    pub(crate) allocations: u64,
    /// Their bytes.
    pub(crate) allocated_bytes: u64,
}

/// The counts of all cases by name, as in the file.
pub(crate) type Table = BTreeMap<String, Work>;

/// The share by which allocations may differ: their number depends on how the standard library grows its collections,
/// and the size of scratch memory on the instruction set of the kernels.
pub(crate) const SLACK: f64 = 0.1;

impl Work {
    /// This without the other.
    pub(crate) fn less(&self, other: &Work) -> Work {
        Work {
            forward: self.forward - other.forward,
            backward: self.backward - other.backward,
            kernels: self.kernels - other.kernels,
            multiply_adds: self.multiply_adds - other.multiply_adds,
            transfers: self.transfers - other.transfers,
            allocations: self.allocations - other.allocations,
            allocated_bytes: self.allocated_bytes - other.allocated_bytes,
        }
    }

    /// What has changed from `expected`, a line each.
    pub(crate) fn changes(&self, expected: &Work) -> Vec<String> {
        let exact = [
            ("forward", self.forward, expected.forward),
            ("backward", self.backward, expected.backward),
            ("kernels", self.kernels as f64, expected.kernels as f64),
            ("multiply_adds", self.multiply_adds as f64, expected.multiply_adds as f64),
            ("transfers", self.transfers as f64, expected.transfers as f64),
        ];
        let near = [
            ("allocations", self.allocations as f64, expected.allocations as f64),
            ("allocated_bytes", self.allocated_bytes as f64, expected.allocated_bytes as f64),
        ];
        let exact = exact.into_iter().filter(|(_, found, expected)| found != expected);
        let near =
            near.into_iter().filter(|(_, found, expected)| (found - expected).abs() > SLACK * expected);
        exact
            .chain(near)
            .map(|(name, found, expected)| format!("{name} is {found}, not {expected}"))
            .collect()
    }
}

/// The table for people.
pub(crate) fn render(table: &Table) -> String {
    let mut text = format!(
        "{:<17} {:>8} {:>9} {:>8} {:>13} {:>10} {:>12} {:>10}\n",
        "step", "forward", "backward", "kernels", "multiply-adds", "transfers", "allocations", "bytes"
    );
    for (name, work) in table {
        let Work { forward, backward, kernels, multiply_adds, transfers, allocations, allocated_bytes } =
            work;
        writeln!(
            text,
            "{name:<17} {forward:>8} {backward:>9} {kernels:>8} {multiply_adds:>13} {transfers:>10} {allocations:>12} \
             {allocated_bytes:>10}"
        )
        .expect("a string takes everything");
    }
    text
}
