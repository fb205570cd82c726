#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod error;
mod group;
mod launch;
mod ops;
mod ranks;
mod tcp;
mod tree;

pub use error::ParallelError;
pub use group::{Group, MOST_SHARDS, Shard};
pub use launch::Launch;
pub use ops::{all_gather, all_sum};
pub use ranks::{Alone, Ranks, SumOrder};
pub use tcp::TcpRanks;
pub use tree::tree_sum;

#[cfg(test)]
mod tests;
