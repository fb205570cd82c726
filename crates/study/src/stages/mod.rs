//! Stages: the kinds of jobs that a study is made of, one file each.
//!
//! ```text
//! data → pretrain → head → attack, autoattack
//!         ├──→ frontier → matched → autoattack
//!         └──→ certify → bound
//! ```

pub mod attack;
pub mod autoattack;
pub mod bound;
pub mod certify;
pub mod data;
pub mod frontier;
pub mod head;
pub mod matched;
pub mod pretrain;
