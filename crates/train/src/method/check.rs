//! Which parts make no method together, and why.

use super::{Adversary, Attacked, Enters, Method};
use crate::certified::Certified;
use tarrl_encoders::{BatchNormMode, BnBranch, ProjectorConfig};
use tarrl_objectives::Objective;

/// The first reason why the parts make no sense together, with the remedy.
pub(super) fn check(method: &Method) -> Result<(), String> {
    if method.title.trim().is_empty() {
        return Err("`title` is empty; tables need a name for the method".into());
    }
    let ProjectorConfig { hidden, out, layers, .. } = method.projector;
    if hidden == 0 || out == 0 || layers == 0 {
        return Err("`projector` has a width or a number of layers of 0; give at least 1".into());
    }
    method.network.check()?;
    method.strength.as_ref().map_or(Ok(()), |strength| strength.check())?;
    method.certified.as_ref().map_or(Ok(()), Certified::check)?;
    objective(method)?;
    networks(method)?;
    teacher(method)?;
    method.adversary.as_ref().map_or(Ok(()), |adversary| attack(method, adversary))?;
    if method.adversary.is_none() && method.network.batch_norm == BatchNormMode::Dual {
        return unused_branch("there is no `[adversary]`");
    }
    let Some(invariance) = &method.invariance else { return Ok(()) };
    invariance.check()?;
    let both = |a: &Adversary| a.attacks == Attacked::Both && a.enters == Enters::Second;
    if !method.adversary.as_ref().is_some_and(both) || method.views.len() != 2 {
        return Err(
            "`invariance` relates two views, both attacked, to the image; it needs two views and an \
                    `[adversary]` with attacks = \"both\" and enters = \"second\""
                .into(),
        );
    }
    Ok(())
}

/// The views suit the objective.
fn objective(method: &Method) -> Result<(), String> {
    let views = method.views.len();
    let Some(objective) = &method.objective else {
        if method.distillation.is_none() {
            return Err(
                "there is no `objective` and no `distillation`: nothing would be learned; name one".into()
            );
        }
        if views > 0 || method.adversary.is_some() {
            return Err("without `objective` nobody looks at `views` or an `[adversary]`; remove them".into());
        }
        return Ok(());
    };
    objective.check()?;
    match objective {
        Objective::CrossEntropy {} if views == 0 => {
            Err("`views` is empty; cross-entropy needs one at least".into())
        }
        Objective::CrossEntropy {} => Ok(()),
        Objective::Trades { .. } => {
            let suits = |a: &Adversary| a.enters == Enters::Third && a.attacks == Attacked::First;
            if views != 1 || !method.adversary.as_ref().is_some_and(suits) {
                return Err("TRADES compares an image with its attacked neighbor: give one view and an `[adversary]` \
                            with attacks = \"first\", against = \"original\" and enters = \"third\""
                    .into());
            }
            Ok(())
        }
        _ if views < 2 => Err(format!(
            "`views` names {views}, but the objective compares two of one image; name at least two"
        )),
        _ => Ok(()),
    }
}

/// The objective has the networks it needs, and no others are there.
fn networks(method: &Method) -> Result<(), String> {
    let (needs, network) = (method.needs(), &method.network);
    let missing = |what: &str, key: &str| Err(format!("the objective needs {what}; add network.{key}"));
    let idle = |what: &str, key: &str| {
        Err(format!(
            "the objective never looks at {what}; remove network.{key}, or choose an objective that does"
        ))
    };
    match (needs.predictor, &network.predictor) {
        (true, None) => return missing("a predictor: without it both sides become constant", "predictor"),
        (false, Some(_)) => return idle("a predictor", "predictor"),
        _ => {}
    }
    match (needs.momentum, &network.momentum) {
        (true, None) => {
            let what = match needs.queue {
                Some(_) => "a momentum network: its queue holds keys of networks that are alike",
                None => "a momentum network: its targets come from there",
            };
            return missing(what, "momentum");
        }
        (false, Some(_)) if !needs.targets => return idle("a momentum network", "momentum"),
        _ => {}
    }
    let given = method.projector.prototypes;
    match needs.prototypes {
        Some(count) if given != 0 && given != count => {
            Err(format!("projector.prototypes = {given}, but the objective has {count}; leave the key out"))
        }
        None if given != 0 => Err(format!(
            "projector.prototypes = {given}, but the objective has no use for scores; leave the key out"
        )),
        _ => Ok(()),
    }
}

