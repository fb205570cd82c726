//! Threat models: a norm ball around each sample, cut with the box of valid inputs, and what attacks do in it: start,
//! step, project.

pub(crate) mod ball;
mod ball_sampling;
pub(crate) mod directed_rounding;
pub(crate) mod projection;
mod quantize;
pub(crate) mod rows;
mod scratch;
pub(crate) mod steepest_ascent;
mod threat_model;

pub use ball::Ball;
pub use threat_model::{Norm, RadiusError, Threat, UnknownNorm};
