//! The envelope of stored runs: format, version and checksum around what an attack remembers, so that a file that was cut
//! off, changed or written by another program is refused.

use crate::driver::state_error::StateError;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// What the first field of every envelope says.
const FORMAT: &str = "tarrl attack state";
/// The version of what is written; no other is read.
const VERSION: u32 = 1;

/// A value with the format, the version and the BLAKE3 checksum of its JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope<T> {
    format: String,
    version: u32,
    content: T,
    checksum: String,
}

/// A run: of which problem, how configured, and how far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredRun<C, S> {
    /// The fingerprint of the problem.
    pub(crate) problem: u64,
    pub(crate) config: C,
    pub(crate) progress: S,
}

impl<T: Serialize> Envelope<T> {
    /// Around `content`.
    ///
    /// # Panics
    /// If JSON cannot represent it: a map whose keys are no text.
    #[track_caller]
    pub fn new(content: T) -> Self {
        let checksum = checksum(&content);
        Envelope { format: FORMAT.to_owned(), version: VERSION, content, checksum }
    }

    /// What is in it.
    ///
    /// # Errors
    /// If format or version are not those of this program, or the content is not what was written.
    pub fn open(&self) -> Result<&T, StateError> {
        if self.format != FORMAT || self.version != VERSION {
            let found = format!("{} {}", self.format, self.version);
            return Err(StateError::OtherFormat { found, wanted: format!("{FORMAT} {VERSION}") });
        }
        if self.checksum != checksum(&self.content) {
            return Err(StateError::Damaged);
        }
        Ok(&self.content)
    }
}

impl<T> Envelope<T> {
    /// What is in it, unchecked.
    pub(crate) fn content(&self) -> &T {
        &self.content
    }
}

impl<C: Serialize + PartialEq + Debug, S: Serialize> Envelope<StoredRun<C, S>> {
    /// The progress of a run of the same problem under the same configuration.
    pub(crate) fn open_run(&self, problem: u64, config: &C) -> Result<&S, StateError> {
        let run = self.open()?;
        if run.config != *config {
            let (found, wanted) = (format!("{:?}", run.config), format!("{config:?}"));
            return Err(StateError::OtherConfig { found, wanted });
        }
        if run.problem != problem {
            return Err(StateError::OtherProblem);
        }
        Ok(&run.progress)
    }
}

#[track_caller]
fn checksum(content: &impl Serialize) -> String {
    let mut hasher = blake3::Hasher::new();
    serde_json::to_writer(&mut hasher, content).expect("a state that JSON represents");
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_or_is_of_another_format_is_refused() {
        let envelope = Envelope::new(vec![0.1f64, 2.0]);
        let text = serde_json::to_string(&envelope).unwrap();
        let read = |text: &str| serde_json::from_str::<Envelope<Vec<f64>>>(text).unwrap();
        assert_eq!(read(&text).open(), Ok(&vec![0.1, 2.0]));
        assert_eq!(read(&text.replace("2.0", "3.0")).open(), Err(StateError::Damaged));
        for (old, new) in [("attack state", "other state"), ("\"version\":1", "\"version\":2")] {
            let refused = read(&text.replace(old, new)).open().unwrap_err();
            assert!(matches!(refused, StateError::OtherFormat { .. }), "{refused}");
        }
    }
}
