//! Compatibility of the parts of a method.

use super::error::{MethodError, pixel_radius};
use super::noise::NoiseUnit;
use super::plan::Plan;
use super::view::anchored;
use super::{Adversary, AdversaryCombine, AdversaryView, Method};
use crate::ranges::check_ranges;
use tarrl_bound::Scale;
use tarrl_data::is_plain_name;
use tarrl_encoders::{BatchNormMode, BnBranch, ProjectorConfig};
use tarrl_objectives::Views;

impl Method {
    /// Checks that every part is valid and that the parts go together.
    ///
    /// # Errors
    /// The first reason why they do not, with the remedy.
    pub fn check(&self) -> Result<(), MethodError> {
        if self.title.trim().is_empty() {
            return Err(MethodError::NoTitle);
        }
        let ProjectorConfig { hidden, out, layers, .. } = self.projector;
        if hidden == 0 || out == 0 || layers == 0 {
            return Err(MethodError::EmptyProjector);
        }
        self.network.check()?;
        if let Some(strength) = &self.strength {
            strength.check()?;
        }
        if let Some(certified) = &self.certified {
            certified.check()?;
        }
        if let Some(regularizer) = &self.regularizer {
            pixel_radius("regularizer.inner", &regularizer.config().inner)?;
        }
        if let Some(norms) = &self.spectral_norm {
            norms.check()?;
        }
        check_objective(self)?;
        check_networks(self)?;
        check_teacher(self)?;
        if let Some(name) = self.start.as_ref().filter(|name| !is_plain_name(name)) {
            return Err(MethodError::EncoderName { key: "start", name: name.clone() });
        }
        match &self.adversary {
            Some(adversary) => check_adversary(self, adversary)?,
            None if self.network.batch_norm == BatchNormMode::Dual => {
                return Err(MethodError::UnusedAdversarialBranch { cause: "there is no `[adversary]`" });
            }
            None => {}
        }
        check_shared_attack(self)?;
        check_invariance(self)?;
        check_noise(self)?;
        Ok(check_ranges(self)?)
    }
}

/// The views suit the objective.
fn check_objective(method: &Method) -> Result<(), MethodError> {
    let views = method.views.len();
    let Some(objective) = method.loss() else {
        if method.distillation.is_none() {
            return Err(MethodError::NothingLearned);
        }
        if views > 0 || method.adversary.is_some() {
            return Err(MethodError::ViewsWithoutObjective);
        }
        return Ok(());
    };
    objective.check()?;
    match objective.needs().views {
        Views::AtLeast(1) if views == 0 => Err(MethodError::NoViews { objective: objective.name() }),
        Views::AtLeast(least) if views < least => Err(MethodError::TooFewViews { views }),
        Views::AtLeast(_) => Ok(()),
        Views::CleanAndAdversarial => {
            let suits =
                |a: &Adversary| a.enters == AdversaryCombine::Third && a.attacks == AdversaryView::First;
            if views == 1 && method.adversary.as_ref().is_some_and(suits) {
                return Ok(());
            }
            Err(MethodError::NotCleanAndAdversarial { objective: objective.name() })
        }
    }
}

/// The objective has the networks that it needs, and no others are there.
fn check_networks(method: &Method) -> Result<(), MethodError> {
    let (needs, network) = (method.needs(), &method.network);
    match (needs.predictor, &network.predictor) {
        (true, None) => {
            let what = "a predictor: without it both sides become constant";
            return Err(MethodError::MissingNetwork { what, key: "predictor" });
        }
        (false, Some(_)) => {
            return Err(MethodError::UnusedNetwork { what: "a predictor", key: "predictor" });
        }
        _ => {}
    }
    match (needs.momentum, &network.momentum) {
        (true, None) => {
            let what = match needs.queue {
                Some(_) => "a momentum network: its queue holds keys of networks that are alike",
                None => "a momentum network: its targets come from there",
            };
            return Err(MethodError::MissingNetwork { what, key: "momentum" });
        }
        (false, Some(_)) if !needs.targets => {
            return Err(MethodError::UnusedNetwork { what: "a momentum network", key: "momentum" });
        }
        _ => {}
    }
    let given = method.projector.prototypes;
    match needs.prototypes {
        Some(needed) if given != 0 && given != needed => Err(MethodError::OtherPrototypes { given, needed }),
        None if given != 0 => Err(MethodError::UnusedPrototypes { given }),
        _ => Ok(()),
    }
}

