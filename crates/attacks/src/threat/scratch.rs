//! Scratch buffers on the host, kept between steps so that a step allocates nothing large.

use crate::threat::projection::Break;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by the balls of one attack, behind a lock.
#[derive(Clone, Default)]
pub(crate) struct Scratch(Arc<Mutex<Room>>);

#[derive(Default)]
pub(crate) struct Room {
    /// Points and gradients of a batch.
    pub(crate) f32: [Vec<f32>; 2],
    pub(crate) f64: [Vec<f64>; 2],
    pub(crate) row: Row,
}

/// One displacement, and an order of its coordinates.
pub(crate) type Row = (Vec<f64>, Vec<Break>);

impl Scratch {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Room> {
        // Every user overwrites the contents.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch")
    }
}
