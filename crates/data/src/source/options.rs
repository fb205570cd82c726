//! How the images of a source are read.

use crate::resize::Resizing;

/// How the images of a [`Source`](crate::Source) are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// Of images in five blocks, one for each severity as in CIFAR-10-C, the block that is taken, from 1.
    pub severity: Option<u8>,
    /// How images are brought to one size.
    pub resizing: Resizing,
}
