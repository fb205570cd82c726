//! Stages: the kinds of jobs that a study is made of, one file each.
//!
//! ```text
//! data → pretrain → head → attack, autoattack
//!         ├──→ frontier → matched → autoattack → best-known
//!         ├──→ certify → bound, any predictor
//!         ├──→ downstream, few labels, retrieval
//!         ├──→ alf → attack
//!         └──→ head → corruptions, universal, distances
//! ```

pub mod alf;
pub mod any_predictor;
pub mod attack;
pub mod autoattack;
pub mod best_known;
pub mod bound;
pub mod certify;
pub mod corruptions;
pub mod data;
pub mod distances;
pub mod downstream;
pub mod few_labels;
pub mod frontier;
pub mod head;
pub mod matched;
pub mod pretrain;
pub mod retrieval;
pub mod sample;
pub mod universal;
