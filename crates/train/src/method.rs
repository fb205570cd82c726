//! A method of pre-training, as a composition of parts that a file names.

use crate::certified::Certified;
use crate::config::{ConfigError, read_toml};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tarrl_bound::{Anchor, Regularizer};
use tarrl_data::augment::View;
use tarrl_encoders::ProjectorConfig;
use tarrl_objectives::Objective;

/// What is minimised, on what views: one file of `experiments/methods`.
///
/// ```
/// let method: tarrl_train::Method = toml::from_str(r#"
///     title = "SimCLR"
///     views = ["strong", "strong"]
///     objective = { kind = "nt-xent", temperature = 0.5 }
/// "#).unwrap();
/// assert!(method.check().is_ok() && method.regularizer.is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Its name in tables.
    pub title: String,
    /// The views of an image that the objective compares, two at least.
    pub views: Vec<View>,
    /// The loss on the projector's outputs; of more than two views, the mean over all pairs.
    pub objective: Objective,
    /// The term `λ R` on the representations, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regularizer: Option<Regularizer>,
    /// The certified term on the representations, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified: Option<Certified>,
    /// The network between representations and objective.
    #[serde(default)]
    pub projector: ProjectorConfig,
}

impl Method {
    /// Reads a method file.
    ///
    /// # Errors
    /// Names the file and its mistake: an unknown key with the nearest known one, a value of the wrong
    /// type, or parts that make no sense together.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let method: Method = read_toml(path)?;
        method.check().map_err(|reason| ConfigError::Refused { path: path.to_path_buf(), reason })?;
        Ok(method)
    }

    /// Checks that the parts make sense together.
    ///
    /// # Errors
    /// The first reason why they do not, with the remedy.
    pub fn check(&self) -> Result<(), String> {
        if self.title.trim().is_empty() {
            return Err("`title` is empty; tables need a name for the method".into());
        }
        if self.views.len() < 2 {
            let found = self.views.len();
            return Err(format!(
                "`views` names {found}, but the objective compares two of one image; name at least two"
            ));
        }
        let ProjectorConfig { hidden, out, layers } = self.projector;
        if hidden == 0 || out == 0 || layers == 0 {
            return Err("`projector` has a width or a number of layers of 0; give at least 1".into());
        }
        self.certified.as_ref().map_or(Ok(()), Certified::check)
    }

    /// The views that a step needs of every image: those of the objective, then the anchors of the
    /// regularizer and of the certified term, one for both if they agree.
    pub fn all_views(&self) -> Vec<View> {
        let mut anchors: Vec<Anchor> = self.anchors().into_iter().flatten().collect();
        anchors.dedup();
        self.views.iter().cloned().chain(anchors.into_iter().map(view)).collect()
    }

    /// Where in [`all_views`](Method::all_views) the anchors of the regularizer and of the certified term are.
    pub(crate) fn anchor_views(&self) -> [Option<usize>; 2] {
        let [first, second] = self.anchors();
        let views = self.views.len();
        [first.map(|_| views), second.map(|second| views + usize::from(first.is_some_and(|f| f != second)))]
    }

    fn anchors(&self) -> [Option<Anchor>; 2] {
        [self.regularizer.as_ref().map(|r| r.config().anchor), self.certified.as_ref().map(|c| c.anchor)]
    }
}

fn view(anchor: Anchor) -> View {
    match anchor {
        Anchor::Strong => View::Strong,
        Anchor::Weak => View::Weak,
        Anchor::Clean => View::Clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARR: &str = r#"title = "TARR"
views = ["strong", "strong"]
objective = { kind = "nt-xent", temperature = 0.5 }
[regularizer]
weight = 3.0
anchor = "weak"
inner = { kind = "pgd", steps = 5, norm = "linf", epsilon = "8/255", start = "random" }
"#;

    fn read(text: &str) -> Result<Method, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tarr.toml");
        std::fs::write(&path, text).unwrap();
        Method::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn the_anchor_comes_after_the_views() {
        let method = read(TARR).unwrap();
        assert_eq!(method.all_views(), [View::Strong, View::Strong, View::Weak]);
        assert_eq!(method.regularizer.unwrap().weight(), 3.0);
    }

    #[test]
    fn a_mistake_names_the_file_the_key_and_what_was_meant() {
        for (from, to, expected) in [
            ("title", "titel", "tarr.toml:1: unknown key `titel`; did you mean `title`?"),
            ("views", "veiws", "tarr.toml:2: unknown key `veiws`; did you mean `views`?"),
            (
                "\"strong\", \"strong\"",
                "\"strnog\", \"strong\"",
                "tarr.toml:2: unknown value `strnog`; did you mean `strong`?",
            ),
            (
                "temperature",
                "temprature",
                "tarr.toml:3: unknown key `temprature`; did you mean `temperature`?",
            ),
            ("nt-xent", "ntxent", "tarr.toml:3: unknown value `ntxent`; did you mean `nt-xent`?"),
            (
                "[regularizer]",
                "[regulariser]",
                "tarr.toml:4: unknown key `regulariser`; did you mean `regularizer`?",
            ),
            ("weight", "wieght", "tarr.toml:5: unknown key `wieght`; did you mean `weight`?"),
            ("epsilon", "epsilom", "tarr.toml:7: unknown key `epsilom`; did you mean `epsilon`?"),
            ("linf", "l1nf", "tarr.toml:7: unknown value `l1nf`; did you mean `linf`?"),
        ] {
            assert!(TARR.contains(from), "{from}");
            let error = read(&TARR.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected), "{from} -> {to}: {error}");
        }
    }

    #[test]
    fn parts_that_make_no_sense_are_refused_with_the_reason() {
        for (from, to, expected) in [
            ("\"strong\", \"strong\"", "\"strong\"", "`views` names 1, but the objective compares two"),
            ("weight = 3.0", "weight = -3.0", "weight is -3"),
            ("start = \"random\"", "start = \"clean\"", "would never move"),
            ("0.5 }", "0.0 }", "temperature is 0"),
            ("\"TARR\"", "\"\"", "`title` is empty"),
            ("[regularizer]", "projector = { layers = 0 }\n[regularizer]", "`projector`"),
        ] {
            assert!(TARR.contains(from), "{from}");
            let error = read(&TARR.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected) && error.contains("tarr.toml"), "{from} -> {to}: {error}");
        }
    }

    #[test]
    fn the_methods_of_the_project_are_sound() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/methods"));
        let read = |name: &str| Method::read(&folder.join(name)).unwrap();
        let [simclr, tarr, strong] = ["simclr.toml", "tarr.toml", "tarr-strong.toml"].map(read);
        let weights =
            [&simclr, &tarr, &strong].map(|m| m.regularizer.as_ref().map_or(0.0, Regularizer::weight));
        assert!(weights[0] == 0.0 && weights.is_sorted_by(|a, b| a < b), "{weights:?}");
        // The table compares what the regularizer does, so nothing else may differ.
        for method in [tarr, strong] {
            assert_eq!(Method { title: simclr.title.clone(), regularizer: None, ..method }, simclr);
        }
    }
}
