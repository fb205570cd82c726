//! State files of `tarrl attack`: what determines an attack's outcome, and how far it is, from which it resumes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tarrl_attacks::{Envelope, Flags, Origin, StateError, SuiteState};
use tarrl_nearest::NearestState;

/// An attack that was interrupted.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AttackState {
    /// What determines the outcome, by name.
    pub about: Map<String, Value>,
    /// How far it is.
    pub progress: AttackProgress,
}

/// The progress of an attack.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttackProgress {
    /// A suite, in the middle of an image.
    Suite(SuiteState),
    /// The outcomes of the images of all finished batches.
    #[serde(rename = "rows")]
    Images(Vec<ImageOutcome>),
    /// A minimum-norm attack: the outcomes of the images of all finished batches, and the batch in progress.
    Nearest(Vec<ImageOutcome>, Option<Box<BatchProgress>>),
}

/// A batch of a minimum-norm attack in progress.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BatchProgress {
    /// Its images.
    pub images: usize,
    /// How far they are.
    pub state: NearestState,
}

/// The outcome of one image under attack.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImageOutcome {
    /// Whether a misclassified point of the ball was found.
    pub broken: bool,
    /// z_y − max_{i≠y} z_i at the misclassified point of least margin, or at the point of least margin; absent if it
    /// is no number.
    pub margin: Option<f64>,
    /// Distance of the nearest misclassified point found, in the ball or beyond, for attacks that minimize it; absent if
    /// none was found.
    pub distance: Option<f64>,
    /// The method of a minimum-norm attack that found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_by: Option<String>,
    /// The passes of a minimum-norm attack after which the first misclassified point was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_mistake: Option<u32>,
    /// The attack that broke it first, and where.
    pub origin: Option<Origin>,
    /// Forward passes.
    pub forward: u32,
    /// Backward passes.
    pub backward: u32,
    /// What was noticed of its gradients.
    pub flags: Flags,
}

/// Why a state file cannot be resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttackStateError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is no state.
    #[error("it is no state of an attack: {0}")]
    NoState(#[from] serde_json::Error),
    /// It is damaged, or of another version.
    #[error(transparent)]
    Envelope(#[from] StateError),
    /// An image has a distance that no attack reports.
    #[error("image {image} has the distance {distance}, and distances are not negative")]
    Distance {
        /// Its place among those that were attacked.
        image: usize,
        /// What stands there.
        distance: f64,
    },
}

impl AttackProgress {
    /// Images whose outcome is final.
    pub fn finished(&self) -> usize {
        match self {
            AttackProgress::Suite(state) => state.finished(),
            AttackProgress::Images(images) | AttackProgress::Nearest(images, _) => images.len(),
        }
    }
}

impl AttackState {
    /// The state in a file; none if there is no such file. Only a regular file is read, so that memory is bounded by
    /// its size.
    ///
    /// # Errors
    /// If the file cannot be read, or is not what was written.
    pub fn load(path: &Path) -> Result<Option<Self>, AttackStateError> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file").into());
        }
        let mut bytes = Vec::new();
        file.take(metadata.len()).read_to_end(&mut bytes)?;
        Self::from_bytes(&bytes).map(Some)
    }

    /// The state that [`AttackState::to_bytes`] wrote.
    ///
    /// # Errors
    /// If it is not what was written.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AttackStateError> {
        let file: Envelope<AttackState> = serde_json::from_slice(bytes)?;
        let state = file.open()?;
        if let AttackProgress::Images(images) | AttackProgress::Nearest(images, _) = &state.progress {
            let distances =
                images.iter().enumerate().filter_map(|(image, found)| Some((image, found.distance?)));
            if let Some((image, distance)) = distances.into_iter().find(|(_, distance)| *distance < 0.0) {
                return Err(AttackStateError::Distance { image, distance });
            }
        }
        Ok(state.clone())
    }

    /// The content of its file.
    ///
    /// # Panics
    /// If a number is NaN or infinite, which no outcome is.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&Envelope::new(self)).expect("a state is JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(distance: f64) -> AttackState {
        let about = json!({"attack": "cw", "epsilon": 0.1}).as_object().unwrap().clone();
        let image = ImageOutcome { distance: Some(distance), forward: 7, ..ImageOutcome::default() };
        AttackState { about, progress: AttackProgress::Images(vec![ImageOutcome::default(), image]) }
    }

    #[test]
    fn a_state_is_read_as_it_was_written_and_a_changed_one_refused() {
        let bytes = state(0.25).to_bytes();
        assert_eq!(AttackState::from_bytes(&bytes).unwrap().to_bytes(), bytes);
        let text = String::from_utf8(bytes).unwrap();
        let changed = text.replace("\"forward\":7", "\"forward\":8");
        let error = AttackState::from_bytes(changed.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("checksum"), "{error}");
        let error = AttackState::from_bytes(&state(-0.25).to_bytes()).unwrap_err().to_string();
        assert!(error.contains("image 1 has the distance -0.25"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused_and_what_is_not_there_is_no_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outcomes.json.state");
        assert!(AttackState::load(&path).unwrap().is_none());
        // It never ends.
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let error = AttackState::load(&path).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }
}
