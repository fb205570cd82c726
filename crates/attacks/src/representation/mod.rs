//! Representations as the target, without labels: objectives to ascend, and measures of what they did.

mod objectives;

pub mod measures;
pub use objectives::{Distance, Encoder, away, impersonate, instance_wise, stretch, towards};
