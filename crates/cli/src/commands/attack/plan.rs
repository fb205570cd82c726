//! Attack plans: the attacks that the command knows by name, with their settings.

use super::goal::Goal;
use clap::ValueEnum;
use tarrl_attacks::representation::Distance;
use tarrl_attacks::{
    Apgd, AttackSpec, AutoAttack, CarliniWagner, DeepFool, EarlyExit, Fab, HopSkipJump, LabelLoss, Norm, Pgd,
    RunConfig, Square, Threat, Version,
};
use tarrl_nearest::{
    Alma, ApgdSearch, Ddn, Fmn, Nearest, NearestMethod, Pdgd, Pdpgd, SigmaZero, SuperDeepFool,
};

/// An attack by its name.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    /// AutoAttack, standard: apgd-ce, apgd-t, fab-t, square
    Autoattack,
    /// AutoAttack, plus: more restarts, and the attacks without targets
    AutoattackPlus,
    /// AutoAttack, rand: apgd-ce and apgd-dlr with twenty draws of each evaluation; for random encoders
    AutoattackRand,
    /// APGD on the cross-entropy
    ApgdCe,
    /// APGD on the difference-of-logits ratio
    ApgdDlr,
    /// APGD towards nine classes
    ApgdT,
    /// FAB towards the nearest class
    Fab,
    /// FAB towards nine classes
    FabT,
    /// Square, forward passes alone
    Square,
    /// One step from the image
    Fgsm,
    /// Fifty steps from each of five random points, on the cross-entropy; in l0 too
    Pgd,
    /// Carlini and Wagner: the nearest mistake in l2
    Cw,
    /// DeepFool: a near mistake in l2 or linf, quickly
    Deepfool,
    /// HopSkipJump: a near mistake in l2 or linf, from decisions alone
    HopSkipJump,
    /// The nearest mistake in any norm: an ensemble of the minimum-norm attacks below
    Nearest,
    /// DDN: the nearest mistake in l2
    Ddn,
    /// FMN: the nearest mistake in any norm
    Fmn,
    /// ALMA: the nearest mistake in l2 or l1
    Alma,
    /// PDGD: the nearest mistake in l2
    Pdgd,
    /// PDPGD: the nearest mistake in any norm
    Pdpgd,
    /// SuperDeepFool: a near mistake in any norm, quickly
    Sdf,
    /// σ-zero: the nearest mistake in l0
    SigmaZero,
    /// A search over ε with targeted APGD: the nearest mistake in linf, l2 or l1
    ApgdSearch,
    /// Without labels: APGD on the squared l2 distance of the representation from that of the image
    FeatureL2,
    /// Without labels: APGD on the cosine distance
    FeatureCosine,
    /// Without labels: APGD on the divergence of the two representations, taken as logits
    FeatureKl,
    /// Without labels: APGD on the contrastive loss against the representations of all images
    InstanceWise,
    /// Without labels: APGD towards the representation of the next image
    FeatureMatch,
}

/// How an attack is run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Plan {
    /// Attack after attack, sample by sample.
    Suite(Vec<AttackSpec>, RunConfig),
    /// One attack, batch by batch.
    Batches(Single),
    /// Minimum-norm methods, each from the nearest mistake of those before it.
    Nearest(Nearest, &'static str),
}

/// An attack on one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Single {
    Pgd(Pgd),
    CarliniWagner(CarliniWagner),
    DeepFool(DeepFool),
    HopSkipJump(HopSkipJump),
    Feature(Goal, Apgd),
}

/// Steps of a single minimum-norm method.
const STEPS: usize = 1000;

