//! Headline table (T0): robust accuracy at equal clean accuracy, with paired differences.

use tarrl_report::{Best, Cell, Column, Estimate, Keys, Table};

use super::at_clean::{Paired, autoattack, best_known, frontiers, most_clean, robust};
use super::cells::{accuracy, keys, radius};
use super::{Artifact, Rendered, Results};
use crate::layout::Layout;
use crate::profile::{Frontier, Profile};
use crate::stages::autoattack::AutoAttackResult;
use crate::stages::best_known::{ATTACKS, BestKnownResult};
use crate::stages::frontier::FrontierResult;
use tarrl_jobs::Key;

/// Which encoder is more robust at the same clean accuracy, and by how much?
pub(super) struct Headline;

/// What a group of columns shows: an attack at a radius, with its accuracies.
pub(super) struct Attacked {
    pub(super) attack: String,
    pub(super) epsilon: f64,
    pub(super) paired: Paired,
}

impl Attacked {
    /// PGD at the radius at place `level`, at the heads of frontiers.
    pub(super) fn by_pgd(frontiers: &[Vec<FrontierResult>], profile: &Profile, level: usize) -> Self {
        let attack = format!("PGD-{}", profile.attack.steps);
        let epsilon = profile.attack.epsilons[level].value();
        Self { attack, epsilon, paired: robust(frontiers, level, clean(profile)) }
    }

    pub(super) fn cell(&self, profile: &Profile, estimate: Option<Estimate>, metric: &str) -> Option<Cell> {
        let keys = keys_at(profile, &self.attack.to_lowercase(), Some(self.epsilon), metric);
        Some(Cell::measured(estimate?, keys))
    }
}

/// What a number at equal clean accuracy is.
fn keys_at(profile: &Profile, attack: &str, epsilon: Option<f64>, metric: &str) -> Keys {
    let protocol = format!("linear, clean accuracy {}", clean(profile));
    let dataset = profile.dataset.clone();
    Keys { dataset, protocol, attack: attack.into(), epsilon, metric: metric.into() }
}

fn clean(profile: &Profile) -> f64 {
    profile.frontier.as_ref().map_or(0.0, |frontier| frontier.clean)
}

impl Artifact for Headline {
    fn id(&self) -> &'static str {
        "T0"
    }

    fn title(&self) -> &'static str {
        "Robust accuracy at equal clean accuracy"
    }

    fn requires(&self, profile: &Profile) -> Result<(), String> {
        settings(profile).map(|_| ())
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        Ok(keys(&layout.methods, |job| {
            [job.frontier, job.matched_autoattack, job.best_known].into_iter().flatten().collect()
        }))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let profile = results.profile();
        let settings = settings(profile).map_err(anyhow::Error::msg)?;
        let frontiers = frontiers(results, results.methods())?;
        let subject = results.subject().map(|subject| subject.name.as_str());
        let subject = results.methods().iter().position(|method| Some(method.name.as_str()) == subject);
        let attacked = attacked(results)?;
        let mut table = Table {
            id: self.id().into(),
            title: self.title().into(),
            caption: format!(
                "Which encoder is more robust, whatever its head? Each is given the linear head at which its clean accuracy \
                 is {:.1} %.",
                100.0 * settings.clean
            ),
            stub: "method".into(),
            columns: columns(results, &attacked, subject),
            notes: notes(profile, settings).into_iter().chain(sources(results)?).collect(),
            ..Table::default()
        };
        for (i, method) in results.methods().iter().enumerate() {
            let mut cells = Vec::new();
            for part in &attacked {
                cells.push(part.cell(profile, part.paired.estimate(i), "accuracy"));
                if let Some(subject) = subject {
                    let others = (subject != i).then(|| part.paired.advantage(subject, i)).flatten();
                    cells.push(part.cell(profile, others, "advantage"));
                }
            }
            let most = accuracy(most_clean(&frontiers[i]));
            cells.push(Some(Cell::measured(most, keys_at(profile, "none", None, "largest clean accuracy"))));
            table.push_row(method.method.title.clone(), cells);
        }
        let sentence = |subject| attacked.last().map(|part| sentence(results, settings, part, subject));
        let claim = subject.and_then(sentence);
        Ok(Rendered { tables: vec![table], claim, ..Rendered::default() })
    }
}