/// What needs a teacher has one.
fn teacher(method: &Method) -> Result<(), String> {
    method.distillation.as_ref().map_or(Ok(()), |distillation| distillation.check())?;
    method.pseudo_labels.as_ref().map_or(Ok(()), |labels| labels.check())?;
    let certified = method.certified.as_ref().is_some_and(|certified| !certified.clusters.is_empty());
    let user = match (&method.distillation, &method.pseudo_labels) {
        (Some(_), _) => Some("`distillation` learns"),
        (None, Some(_)) => Some("`pseudo_labels` clusters"),
        (None, None) => certified.then_some("`certified.clusters` needs"),
    };
    match (user, &method.teacher) {
        (Some(user), None) => Err(format!(
            "{user} the representations of another encoder; name the method that trains it: teacher = \"simclr\""
        )),
        (None, Some(name)) => Err(format!(
            "teacher = \"{name}\" teaches nothing; add `distillation`, `pseudo_labels` or `certified.clusters`, or remove it"
        )),
        _ => Ok(()),
    }
}

/// The adversary finds views, and statistics of its own where it asks for them.
fn attack(method: &Method, adversary: &Adversary) -> Result<(), String> {
    adversary.check()?;
    if adversary.attacks == Attacked::Both && method.views.len() < 2 {
        return Err("adversary.attacks = \"both\" moves two views, but `views` names one".into());
    }
    match (method.network.batch_norm, adversary.branch) {
        (BatchNormMode::Dual, BnBranch::Clean) => return unused_branch("adversary.branch is \"clean\""),
        (BatchNormMode::Single, BnBranch::Adversarial) => {
            return Err(
                "adversary.branch = \"adversarial\" needs statistics of its own; add network.batch_norm = \
                        \"dual\", or use branch = \"clean\""
                    .into(),
            );
        }
        _ => {}
    }
    let all_attacked = adversary.enters == Enters::Replace
        && (adversary.attacks == Attacked::Both && method.views.len() == 2 || method.views.len() == 1);
    if method.network.batch_norm == BatchNormMode::Dual && all_attacked && method.regularizer.is_none() {
        return Err(
            "dual batch norm has a clean branch that no view goes through, because all are attacked; use \
                    batch_norm = \"single\""
                .into(),
        );
    }
    Ok(())
}

fn unused_branch(why: &str) -> Result<(), String> {
    Err(format!(
        "network.batch_norm = \"dual\" has an adversarial branch that no view goes through: {why}; use \"single\", or \
         adversary.branch = \"adversarial\""
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A method of two strong views with the objective and whatever else a file may say.
    fn refused(objective: &str, rest: &str) -> String {
        let text =
            format!("title = 't'\nviews = ['strong', 'strong']\nobjective = {{ {objective} }}\n{rest}");
        let method: Method = toml::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        method.check().expect_err(&text)
    }

    #[test]
    fn wrong_combinations_are_refused_with_the_reason() {
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
            (simclr, "network = { keeps = 'adversarial' }", "network.keeps chooses one of two"),
            (
                simclr,
                "pseudo_labels = { clusters = [2] }",
                "`pseudo_labels` clusters the representations of another",
            ),
            (simclr, "distillation = {}", "`distillation` learns the representations of another"),
            (simclr, "teacher = 'simclr'", "teacher = \"simclr\" teaches nothing"),
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
            (simclr, "adversary = { attack = { restarts = 3 } }", "makes one ascent"),
            (
                simclr,
                "adversary = { ascends = 'representation', attack = { start = 'clean' } }",
                "would never move",
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
    fn without_an_objective_something_else_has_to_teach() {
        let check = |text: &str| toml::from_str::<Method>(text).unwrap().check();
        assert!(check("title = 't'").unwrap_err().contains("nothing would be learned"));
        let taught = "title = 't'\nteacher = 'simclr'\ndistillation = {}\n";
        assert_eq!(check(taught), Ok(()));
        assert!(check(&format!("{taught}views = ['weak']")).unwrap_err().contains("nobody looks at `views`"));
    }

    #[test]
    fn methods_that_use_labels_say_so() {
        let labels = |text: &str| toml::from_str::<Method>(text).unwrap().uses_labels();
        assert!(labels("title = 't'\nviews = ['weak']\nobjective = { kind = 'cross-entropy' }"));
        assert!(labels("title = 't'\nviews = ['weak', 'weak']\nobjective = { kind = 'supcon' }"));
        assert!(!labels("title = 't'\nviews = ['weak', 'weak']\nobjective = { kind = 'byol' }"));
    }
}