impl Kind {
    /// The attack in a norm at a radius with some images in memory at a time.
    ///
    /// # Errors
    /// If the attack does not exist in the norm, or the radius makes no ball of pixels.
    pub(crate) fn plan(self, norm: Norm, epsilon: f64, batch: usize) -> Result<Plan, String> {
        let version = |version| {
            let config = AutoAttack::new(version);
            Plan::Suite(config.parts(norm), RunConfig { batch, ..config.run })
        };
        let part = |part| Plan::Suite(vec![part], RunConfig { batch, ..RunConfig::default() });
        let apgd = Apgd::default();
        let feature = |goal| Plan::Batches(Single::Feature(goal, apgd));
        let single = |method: NearestMethod, name| {
            if method.knows(norm) {
                return Ok(Plan::Nearest(Nearest::single(method, norm), name));
            }
            let norms: Vec<String> =
                Norm::ALL.iter().filter(|&&norm| method.knows(norm)).map(|norm| norm.to_string()).collect();
            Err(format!("{name} has no step for {norm}; take {}", norms.join(" or ")))
        };
        let plan = match self {
            Kind::Autoattack => version(Version::Standard),
            Kind::AutoattackPlus => version(Version::Plus),
            Kind::AutoattackRand => version(Version::Rand),
            Kind::ApgdCe => part(AttackSpec::Apgd { loss: LabelLoss::CrossEntropy, config: apgd }),
            Kind::ApgdDlr => part(AttackSpec::Apgd { loss: LabelLoss::Dlr, config: apgd }),
            Kind::ApgdT => {
                part(AttackSpec::ApgdTargeted { loss: Default::default(), targets: 9, config: apgd })
            }
            Kind::Fab => part(AttackSpec::Fab { config: Fab::default() }),
            Kind::FabT => part(AttackSpec::FabTargeted { targets: 9, config: Fab::default() }),
            Kind::Square => part(AttackSpec::Square { config: Square::default() }),
            Kind::Fgsm => Plan::Batches(Single::Pgd(Pgd { early_stop: true, ..Pgd::single_step(epsilon) })),
            Kind::Pgd => Plan::Batches(Single::Pgd(Pgd {
                restarts: 5,
                early_stop: true,
                ..Pgd::usual(&Threat::new(norm, epsilon), 50)
            })),
            Kind::Cw => Plan::Batches(Single::CarliniWagner(CarliniWagner::default())),
            Kind::Deepfool => Plan::Batches(Single::DeepFool(DeepFool::default())),
            Kind::HopSkipJump => Plan::Batches(Single::HopSkipJump(HopSkipJump::default())),
            Kind::Nearest => Plan::Nearest(Nearest::ensemble(norm), "nearest"),
            Kind::Ddn => single(NearestMethod::Ddn(Ddn::default()), "ddn")?,
            Kind::Fmn => single(NearestMethod::Fmn(Fmn::new(norm, STEPS)), "fmn")?,
            Kind::Alma => single(NearestMethod::Alma(Alma::new(norm, STEPS)), "alma")?,
            Kind::Pdgd => single(NearestMethod::Pdgd(Pdgd::default()), "pdgd")?,
            Kind::Pdpgd => single(NearestMethod::Pdpgd(Pdpgd::default()), "pdpgd")?,
            Kind::Sdf => single(NearestMethod::Sdf(SuperDeepFool::default()), "sdf")?,
            Kind::SigmaZero => single(NearestMethod::SigmaZero(SigmaZero::default()), "sigma-zero")?,
            Kind::ApgdSearch => single(NearestMethod::ApgdSearch(ApgdSearch::new(norm)), "apgd-search")?,
            Kind::FeatureL2 => feature(Goal::Away(Distance::SquaredL2)),
            Kind::FeatureCosine => feature(Goal::Away(Distance::Cosine)),
            Kind::FeatureKl => feature(Goal::Away(Distance::Kl)),
            Kind::InstanceWise => feature(Goal::Apart),
            Kind::FeatureMatch => feature(Goal::Towards),
        };
        let (exists, norms) = match &plan {
            Plan::Suite(..) | Plan::Batches(Single::Feature(..)) => (norm != Norm::L0, "linf, l2 or l1"),
            Plan::Batches(Single::Pgd(_)) | Plan::Nearest(..) => (true, ""),
            Plan::Batches(Single::CarliniWagner(_)) => (norm == Norm::L2, "l2"),
            Plan::Batches(_) => (matches!(norm, Norm::L2 | Norm::Linf), "l2 or linf"),
        };
        if !exists {
            return Err(format!("{} has no step for {norm}; take {norms}", self.name()));
        }
        norm.check_pixel_radius(epsilon).map_err(|error| error.to_string())?;
        Ok(plan)
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl Plan {
    /// Whether masked gradients could mislead it about the accuracy.
    pub(crate) fn sees_gradients_and_labels(&self) -> bool {
        match self {
            Plan::Suite(parts, _) => !parts.iter().all(|part| matches!(part, AttackSpec::Square { .. })),
            Plan::Batches(single) => !matches!(single, Single::HopSkipJump(_) | Single::Feature(..)),
            Plan::Nearest(..) => true,
        }
    }

    /// Goes on after the first mistake of an image, for the nearest one.
    ///
    /// # Errors
    /// If the attack is not FAB.
    pub(crate) fn go_on(&mut self, kind: Kind) -> Result<(), String> {
        match (self, kind) {
            (Plan::Suite(_, config), Kind::Fab | Kind::FabT) => {
                config.early_exit = EarlyExit::Never;
                Ok(())
            }
            _ => Err(format!("--go-on is for fab and fab-t; leave it out of {}", kind.name())),
        }
    }

    /// What can break an image, in their order.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        match self {
            Plan::Suite(parts, _) => parts.iter().map(AttackSpec::name).collect(),
            Plan::Batches(Single::Pgd(_)) => vec!["pgd"],
            Plan::Batches(Single::CarliniWagner(_)) => vec!["cw"],
            Plan::Batches(Single::DeepFool(_)) => vec!["deepfool"],
            Plan::Batches(Single::HopSkipJump(_)) => vec!["hop-skip-jump"],
            Plan::Batches(Single::Feature(goal, _)) => vec![goal.name()],
            Plan::Nearest(_, name) => vec![name],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_plan_where_its_attack_has_a_step() {
        let possible = |kind: &Kind| -> Vec<Norm> {
            Norm::ALL.into_iter().filter(|&norm| kind.plan(norm, 1.0, 8).is_ok()).collect()
        };
        for kind in Kind::value_variants() {
            let norms = possible(kind);
            assert_eq!(norms.contains(&Norm::L2), *kind != Kind::SigmaZero, "{kind:?}: {norms:?}");
            let sparse =
                [Kind::Pgd, Kind::Fgsm, Kind::Nearest, Kind::Fmn, Kind::Pdpgd, Kind::Sdf, Kind::SigmaZero];
            assert_eq!(norms.contains(&Norm::L0), sparse.contains(kind), "{kind:?}");
        }
        assert_eq!(possible(&Kind::Cw), [Norm::L2]);
        let names = Kind::Autoattack.plan(Norm::Linf, 0.1, 8).unwrap().names();
        assert_eq!(names, ["apgd-ce", "apgd-t", "fab-t", "square"]);
        assert!(Kind::Cw.plan(Norm::Linf, 0.1, 8).unwrap_err().contains("take l2"));
        assert!(Kind::Fab.plan(Norm::L0, 0.1, 8).unwrap_err().contains("linf, l2 or l1"));
        assert!(Kind::Alma.plan(Norm::L0, 0.1, 8).unwrap_err().contains("take l2 or l1"));
        assert_eq!(possible(&Kind::SigmaZero), [Norm::L0]);
    }

    #[test]
    fn attacks_without_gradients_or_labels_are_known() {
        let sees = |kind: &Kind| {
            let norm = if *kind == Kind::SigmaZero { Norm::L0 } else { Norm::L2 };
            kind.plan(norm, 1.0, 8).unwrap().sees_gradients_and_labels()
        };
        let blind: Vec<String> =
            Kind::value_variants().iter().filter(|kind| !sees(kind)).map(|kind| kind.name()).collect();
        let feature = ["feature-l2", "feature-cosine", "feature-kl", "instance-wise", "feature-match"];
        assert_eq!(blind, [&["square", "hop-skip-jump"], &feature[..]].concat());
    }

    #[test]
    fn a_random_model_is_drawn_from_twenty_times() {
        let Plan::Suite(parts, config) = Kind::AutoattackRand.plan(Norm::Linf, 0.1, 8).unwrap() else {
            panic!("a suite")
        };
        assert_eq!((parts.len(), config.draws, config.batch), (2, 20, 8));
    }
}
