//! Signs of gradient masking: those that an attack shows by itself, and those that further attacks find.

use anyhow::bail;
use serde_json::{Value, json};
use tarrl_attacks::diagnostics::{
    Finding, GradientMaskingChecks, Sign, dead_gradient, gradient_masking_checks, square_wins,
};
use tarrl_attacks::{Classifier, Flags, LabelLoss, Norm, Pgd, Threat, attack_classifier};
use tarrl_eval::{BinarizationScore, BinarizationTest};
use tarrl_tensor::{Key, Tensor};

use super::plan::Plan;
use super::target::Target;
use crate::stdout::note;
use tarrl_study::attack_state::ImageOutcome;

/// Signs of gradient masking in an attack that uses gradients and labels.
pub(crate) struct Findings {
    /// Signs in the attack itself.
    attack: Vec<Finding>,
    /// Signs that further attacks found, with their settings.
    examination: Option<(GradientMaskingChecks, Vec<Finding>)>,
    /// What PGD found of examples that are known to exist.
    known: Option<BinarizationScore>,
    /// Whether an image is left; an accuracy of zero cannot be too high.
    any_left: bool,
}

impl Findings {
    /// The findings of a finished attack on all images; `None` if it uses no gradients or no labels.
    pub(crate) fn of(plan: &Plan, images: &[ImageOutcome]) -> Option<Self> {
        if !plan.sees_gradients_and_labels() {
            return None;
        }
        let flags: Vec<Flags> = images.iter().map(|image| image.flags).collect();
        let broken: Vec<bool> = images.iter().map(|image| image.broken).collect();
        let mut attack: Vec<Finding> = dead_gradient(&flags, &broken).into_iter().collect();
        if let Plan::Suite(parts, _) = plan {
            let origins: Vec<_> = images.iter().map(|image| image.origin.clone()).collect();
            attack.extend(square_wins(parts, &origins));
        }
        Some(Findings { attack, examination: None, known: None, any_left: broken.contains(&false) })
    }

    /// Looks for more signs with further attacks.
    ///
    /// # Errors
    /// If a feature of the encoder is not finite.
    pub(crate) fn check_further(&mut self, target: &Target<'_>) -> anyhow::Result<()> {
        note!("examining whether gradients are masked, some 450 passes of each image");
        let threat = target.ball.threat();
        let config = examination(threat, target.batch);
        let logits = |u: &Tensor| target.logits(u);
        let classifier = Classifier { logits: &logits, labels: target.labels };
        let mut found =
            gradient_masking_checks(classifier, target.ball.center(), threat, &config, target.keys);
        if threat.norm != Norm::L0 {
            let score = known_examples(target, &config.pgd)?;
            found.extend(score.finding());
            self.known = Some(score);
        }
        self.examination = Some((config, found));
        Ok(())
    }

    pub(crate) fn table(&self) -> String {
        let mut text = self.known.as_ref().map(known_line).unwrap_or_default();
        let found = self.all();
        let more = if self.examination.is_some() { "" } else { "; --examine looks for more" };
        if found.is_empty() {
            return text + &format!("\nNo sign of masked gradients, which proves nothing{more}.\n");
        }
        text += &format!("\nSigns of masked gradients{more}:\n\n");
        text += "| sign                    | in          | images | blocking | what it says |\n";
        text += "|-------------------------|-------------|-------:|----------|--------------|\n";
        for (place, finding) in &found {
            let (sign, images) = (name(finding.sign), finding.samples.len());
            let blocking = if self.blocks(finding) { "yes" } else { "no" };
            let advice = finding.sign.advice();
            text += &format!("| {sign:<23} | {place:<11} | {images:>6} | {blocking:<8} | {advice} |\n");
        }
        if !self.is_conclusive() {
            text +=
                "\nWhile a blocking sign stands, the robust accuracy is inconclusive: it may be too high.\n";
        }
        text
    }

    /// `findings`, `conclusive` and `examination` of the report; `indices` are the places of the images in the test set.
    pub(crate) fn report(&self, indices: &[usize]) -> Value {
        let finding = |(place, finding): &(&str, &Finding)| {
            let samples: Vec<usize> = finding.samples.iter().map(|&sample| indices[sample]).collect();
            json!({
                "sign": finding.sign, "in": place, "blocking": self.blocks(finding), "samples": samples,
                "numbers": finding.numbers, "says": finding.to_string(),
            })
        };
        json!({
            "findings": self.all().iter().map(finding).collect::<Vec<_>>(),
            "conclusive": self.is_conclusive(),
            "examination": self.examination.as_ref().map(|(config, _)| config),
            "known_examples": self.known.as_ref().map(|score| json!({
                "tested": score.found.iter().flatten().count(), "success": score.success(),
                "random_success": score.random_success(),
            })),
        })
    }

    fn is_conclusive(&self) -> bool {
        self.all().iter().all(|(_, finding)| !self.blocks(finding))
    }