/// A teacher is there exactly where a part needs one.
fn check_teacher(method: &Method) -> Result<(), MethodError> {
    if let Some(distillation) = &method.distillation {
        distillation.check()?;
    }
    if let Some(labels) = &method.pseudo_labels {
        labels.check()?;
    }
    let certified = method.certified.as_ref().is_some_and(|certified| !certified.clusters.is_empty());
    let part = match (&method.distillation, &method.pseudo_labels) {
        (Some(_), _) => Some("`distillation` learns"),
        (None, Some(_)) => Some("`pseudo_labels` clusters"),
        (None, None) => certified.then_some("`certified.clusters` needs"),
    };
    match (part, &method.teacher) {
        (_, Some(name)) if !is_plain_name(name) => {
            Err(MethodError::EncoderName { key: "teacher", name: name.clone() })
        }
        (Some(part), None) => Err(MethodError::NoTeacher { part }),
        (None, Some(name)) => Err(MethodError::UnusedTeacher { name: name.clone() }),
        _ => Ok(()),
    }
}

/// The adversary has views to attack, and batch-norm statistics where it asks for its own.
fn check_adversary(method: &Method, adversary: &Adversary) -> Result<(), MethodError> {
    adversary.check()?;
    let both = adversary.attacks == AdversaryView::Both;
    if both && method.views.len() < 2 {
        return Err(MethodError::BothOfOneView);
    }
    match (method.network.batch_norm, adversary.branch) {
        (BatchNormMode::Dual, BnBranch::Clean) => {
            return Err(MethodError::UnusedAdversarialBranch { cause: "adversary.branch is \"clean\"" });
        }
        (BatchNormMode::Single, BnBranch::Adversarial) => return Err(MethodError::NoAdversarialBranch),
        _ => {}
    }
    let all_attacked = adversary.enters == AdversaryCombine::Replace
        && (both && method.views.len() == 2 || method.views.len() == 1);
    if method.network.batch_norm == BatchNormMode::Dual && all_attacked && method.regularizer.is_none() {
        return Err(MethodError::UnusedCleanBranch);
    }
    Ok(())
}

/// A regularizer that shares an attack has one around its anchor, in the network that it measures.
fn check_shared_attack(method: &Method) -> Result<(), MethodError> {
    let Some(regularizer) = method.shared_regularizer() else { return Ok(()) };
    let fault = |problem| Err(MethodError::SharedAttack { problem });
    let Some(adversary) = &method.adversary else {
        return fault("there is none; add one, or name an attack in regularizer.inner");
    };
    if method.network.batch_norm == BatchNormMode::Dual {
        return fault(
            "attacked images go through statistics of their own, where their displacement is that of another function; use \
             network.batch_norm = \"single\", or name an attack in regularizer.inner",
        );
    }
    if adversary.enters == AdversaryCombine::Second {
        return fault(
            "enters = \"second\" sends attacked images through the network apart from clean ones; use \"replace\", \
             \"third\" or \"pair\", or name an attack in regularizer.inner",
        );
    }
    let (plan, anchor) = (Plan::new(method), anchored(regularizer.config().anchor));
    if plan.attacked.iter().any(|&place| plan.images[place] != anchor) {
        return fault("that attacks another kind of view than regularizer.anchor names; make both the same");
    }
    Ok(())
}

/// The invariance of ACL-AIR has two views and their attacked versions.
fn check_invariance(method: &Method) -> Result<(), MethodError> {
    let Some(invariance) = &method.invariance else { return Ok(()) };
    invariance.check()?;
    let both = |a: &Adversary| a.attacks == AdversaryView::Both && a.enters == AdversaryCombine::Second;
    if method.views.len() == 2 && method.adversary.as_ref().is_some_and(both) {
        return Ok(());
    }
    Err(MethodError::InvarianceWithoutAttackedViews)
}

