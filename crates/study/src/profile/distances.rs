//! Distance settings: on what and how the distances of images from the nearest mistake are measured.

use serde::{Deserialize, Serialize};
use tarrl_attacks::Norm;

use super::repeated::repeated;

/// How far the nearest mistake of each image is, and the nearest point that moves its representation.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Distances {
    /// The methods of the profile whose encoders are measured; all without this key.
    #[serde(default)]
    pub methods: Option<Vec<String>>,
    /// Test images, balanced over the classes.
    pub images: usize,
    /// How distances are measured.
    #[serde(default = "norms")]
    pub norms: Vec<Norm>,
    /// Passes of an image at most, forward and backward together, of each of the two attacks.
    #[serde(default = "passes")]
    pub passes: u32,
    /// Balls that are certified for each distance, in the search for the largest.
    #[serde(default = "certificates")]
    pub certificates: usize,
    /// How far a representation has to move, as a share of the spread of all representations.
    #[serde(default = "share")]
    pub share: f64,
}

fn norms() -> Vec<Norm> {
    vec![Norm::Linf, Norm::L2]
}

fn passes() -> u32 {
    2000
}

fn certificates() -> usize {
    6
}

fn share() -> f64 {
    0.5
}

impl Distances {
    /// Whether the encoders of a method are measured.
    pub fn asks(&self, method: &str) -> bool {
        self.methods.as_ref().is_none_or(|names| names.iter().any(|name| name == method))
    }

    /// What no type can rule out.
    pub(super) fn check(&self, methods: &[String]) -> Result<(), String> {
        if let Some(name) = self.methods.iter().flatten().find(|name| !methods.contains(name)) {
            return Err(format!(
                "`distances.methods` names `{name}`, which is none of `methods`; add it there"
            ));
        }
        if self.methods.as_ref().is_some_and(Vec::is_empty) {
            return Err("`distances.methods` is empty; leave it out for all methods".to_owned());
        }
        if self.norms.is_empty() {
            return Err("`distances.norms` is empty; name linf, l2, l1 or l0".to_owned());
        }
        if let Some(twice) = repeated(&self.norms) {
            return Err(format!("`distances.norms` names `{twice}` twice; remove one"));
        }
        if self.share <= 0.0 {
            return Err("`distances.share` has to be above 0".to_owned());
        }
        let counts =
            [("images", self.images), ("passes", self.passes as usize), ("certificates", self.certificates)];
        match counts.into_iter().find(|(_, count)| *count == 0) {
            Some((key, _)) => Err(format!("`distances.{key}` is 0 and has to be at least 1")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_train::config::read_toml;

    fn check(text: &str) -> Result<Distances, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("distances.toml");
        std::fs::write(&path, text).unwrap();
        let found: Distances = read_toml(&path).map_err(|error| error.to_string())?;
        found.check(&["tarr".to_owned()]).map(|()| found)
    }

    #[test]
    fn settings_have_their_defaults() {
        let found = check("images = 20\n").unwrap();
        assert_eq!((found.norms, found.passes, found.share), (vec![Norm::Linf, Norm::L2], 2000, 0.5));
        assert!(found.methods.is_none());
    }

    #[test]
    fn a_slip_is_answered_with_its_key_and_a_remedy() {
        for (text, expected) in [
            ("images = 0", "`distances.images` is 0"),
            ("images = 9\npasses = 0", "`distances.passes` is 0"),
            ("images = 9\ncertificates = 0", "`distances.certificates` is 0"),
            ("images = 9\nshare = 0.0", "`distances.share` has to be above 0"),
            ("images = 9\nnorms = []", "`distances.norms` is empty"),
            ("images = 9\nnorms = [\"l2\", \"l2\"]", "names `l2` twice"),
            ("images = 9\nnorms = [\"l3\"]", "l3"),
            ("images = 9\nmethods = [\"acl\"]", "names `acl`, which is none of `methods`"),
            ("images = 9\nmethods = []", "`distances.methods` is empty"),
            ("image = 9", "unknown key `image`"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
