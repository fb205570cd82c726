//! Pre-training methods as compositions of parts, read from files.

mod adversary;
mod auxiliary;
mod check;
mod cost;
mod error;
mod network;
mod noise;
mod plan;
mod radius;
mod view;

pub use adversary::{
    Adversary, AdversaryCombine, AdversaryLoss, AdversaryReference, AdversaryView, EncoderMode,
};
pub use auxiliary::{Distillation, DistillationLoss, Invariance, PseudoLabels, SpectralNorm};
pub use error::MethodError;
pub(crate) use network::average_momentum;
pub use network::{MomentumConfig, NetworkConfig};
pub use noise::{NoiseConfig, NoiseUnit};
pub(crate) use plan::{Plan, stack};
pub use view::Strength;
pub(crate) use view::at_strength;

use crate::config::{ConfigError, read_toml};
use crate::ibp_loss::IbpLoss;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tarrl_bound::{InnerConfig, Regularizer};
use tarrl_data::augment::View;
use tarrl_encoders::ProjectorConfig;
use tarrl_objectives::{Needs, Objective, SslLoss};

/// What is minimized, on what views: one file of `experiments/methods`.
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
    /// The views of an image that the objective compares, two at least but for labeled references.
    #[serde(default)]
    pub views: Vec<View>,
    /// The schedule of augmentation strength; constant if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<Strength>,
    /// The method whose pre-trained encoder the encoder starts as, weights and running statistics; random if absent. All
    /// other networks start at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// The loss on the projector's outputs, or on a classifier's where it has labels; only a method that learns from a
    /// teacher has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<Objective>,
    /// The method whose pre-trained encoder is the teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
    /// The distillation of the teacher, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<Distillation>,
    /// Pseudo-labels from the teacher's clusters, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pseudo_labels: Option<PseudoLabels>,
    /// The invariance regularizers of ACL-AIR, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invariance: Option<Invariance>,
    /// The attack on views, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adversary: Option<Adversary>,
    /// The noise on the representations that the objective compares, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseConfig>,
    /// The term `λ R` on the representations, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regularizer: Option<Regularizer>,
    /// The certified term on the representations, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified: Option<IbpLoss>,
    /// The term of the spectral norms of the encoder's layers, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spectral_norm: Option<SpectralNorm>,
    /// The network between representations and objective, and its form in a distillation of projections.
    #[serde(default)]
    pub projector: ProjectorConfig,
    /// The other networks.
    #[serde(default, skip_serializing_if = "network::is_plain")]
    pub network: NetworkConfig,
}

impl Method {
    /// Reads a method file.
    ///
    /// # Errors
    /// Names the file and its mistake: an unknown key with the nearest known one, a value of the wrong
    /// type, or parts that do not go together.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let method: Method = read_toml(path)?;
        method
            .check()
            .map_err(|reason| ConfigError::Refused { path: path.to_path_buf(), reason: reason.into() })?;
        Ok(method)
    }

    /// The methods whose finished encoders its training needs: its teacher, then its start.
    pub fn needed(&self) -> impl Iterator<Item = &String> {
        self.teacher.iter().chain(&self.start)
    }

    /// Whether it uses the labels of the dataset: a supervised reference.
    pub fn uses_labels(&self) -> bool {
        self.needs().labels
    }

    /// The loss of the objective.
    pub(crate) fn loss(&self) -> Option<&dyn SslLoss> {
        self.objective.as_ref().map(Objective::as_loss)
    }

    /// The regularizer that takes its points from the adversary, if it does.
    pub(crate) fn shared_regularizer(&self) -> Option<&Regularizer> {
        self.regularizer.as_ref().filter(|regularizer| regularizer.shares_attack())
    }

    /// The share of its distillation that is taken of projections, if there is one.
    pub(crate) fn projected(&self) -> Option<f64> {
        self.distillation.as_ref().map(|distillation| distillation.projected).filter(|&share| share > 0.0)
    }

    /// The adversary's attack in a step. With a regularizer that shares it, its ε and its step are `epsilon_scale` times
    /// their final values.
    pub(crate) fn adversary_attack(&self, epsilon_scale: f64) -> Option<InnerConfig> {
        let attack = self.adversary.as_ref()?.attack.clone();
        if self.shared_regularizer().is_none() || epsilon_scale == 1.0 {
            return Some(attack);
        }
        let step_size = Some(attack.step() * epsilon_scale);
        Some(InnerConfig { epsilon: attack.epsilon * epsilon_scale, step_size, ..attack })
    }

    /// What the objective needs besides embeddings.
    pub(crate) fn needs(&self) -> Needs {
        self.loss().map_or_else(Needs::default, SslLoss::needs)
    }

    /// Whether the objective compares embeddings of a projector, not logits of a classifier.
    pub(crate) fn compares_embeddings(&self) -> bool {
        self.objective.is_some() && !self.needs().classifier
    }

    /// Classes of each linear classifier that it trains, where the dataset has `classes`.
    pub(crate) fn classifiers(&self, classes: usize) -> Vec<usize> {
        let named = self.needs().classifier.then_some(classes);
        named.into_iter().chain(self.clusters()).collect()
    }

    /// The number of clusters of each set: those of the pseudo-labels, then those of the certified term.
    pub(crate) fn clusters(&self) -> Vec<usize> {
        let attacked = self.pseudo_labels.iter().flat_map(|labels| &labels.clusters);
        let certified = self.certified.iter().flat_map(|certified| &certified.clusters);
        attacked.chain(certified).copied().collect()
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
    fn all_views_lists_the_anchor_after_the_views() {
        let method = read(TARR).unwrap();
        assert_eq!(method.all_views(), [View::Strong, View::Strong, View::Weak]);
        assert_eq!(method.regularizer.unwrap().weight(), 3.0);
    }

    #[test]
    fn a_mistake_names_the_file_the_key_and_the_nearest_known_one() {
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
                "[regulraizer]",
                "tarr.toml:4: unknown key `regulraizer`; did you mean `regularizer`?",
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
    fn invalid_parts_are_refused_with_the_reason() {
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
    fn paired_methods_differ_only_in_the_regularizer() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/methods"));
        let read = |name: &str| Method::read(&folder.join(name)).unwrap();
        // The tables compare what the regularizer does, so nothing else may differ.
        for (without, with) in [
            ("acl-warm.toml", "tarr.toml"),
            ("simclr.toml", "tarr-simclr.toml"),
            ("byol.toml", "tarr-byol.toml"),
            ("simsiam.toml", "tarr-simsiam.toml"),
            ("barlow-twins.toml", "tarr-barlow-twins.toml"),
            ("vicreg.toml", "tarr-vicreg.toml"),
        ] {
            let (without, with) = (read(without), read(with));
            assert!(without.regularizer.is_none());
            assert!(with.regularizer.as_ref().is_some_and(|regularizer| regularizer.weight() > 0.0));
            assert_eq!(Method { title: without.title.clone(), regularizer: None, ..with }, without);
        }
        let (without, with) = (read("simclr.toml"), read("reaas.toml"));
        assert!(with.spectral_norm.is_some_and(|norms| norms.weight > 0.0));
        assert_eq!(Method { title: without.title.clone(), spectral_norm: None, ..with }, without);
    }
}