/// The noise has an objective that sees it, and R the same noise if it has one.
fn check_noise(method: &Method) -> Result<(), MethodError> {
    let Some(noise) = &method.noise else { return Ok(()) };
    if !(noise.sigma > 0.0 && noise.sigma.is_finite()) {
        let requirement = "it must be positive and finite; without noise remove `noise`";
        return Err(MethodError::out_of_range("noise.sigma", noise.sigma, requirement));
    }
    if method.objective.is_none() {
        return Err(MethodError::NoiseWithoutObjective);
    }
    let Some(regularizer) = &method.regularizer else { return Ok(()) };
    let config = regularizer.config();
    let other = match config.scale {
        Scale::Noise => NoiseUnit::Fixed,
        Scale::RelativeNoise => NoiseUnit::Spread,
        _ => return Ok(()),
    };
    if other == noise.unit && config.sigma == Some(noise.sigma) {
        Ok(())
    } else {
        Err(MethodError::OtherNoise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A method of two strong views with the objective and whatever else a file may say.
    fn refused(objective: &str, rest: &str) -> String {
        let text =
            format!("title = 't'\nviews = ['strong', 'strong']\nobjective = {{ {objective} }}\n{rest}");
        let method: Method = toml::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        method.check().expect_err(&text).to_string()
    }

    #[test]
    fn parts_that_do_not_go_together_are_refused_with_the_reason() {
        let simclr = "kind = 'nt-xent'";
        for (objective, rest, reason) in [
            ("kind = 'moco-v2'", "", "the objective needs a momentum network: its queue holds keys"),
            ("kind = 'byol'", "network = { momentum = {} }", "the objective needs a predictor"),
            ("kind = 'byol'", "network = { predictor = {} }", "the objective needs a momentum network"),
            ("kind = 'simsiam'", "", "the objective needs a predictor"),
            (simclr, "network = { predictor = {} }", "never looks at a predictor"),
            (simclr, "network = { momentum = {} }", "never looks at a momentum network"),
            (simclr, "projector = { prototypes = 8 }", "has no use for scores"),
            (simclr, "network = { batch_norm = 'dual' }", "an adversarial branch that no view goes through"),
            (
                simclr,
                "network = { batch_norm = 'dual' }\n[adversary]\nattacks = 'first'",
                "adversarial branch that no view goes through: adversary.branch is \"clean\"",
            ),
            (simclr, "[adversary]\nbranch = 'adversarial'", "needs statistics of its own"),
            (
                simclr,
                "network = { batch_norm = 'dual' }\n[adversary]\nbranch = 'adversarial'\nattacks = 'both'",
                "a clean branch that no view goes through, because all are attacked",
            ),
            (simclr, "network = { average = 1.0 }", "network.average is 1; a weight of the past"),
            (simclr, "network = { keeps = 'adversarial' }", "network.keeps chooses one of two"),
            (
                simclr,
                "pseudo_labels = { clusters = [2] }",
                "`pseudo_labels` clusters the representations of another",
            ),
            (
                simclr,
                "teacher = 'simclr'\ndistillation = { projected = 1.5 }",
                "distillation.projected is 1.5; a share",
            ),
            (
                simclr,
                "teacher = 'simclr'\ndistillation = { projected = 0.5, loss = 'squared-distance' }",
                "compares projections by their cosine",
            ),
            (simclr, "spectral_norm = { weight = -1.0 }", "spectral_norm.weight is -1"),
            (simclr, "distillation = {}", "`distillation` learns the representations of another"),
            (simclr, "teacher = 'simclr'", "teacher = \"simclr\" teaches nothing"),
            (simclr, "teacher = '../simclr'\ndistillation = {}", "teacher = \"../simclr\" is no plain name"),
            (simclr, "start = 'folder/simclr'", "start = \"folder/simclr\" is no plain name"),
            (
                simclr,
                "certified = { clusters = [10] }",
                "`certified.clusters` needs the representations of another",
            ),
            (simclr, "invariance = {}", "`invariance` relates two views, both attacked"),
            (simclr, "strength = { stages = 0 }", "strength.stages is 0"),
            (simclr, "strength = { end = 1.5 }", "strength.end is 1.5"),
            (simclr, "adversary = { shift = 0.5 }", "it needs enters = \"second\""),
            (simclr, "adversary = { attacks = 'weak' }", "so that it can replace none"),
            (simclr, "adversary = { attacks = 'both', enters = 'pair' }", "attacks = \"both\" leaves none"),
            (simclr, "adversary = { attacks = 'both', against = 'original' }", "remove one of the keys"),
            (simclr, "adversary = { attack = { kind = 'jacobian' } }", "finds no image"),
            (simclr, "adversary = { attack = { steps = 0 } }", "adversary.attack.steps is 0"),
            (
                simclr,
                "adversary = { attack = { epsilon = 8 } }",
                "adversary.attack.epsilon: an linf ball of radius 8",
            ),
            (simclr, "regularizer = { inner = { epsilon = 8 } }", "for 8 of 255 levels write 8/255"),
            (simclr, "adversary = { attack = { restarts = 3 } }", "makes one ascent"),
            (
                simclr,
                "adversary = { ascends = 'representation', attack = { start = 'clean' } }",
                "would never move",
            ),
            (
                simclr,
                "regularizer = { inner = { kind = 'adversary' } }",
                "takes its points from `[adversary]`, but there is none",
            ),
            (
                simclr,
                "regularizer = { inner = { kind = 'adversary' } }\nadversary = {}",
                "another kind of view than regularizer.anchor names",
            ),
            (
                simclr,
                "regularizer = { anchor = 'strong', inner = { kind = 'adversary' } }\nadversary = { enters = 'second' }",
                "apart from clean ones",
            ),
            (
                simclr,
                "regularizer = { anchor = 'strong', inner = { kind = 'adversary' } }\nnetwork = { batch_norm = 'dual' \
                 }\nadversary = { branch = 'adversarial' }",
                "statistics of their own, where",
            ),
            (
                simclr,
                "adversary = { attack = { kind = 'adversary' } }",
                "is for the regularizer; use \"pgd\"",
            ),
            ("kind = 'trades'", "", "TRADES compares an image with its attacked neighbor"),
            (
                "kind = 'nt-xent', temperature = 1.0",
                "network = { momentum = { end = 2.0 } }",
                "momentum.end is 2",
            ),
        ] {
            let found = refused(objective, rest);
            assert!(found.contains(reason), "{rest}: {found}");
        }
    }

    #[test]
    fn without_an_objective_a_distillation_is_required() {
        let check = |text: &str| toml::from_str::<Method>(text).unwrap().check();
        assert!(check("title = 't'").unwrap_err().to_string().contains("nothing would be learned"));
        let taught = "title = 't'\nteacher = 'simclr'\ndistillation = {}\n";
        assert_eq!(check(taught), Ok(()));
        assert!(
            check(&format!("{taught}views = ['weak']"))
                .unwrap_err()
                .to_string()
                .contains("nobody looks at `views`")
        );
    }

    #[test]
    fn uses_labels_is_true_for_supervised_objectives() {
        let labels = |text: &str| toml::from_str::<Method>(text).unwrap().uses_labels();
        assert!(labels("title = 't'\nviews = ['weak']\nobjective = { kind = 'cross-entropy' }"));
        assert!(labels("title = 't'\nviews = ['weak', 'weak']\nobjective = { kind = 'supcon' }"));
        assert!(!labels("title = 't'\nviews = ['weak', 'weak']\nobjective = { kind = 'byol' }"));
    }

    #[test]
    fn noise_that_no_objective_or_another_regularizer_sees_is_refused() {
        let views = "title = 't'\nviews = ['strong', 'strong']\nobjective = { kind = 'nt-xent' }\n";
        let check = |text: &str| {
            let method: Method = toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            method.check().map_err(|error| error.to_string())
        };
        let with = |rest: &str| check(&format!("{views}{rest}"));
        let kl = |scale: &str, sigma: &str| {
            format!("regularizer = {{ divergence = 'gaussian-kl', scale = '{scale}', sigma = {sigma} }}\n")
        };
        assert_eq!(with("noise = { sigma = 0.25 }"), Ok(()));
        assert_eq!(with(&format!("{}noise = {{ sigma = 0.25 }}", kl("relative-noise", "0.25"))), Ok(()));
        assert_eq!(with(&format!("{}noise = {{ sigma = 2.0, unit = 'fixed' }}", kl("noise", "2.0"))), Ok(()));
        for (noise, regularizer) in [
            ("sigma = 0.25", kl("relative-noise", "0.5")),
            ("sigma = 0.25", kl("noise", "0.25")),
            ("sigma = 0.25, unit = 'fixed'", kl("relative-noise", "0.25")),
        ] {
            let error = with(&format!("{regularizer}noise = {{ {noise} }}")).unwrap_err();
            assert!(error.contains("R is in units of another noise"), "{error}");
        }
        for sigma in ["0.0", "-1.0", "nan"] {
            let error = with(&format!("noise = {{ sigma = {sigma} }}")).unwrap_err();
            assert!(error.starts_with("noise.sigma is"), "{error}");
        }
        let error = check("title = 't'\nteacher = 'simclr'\ndistillation = {}\nnoise = { sigma = 0.25 }")
            .unwrap_err();
        assert!(error.contains("no objective sees"), "{error}");
    }
}
