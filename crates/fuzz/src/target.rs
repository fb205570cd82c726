//! A target: a reader with valid files, the repair of their checksums, and its contract.

use crate::scratch::Scratch;
use std::fmt;

/// A reader under test.
pub struct Target {
    /// What the command line and cargo-fuzz call it.
    pub name: &'static str,
    /// Valid small files, made by our own writers.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of the format.
    pub words: &'static [&'static str],
    /// The file with checksums that fit its content; `None` where there is no sense in that.
    pub(crate) repair: fn(&[u8]) -> Option<Vec<u8>>,
    /// Whether the reader accepts the file.
    pub(crate) read: fn(&[u8], &Scratch) -> bool,
}

impl Target {
    /// Reads an input as it is, and with repaired checksums if these differ; whether the reader accepted one of them.
    ///
    /// # Panics
    /// If the reader panics, or accepts what violates its invariants.
    pub fn check(&self, input: &[u8], scratch: &Scratch) -> bool {
        let as_it_is = (self.read)(input, scratch);
        let repaired = (self.repair)(input).filter(|repaired| repaired != input);
        repaired.is_some_and(|repaired| (self.read)(&repaired, scratch)) || as_it_is
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// No checksum in this format.
pub(crate) fn none(_: &[u8]) -> Option<Vec<u8>> {
    None
}
