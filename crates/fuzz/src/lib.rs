//! Fuzz targets of every reader of files, and the engine that mutates valid files.
//!
//! A [`Target`] has valid small files made by our own writers, a repair of checksums, so that what lies behind them is
//! reached, and a check: the reader refuses an input with an error, or what it accepts satisfies its invariants. A panic
//! is a breach. The same targets run in three ways: as tests on a few thousand mutated files, by the program of this
//! crate on millions, and under cargo-fuzz (`fuzz/` at the root).

#![forbid(unsafe_code)]

pub mod mutation;
pub mod scratch;
pub mod targets;

mod repair;
mod target;

pub use scratch::Scratch;
pub use target::Target;
pub use targets::TARGETS;

/// Runs the target `name` on one input, in a scratch folder of its own: what cargo-fuzz calls.
///
/// # Panics
/// If there is no such target, or the reader breaks its contract.
pub fn check(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    target.check(input, &Scratch::new());
}
