//! Signs of gradient masking: those that an attack shows by itself, and those that further attacks find.

use anyhow::bail;
use serde_json::{Value, json};
use tarrl_attacks::diagnostics::{
    Finding, GradientMaskingChecks, Sign, dead_gradient, gradient_masking_checks, square_wins,
};
use tarrl_attacks::{Classifier, Flags, Pgd, Threat};

use super::outcome::ImageOutcome;
use super::plan::Plan;
use super::target::Target;
use crate::stdout::note;

/// Signs of gradient masking in an attack that uses gradients and labels.
pub(super) struct Findings {
    /// Signs in the attack itself.
    attack: Vec<Finding>,
    /// Signs that further attacks found, with their settings.
    examination: Option<(GradientMaskingChecks, Vec<Finding>)>,
    /// Whether an image is left; an accuracy of zero cannot be too high.
    any_left: bool,
}

impl Findings {
    /// The findings of a finished attack on all images; `None` if it uses no gradients or no labels.
    pub(super) fn of(plan: &Plan, images: &[ImageOutcome]) -> Option<Self> {
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
        Some(Findings { attack, examination: None, any_left: broken.contains(&false) })
    }

    /// Looks for more signs with further attacks.
    pub(super) fn check_further(&mut self, target: &Target<'_>) {
        note!("examining whether gradients are masked, some 400 passes of each image");
        let threat = target.ball.threat();
        let config = examination(threat, target.batch);
        let logits = |u: &tarrl_tensor::Tensor| target.logits(u);
        let classifier = Classifier { logits: &logits, labels: target.labels };
        let found = gradient_masking_checks(classifier, target.ball.center(), threat, &config, target.keys);
        self.examination = Some((config, found));
    }

    pub(super) fn table(&self) -> String {
        let found = self.all();
        let more = if self.examination.is_some() { "" } else { "; --examine looks for more" };
        if found.is_empty() {
            return format!("\nNo sign of masked gradients, which proves nothing{more}.\n");
        }
        let mut text = format!("\nSigns of masked gradients{more}:\n\n");
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
    pub(super) fn report(&self, indices: &[usize]) -> Value {
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
pub(super) fn check(plan: &Plan, epsilon: f64) -> anyhow::Result<()> {
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