/// What the profile says of frontiers.
pub(super) fn settings(profile: &Profile) -> Result<&Frontier, String> {
    profile.frontier.as_ref().ok_or_else(|| "shows `frontier`; add `frontier` or remove it".to_owned())
}

/// PGD on the frontier at each radius, then AutoAttack on the matched head if it was run.
fn attacked(results: &Results<'_>) -> anyhow::Result<Vec<Attacked>> {
    let profile = results.profile();
    let frontiers = frontiers(results, results.methods())?;
    let suites: Vec<Vec<AutoAttackResult>> = results
        .methods()
        .iter()
        .map(|method| results.of(method, |jobs| jobs.matched_autoattack))
        .collect::<anyhow::Result<_>>()?;
    let best = all_attacks(results)?;
    let mut attacked = Vec::new();
    for (level, epsilon) in profile.attack.epsilons.iter().enumerate() {
        let epsilon = epsilon.value();
        attacked.push(Attacked::by_pgd(&frontiers, profile, level));
        if suites.iter().any(|seeds| !seeds.is_empty()) {
            let (attack, paired) = ("AutoAttack".into(), autoattack(&suites, level));
            attacked.push(Attacked { attack, epsilon, paired });
        }
        if best.iter().any(|seeds| !seeds.is_empty()) {
            attacked.push(Attacked { attack: ALL.into(), epsilon, paired: best_known(&best, level) });
        }
    }
    Ok(attacked)
}

/// The column of the minimum over all attacks.
const ALL: &str = "all attacks";

/// What the stronger single attacks left, seed by seed, if they were run.
fn all_attacks(results: &Results<'_>) -> anyhow::Result<Vec<Vec<BestKnownResult>>> {
    results.methods().iter().map(|method| results.of(method, |jobs| jobs.best_known)).collect()
}

/// Where the minimum over all attacks comes from.
fn sources(results: &Results<'_>) -> anyhow::Result<Option<String>> {
    let mut sentences = Vec::new();
    for (method, seeds) in results.methods().iter().zip(all_attacks(results)?) {
        let of =
            |attack: usize| -> usize { seeds.iter().flat_map(|seed| &seed.broken).map(|b| b[attack]).sum() };
        let parts: Vec<String> = (0..ATTACKS.len())
            .filter(|&attack| of(attack) > 0)
            .map(|attack| format!("{} {}", ATTACKS[attack], of(attack)))
            .collect();
        if !seeds.is_empty() {
            let found = if parts.is_empty() { "none".to_owned() } else { parts.join(", ") };
            sentences.push(format!("{}: {found}", method.method.title));
        }
    }
    let [first, second, third] = ATTACKS;
    Ok((!sentences.is_empty()).then(|| {
        format!(
            "All attacks: the best-known value, the minimum over AutoAttack and then {first}, {second} and {third} on the same \
             images and head. What they broke beyond AutoAttack, over all radii and seeds: {}.",
            sentences.join("; ")
        )
    }))
}

fn columns(results: &Results<'_>, attacked: &[Attacked], subject: Option<usize>) -> Vec<Column> {
    let mut columns = Vec::new();
    for part in attacked {
        let group = radius(part.epsilon);
        let column = |label: String, best| Column { group: group.clone(), label, best, ..Column::default() };
        columns.push(column(part.attack.clone(), Some(Best::Highest)));
        if let Some(subject) = subject {
            let ours = &results.methods()[subject].method.title;
            columns.push(column(format!("{}: {ours} has more by", part.attack), None));
        }
    }
    columns.push(Column { label: "largest clean".into(), ..Column::default() });
    columns
}

