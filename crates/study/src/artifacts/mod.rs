//! Artifacts: the tables and figures of a study, one file each, and their registry.
//!
//! To add one, write a file with a unit struct that implements [`Artifact`], and add it to [`REGISTRY`]; then name its id in
//! a profile.

mod any_predictor;
mod artifact;
mod at_clean;
mod bound_scatter;
mod bounds;
mod cells;
mod corruptions;
mod cost;
mod distance_curve;
mod epsilon_curve;
mod examples;
mod few_labels;
mod frontier_curve;
mod headline;
mod levels;
mod objectives;
mod protocols;
mod published_columns;
mod regularizer;
mod results;
mod retrieval;
mod robustness;
mod selection;
mod transfer;
mod universal;
mod weight_sweep;

pub use artifact::{Artifact, Rendered};
pub(crate) use cells::radius;
pub use results::Results;

use tarrl_train::config::nearest;

use crate::profile::Profile;

/// Every table and figure.
pub static REGISTRY: &[&dyn Artifact] = &[
    &headline::Headline,
    &robustness::Robustness,
    &transfer::Transfer,
    &protocols::Protocols,
    &regularizer::Choices,
    &bounds::Bounds,
    &objectives::Objectives,
    &cost::Cost,
    &selection::Selection,
    &corruptions::Corruptions,
    &few_labels::FewLabels,
    &retrieval::Retrieval,
    &any_predictor::AnyPredictor,
    &epsilon_curve::EpsilonCurve,
    &weight_sweep::WeightSweep,
    &bound_scatter::BoundScatter,
    &frontier_curve::FrontierCurve,
    &universal::Universal,
    &distance_curve::DistanceCurve,
];

/// The artifact with an id, in any case.
///
/// # Errors
/// A sentence that names the nearest id and all that are known.
pub fn find(id: &str) -> Result<&'static dyn Artifact, String> {
    REGISTRY.iter().copied().find(|artifact| artifact.id().eq_ignore_ascii_case(id)).ok_or_else(|| {
        let known: Vec<&str> = REGISTRY.iter().map(|artifact| artifact.id()).collect();
        let near = nearest(id, known.iter().copied());
        let hint = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
        format!("there is no table or figure `{id}`; {hint}known: {}", known.join(", "))
    })
}

/// The artifacts that a profile names, in its order, which is that of the report.
///
/// # Errors
/// If an id is unknown or named twice, or an artifact lacks what it shows; the message names file, line and remedy.
pub fn of_profile(profile: &Profile) -> anyhow::Result<Vec<&'static dyn Artifact>> {
    let (mut named, mut artifacts) = (Vec::new(), Vec::new());
    for id in &profile.tables {
        let fault = |reason: String| {
            anyhow::anyhow!("{}: `tables`: {reason}", profile.place_of(&format!("\"{id}\"")))
        };
        let artifact = find(id).map_err(fault)?;
        if named.contains(&artifact.id()) {
            return Err(fault(format!("{} is named twice; remove one", artifact.id())));
        }
        artifact.requires(profile).map_err(|reason| fault(format!("{} {reason}", artifact.id())))?;
        named.push(artifact.id());
        artifacts.push(artifact);
    }
    Ok(artifacts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_found_in_any_case() {
        for (i, artifact) in REGISTRY.iter().enumerate() {
            assert_eq!(find(&artifact.id().to_lowercase()).unwrap().id(), artifact.id());
            assert!(REGISTRY[..i].iter().all(|other| other.id() != artifact.id()), "{}", artifact.id());
            assert!(!artifact.title().is_empty());
        }
    }

    #[test]
    fn an_unknown_id_is_answered_with_its_neighbor() {
        let error = find("T111").err().unwrap();
        assert!(
            error.starts_with("there is no table or figure `T111`; did you mean `T11`? known: T0, "),
            "{error}"
        );
    }

    #[test]
    fn a_profile_that_lacks_what_an_artifact_shows_is_refused() {
        let folder = crate::repository().join("experiments/profiles");
        let smoke = Profile::read(&folder, "smoke").unwrap();
        let profile = |tables: &[&str]| Profile {
            tables: tables.iter().map(|&id| id.to_owned()).collect(),
            pairs: Vec::new(),
            sweep: None,
            frontier: None,
            tasks: None,
            distances: None,
            variants: Vec::new(),
            ..smoke.clone()
        };
        let ids = |tables| -> Vec<&str> {
            of_profile(&profile(tables)).unwrap().iter().map(|artifact| artifact.id()).collect()
        };
        assert_eq!(ids(&["F1", "t1"]), ["F1", "T1"], "the first leads the report");
        for (tables, expected) in [
            (&["T1", "T111"][..], "there is no table or figure `T111`; did you mean `T11`?"),
            (&["T1", "t1"], "T1 is named twice; remove one"),
            (&["T6"], "T6 shows `pairs`; add `pairs` or remove it"),
            (&["F2"], "F2 shows `sweep`; add `sweep` or remove it"),
            (&["T0"], "T0 shows `frontier`; add `frontier` or remove it"),
            (&["F4"], "F4 shows `frontier`; add `frontier` or remove it"),
            (&["T2"], "T2 shows `tasks`; add `tasks` or remove it"),
            (&["T3"], "T3 shows `tasks`; add `tasks` or remove it"),
            (&["T4"], "T4 shows `variant`; add variants or remove it"),
            (&["T9"], "T9 shows `tasks`; add `tasks` or remove it"),
            (&["T10"], "T10 shows `tasks`; add `tasks` or remove it"),
            (&["T11"], "T11 shows `tasks`; add `tasks` or remove it"),
            (&["T12"], "T12 shows `tasks`; add `tasks` or remove it"),
            (&["F5"], "F5 shows `tasks`; add `tasks` or remove it"),
            (&["F6"], "F6 shows `distances`; add `distances` or remove it"),
            (&["T8"], "T8 shows `trial`; add trials or remove it"),
        ] {
            let error = of_profile(&profile(tables)).err().unwrap().to_string();
            assert!(error.contains("smoke.toml") && error.contains(expected), "{error}");
        }
        let line = of_profile(&profile(&["T6"])).err().unwrap().to_string();
        let text = std::fs::read_to_string(folder.join("smoke.toml")).unwrap();
        let number = 1 + text.lines().position(|line| line.contains("\"T6\"")).unwrap();
        assert!(line.contains(&format!("smoke.toml:{number}: `tables`: T6")), "{line}");
    }
}