    fn blocks(&self, finding: &Finding) -> bool {
        finding.blocking && self.any_left
    }

    /// All findings, each with where it was found.
    fn all(&self) -> Vec<(&'static str, &Finding)> {
        let examined = self.examination.iter().flat_map(|(_, findings)| findings);
        let attack = self.attack.iter().map(|finding| ("attack", finding));
        attack.chain(examined.map(|finding| ("examination", finding))).collect()
    }
}

/// Checks that an examination makes sense.
///
/// # Errors
/// If the attack sees no gradients or no labels, or the ball is a point.
pub(crate) fn check(plan: &Plan, epsilon: f64) -> anyhow::Result<()> {
    if !plan.sees_gradients_and_labels() {
        bail!(
            "--examine looks for masked gradients, but the attack sees no gradients or no labels; leave it out"
        );
    }
    if epsilon == 0.0 {
        bail!("--examine compares radii, but this is 0; leave it out or take a larger --epsilon");
    }
    Ok(())
}

/// PGD on readouts for which an adversarial example is known, around the first images.
///
/// # Errors
/// If a feature is not finite.
fn known_examples(target: &Target<'_>, pgd: &Pgd) -> anyhow::Result<BinarizationScore> {
    let n = target.keys.len().min(KNOWN);
    let keys: Vec<Key> = target.keys[..n].iter().map(|key| key.fold("binarization")).collect();
    let attack = |classifier: Classifier<'_>, x: &Tensor, threat: &Threat, key: Key| {
        let Classifier { logits, labels } = classifier;
        attack_classifier(logits, x, labels, LabelLoss::CrossEntropy, threat, pgd, &[key]).adversarial
    };
    let images = target.ball.center().slice(0, 0, n);
    Ok(BinarizationTest::default().run(target.encode, &images, target.ball.threat(), &attack, &keys)?)
}

/// Images around which examples are made.
const KNOWN: usize = 20;

fn known_line(score: &BinarizationScore) -> String {
    let tested = score.found.iter().flatten().count();
    if tested == 0 {
        return "\nNo readout of these features separates a point on the boundary, so that the attack is not tested.\n".into();
    }
    format!(
        "\nOf examples that are known to exist around {tested} images, PGD finds {:.0} %, random points {:.0} %.\n",
        100.0 * score.success(),
        100.0 * score.random_success()
    )
}

fn examination(threat: &Threat, batch: usize) -> GradientMaskingChecks {
    GradientMaskingChecks { pgd: Pgd::usual(threat, 20), batch, ..GradientMaskingChecks::default() }
}

fn name(sign: Sign) -> String {
    json!(sign).as_str().map_or_else(String::new, str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::plan::Kind;
    use super::*;
    use tarrl_attacks::{Norm, Origin};

    fn images() -> Vec<ImageOutcome> {
        let by = |attack: &str| Some(Origin { attack: attack.to_owned(), ..Origin::default() });
        let fallen = ImageOutcome { broken: true, origin: by("square"), ..ImageOutcome::default() };
        let flat = ImageOutcome {
            flags: Flags { zero_gradient: true, ..Flags::default() },
            ..ImageOutcome::default()
        };
        vec![fallen, flat, ImageOutcome::default()]
    }

    #[test]
    fn signs_block_unless_no_image_is_left() {
        let plan = Kind::Autoattack.plan(Norm::Linf, 0.1, 8).unwrap();
        let findings = Findings::of(&plan, &images()).unwrap();
        let report = findings.report(&[4, 7, 9]);
        let of = |i: usize, name: &str| report["findings"][i][name].clone();
        assert_eq!((of(0, "sign"), of(0, "samples")), (json!("dead-gradient"), json!([7])));
        assert_eq!((of(1, "sign"), of(1, "samples")), (json!("black-box-wins"), json!([4])));
        assert_eq!((of(0, "blocking"), of(1, "blocking")), (json!(true), json!(true)));
        assert_eq!(report["conclusive"], false);
        let text = findings.table();
        assert!(text.contains("| dead-gradient           | attack      |      1 | yes      |"), "{text}");
        assert!(text.ends_with("it may be too high.\n"), "{text}");

        let nobody = Findings::of(&plan, &images()[..1]).unwrap();
        assert_eq!(nobody.report(&[4, 7, 9])["conclusive"], true);
        assert!(nobody.table().contains("| black-box-wins          | attack      |      1 | no       |"));
        assert!(!nobody.table().contains("inconclusive"));
    }

    #[test]
    fn an_attack_that_sees_no_labels_has_no_findings() {
        let plan = |kind: Kind| kind.plan(Norm::Linf, 0.1, 8).unwrap();
        assert!(Findings::of(&plan(Kind::FeatureL2), &images()).is_none());
        assert!(check(&plan(Kind::Square), 0.1).is_err() && check(&plan(Kind::Pgd), 0.0).is_err());
        assert!(check(&plan(Kind::Pgd), 0.1).is_ok());
    }
}