/// How numbers at equal clean accuracy are read.
pub(super) fn frontier_notes(profile: &Profile, settings: &Frontier) -> Vec<String> {
    vec![
        format!(
            "Accuracy in per cent on the line through {} heads from l2 = {:.0e} to {:.0e}: the largest robust accuracy \
             among points whose clean accuracy is {:.1} % or more (docs/evaluation.md). A dash: with one seed or more no \
             head reaches it.",
            settings.l2.len(),
            settings.l2[0],
            settings.l2[settings.l2.len() - 1],
            100.0 * settings.clean
        ),
        format!(
            "Clean accuracy is that of all test images, PGD is run on {} of them with one restart. ± is half of a 95 % \
             bootstrap interval over {}; differences are paired by seed and image.",
            settings.images,
            if profile.seeds > 1 { "seeds and images" } else { "images, for one seed" }
        ),
    ]
}

fn notes(profile: &Profile, settings: &Frontier) -> Vec<String> {
    let mut notes = frontier_notes(profile, settings);
    if profile.attack.autoattack > 0
        && profile.attack.autoattack_head == crate::profile::AttackedHead::Matched
    {
        notes.push(format!(
            "AutoAttack: the standard version on {} test images, against the head that is fitted at the weight where the \
             frontier reaches the clean accuracy.",
            profile.attack.autoattack
        ));
    }
    notes
}

/// The subject against the best of the others that use no labels, under one attack. Other methods with the regularizer are
/// variants of the subject, not rivals.
fn sentence(results: &Results<'_>, settings: &Frontier, part: &Attacked, subject: usize) -> String {
    let methods = results.methods();
    let ours = &methods[subject].method.title;
    let clean = 100.0 * settings.clean;
    let Some(own) = part.paired.estimate(subject) else {
        return format!("{ours} does not reach a clean accuracy of {clean:.1} %.");
    };
    let deviation = part.paired.deviation(subject);
    let deviation = deviation.map_or(String::new(), |d| format!(" (standard deviation over seeds {d:.1})"));
    let (attack, at) = (&part.attack, radius(part.epsilon));
    let start = format!(
        "At {clean:.1} % clean accuracy, {ours} keeps {:.1} %{deviation} under {attack} at {at}",
        own.mean
    );
    let is_rival = |i: &usize| {
        let method = &methods[*i].method;
        *i != subject && !method.uses_labels() && method.regularizer.is_none()
    };
    let rivals = (0..methods.len()).filter(is_rival);
    let best = rivals
        .filter_map(|i| Some((i, part.paired.estimate(i)?.mean)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .and_then(|(best, _)| Some((best, part.paired.advantage(subject, best)?)));
    let Some((best, more)) = best else { return start + "." };
    format!(
        "{start}: {} {}, the best other method without labels.",
        compared(more),
        methods[best].method.title
    )
}

/// A paired difference in words that end where the other method is named.
fn compared(more: Estimate) -> String {
    let size = more.mean.abs();
    let interval = more.half_width.map_or(String::new(), |half| format!(" ± {half:.1}"));
    let chance = if more.half_width.is_some_and(|half| size <= half) { " (not beyond chance)" } else { "" };
    match size {
        size if size < 0.05 => format!("as much{}{chance} as", interval),
        size => {
            let word = if more.mean < 0.0 { "less" } else { "more" };
            format!("{size:.1}{interval} points {word}{chance} than")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_within_its_interval_is_not_claimed() {
        let words = |mean, half_width| compared(Estimate { mean, half_width, n: 2 });
        assert_eq!(words(11.5, Some(5.5)), "11.5 ± 5.5 points more than");
        assert_eq!(words(-3.0, None), "3.0 points less than");
        assert_eq!(words(1.2, Some(1.7)), "1.2 ± 1.7 points more (not beyond chance) than");
        assert_eq!(words(0.04, Some(0.5)), "as much ± 0.5 (not beyond chance) as");
    }
}
