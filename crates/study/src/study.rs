//! Studies: from a profile to the graph of jobs behind its artifacts, and from their results to the report.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use serde_json::Value;
use tarrl_report::{Job, Provenance, Report};

use crate::artifacts::{self, Artifact, Results, radius};
use crate::context::StudyContext;
use crate::layout::Layout;
use tarrl_jobs::{Finished, Graph, Key};

/// The artifacts of a profile with the jobs that they need.
pub struct Study {
    layout: Layout,
    chosen: Chosen,
}

/// Artifacts with the jobs whose results they read, and the graph of these and what they rest on.
struct Chosen {
    graph: Graph,
    artifacts: Vec<(&'static dyn Artifact, Vec<Key>)>,
}

impl Study {
    /// Lays out the study of the profile in `context`, with the methods in the folder `methods`.
    ///
    /// # Errors
    /// Fails if a dataset or a method that the profile names is missing or faulty, or the profile lacks what one of its
    /// artifacts shows.
    pub fn new(context: &Arc<StudyContext>, methods: &Path) -> anyhow::Result<Self> {
        let artifacts = artifacts::of_profile(&context.profile)?;
        let mut layout = Layout::new(context, methods)?;
        let jobs = |artifact: &'static dyn Artifact| Ok((artifact, artifact.jobs(&mut layout)?));
        let artifacts = artifacts.into_iter().map(jobs).collect::<anyhow::Result<_>>()?;
        let chosen = Chosen { graph: std::mem::take(&mut layout.graph), artifacts };
        Ok(Self { layout, chosen: chosen.pruned() })
    }

    /// Keeps the artifacts `ids`, in any case, and the jobs that they need; an empty list keeps everything.
    ///
    /// # Errors
    /// Fails if the study has no such artifact.
    pub fn only<T: AsRef<str>>(self, ids: &[T]) -> anyhow::Result<Self> {
        Ok(Self { chosen: self.chosen.only(ids)?, ..self })
    }

    /// The jobs that the artifacts need.
    pub fn graph(&self) -> &Graph {
        &self.chosen.graph
    }

    /// Draws every artifact from the results of all jobs. `provenance` says what machine and version made them; see
    /// [`machine`](tarrl_jobs::machine).
    ///
    /// # Errors
    /// Fails if a result has an unexpected form.
    pub fn report(&self, finished: &BTreeMap<Key, Finished>, provenance: &Value) -> anyhow::Result<Report> {
        let mut report = Report {
            title: format!("TARRL: {}", self.layout.context.profile.title),
            provenance: self.provenance(finished, provenance),
            ..Report::default()
        };
        for (artifact, jobs) in &self.chosen.artifacts {
            let results = Results { layout: &self.layout, jobs, finished };
            report.subject = results.subject().map_or(String::new(), |subject| subject.method.title.clone());
            let rendered = artifact.render(&results)?;
            report.tables.extend(rendered.tables);
            report.figures.extend(rendered.figures);
            if let Some(claim) = rendered.claim.filter(|_| report.claim.is_empty()) {
                report.claim = claim;
            }
        }
        Ok(report)
    }

    fn provenance(&self, finished: &BTreeMap<Key, Finished>, machine: &Value) -> Provenance {
        let text = |name: &str| match &machine[name] {
            Value::Null => "unknown".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let title = |job: &tarrl_jobs::Job| format!("{}: {}", job.spec().stage.kind, job.spec().name);
        let jobs = self.graph().jobs().iter();
        Provenance {
            version: format!("{} (commit {})", text("version"), text("commit")),
            machine: format!("{}, {}, {}", text("cpu"), text("device"), text("rustc")),
            command: "tarrl reproduce".into(),
            seeds: self.layout.context.profile.seeds().collect(),
            jobs: jobs.map(|job| Job { key: job.key().to_string(), title: title(job) }).collect(),
            facts: self.facts(finished, machine),
        }
    }

    fn facts(&self, finished: &BTreeMap<Key, Finished>, machine: &Value) -> Vec<(String, String)> {
        let profile = &self.layout.context.profile;
        let adversary = profile.adversary.map(|adversary| {
            let steps = adversary.steps.map_or(String::new(), |steps| format!(", {steps} steps"));
            ("adversary of the training".to_owned(), format!("{}{steps}", radius(adversary.epsilon.value())))
        });
        let backend = machine["backend"].as_object().into_iter().flatten();
        let backend =
            backend.map(|(name, fact)| (name.clone(), fact.as_str().unwrap_or_default().to_owned()));
        let peak = self.graph().jobs().iter().filter_map(|job| finished[&job.key()].peak_bytes).max();
        let peak = peak.map(|bytes| ("most memory of a job".to_owned(), format!("{} MB", bytes / 1_000_000)));
        let dataset = ("dataset".to_owned(), profile.dataset.clone());
        [dataset].into_iter().chain(adversary).chain(backend).chain(peak).collect()
    }
}

impl Chosen {
    fn only<T: AsRef<str>>(mut self, ids: &[T]) -> anyhow::Result<Self> {
        if ids.is_empty() {
            return Ok(self);
        }
        let is = |artifact: &dyn Artifact, id: &T| artifact.id().eq_ignore_ascii_case(id.as_ref());
        let missing = ids.iter().find(|id| !self.artifacts.iter().any(|(artifact, _)| is(*artifact, id)));
        if let Some(missing) = missing {
            let known: Vec<_> = self.artifacts.iter().map(|(artifact, _)| artifact.id()).collect();
            let missing = missing.as_ref().to_uppercase();
            bail!("this profile does not make {missing}; it makes {}", known.join(", "));
        }
        self.artifacts.retain(|(artifact, _)| ids.iter().any(|id| is(*artifact, id)));
        Ok(self.pruned())
    }

    /// Without the jobs that no artifact needs.
    fn pruned(self) -> Self {
        let graph = self.graph.only(self.artifacts.iter().flat_map(|(_, jobs)| jobs).copied());
        Self { graph, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{AttackedHead, Profile};
    use serde_json::json;
    use tarrl_data::Catalog;
    use tarrl_jobs::{Job, Spec, Stage};

    fn job(name: &str, inputs: &[Key]) -> Job {
        let stage = Stage { kind: "test", version: 1 };
        let inputs = inputs.to_vec();
        let spec = Spec { name: name.into(), stage, seed: 0, config: json!(name), inputs, seconds: 1.0 };
        Job::new(spec, |_| Ok(Value::Null))
    }

    fn chosen() -> Chosen {
        let mut graph = Graph::default();
        let encoder = graph.add(job("encoder", &[]));
        let attack = graph.add(job("attack", &[encoder]));
        let bound = graph.add(job("bound", &[encoder]));
        let artifact = |id| artifacts::find(id).unwrap();
        Chosen { graph, artifacts: vec![(artifact("T1"), vec![attack]), (artifact("T5"), vec![bound])] }
    }

    fn names(chosen: &Chosen) -> Vec<&str> {
        chosen.graph.jobs().iter().map(|job| job.spec().name.as_str()).collect()
    }

    #[test]
    fn a_chosen_artifact_keeps_the_jobs_that_it_needs_and_no_others() {
        assert_eq!(names(&chosen().only(&["T1"]).unwrap()), ["encoder", "attack"]);
        assert_eq!(names(&chosen().only(&["t1"]).unwrap()), ["encoder", "attack"]);
        assert_eq!(names(&chosen().only(&["T5", "T1"]).unwrap()), ["encoder", "attack", "bound"]);
        assert_eq!(names(&chosen().only::<&str>(&[]).unwrap()), ["encoder", "attack", "bound"]);
    }

    /// The kinds of jobs of the smoke profile with one method and one table, and the seed of the last.
    fn kinds(table: &str, change: impl Fn(&mut Profile)) -> (Vec<&'static str>, u64) {
        let root = crate::repository();
        let mut profile = Profile::read(&root.join("experiments/profiles"), "smoke").unwrap();
        (profile.methods, profile.tables) = (vec!["simclr".into()], vec![table.into()]);
        (profile.pairs, profile.sweep, profile.subject) = (Vec::new(), None, None);
        change(&mut profile);
        let catalog = Catalog::new(root.join("datasets"), root.join("data"));
        let context = Arc::new(StudyContext::new(profile, catalog, tarrl_tensor::cpu()));
        let study = Study::new(&context, &root.join("experiments/methods")).unwrap();
        let jobs = study.graph().jobs();
        (jobs.iter().map(|job| job.spec().stage.kind).collect(), jobs.last().unwrap().spec().seed)
    }

    #[test]
    fn autoattack_is_run_on_the_head_that_the_profile_names() {
        let all = ["data", "pretrain", "frontier", "matched", "autoattack", "best-known"];
        assert_eq!(kinds("T0", |_| ()).0, all);
        let without = |profile: &mut Profile| profile.frontier.as_mut().unwrap().best_known = false;
        assert_eq!(kinds("T0", without).0, all[..5]);
        assert_eq!(kinds("T1", |_| ()).0, ["data", "pretrain", "head", "attack"]);
        let selected = |profile: &mut Profile| profile.attack.autoattack_head = AttackedHead::Selected;
        assert_eq!(kinds("T0", selected).0, ["data", "pretrain", "frontier"]);
        assert_eq!(kinds("T1", selected).0, ["data", "pretrain", "head", "attack", "autoattack"]);
    }

    #[test]
    fn trials_are_laid_out_with_the_seeds_of_the_profile() {
        let trials = |profile: &mut Profile| {
            let set = json!({"objective": {"temperature": 0.25}});
            profile.trials = serde_json::from_value(json!([
                {"method": "simclr"}, {"method": "simclr", "set": set}
            ]))
            .unwrap();
            profile.first_seed = 100;
            profile.subset.holdout = Some(500);
        };
        let found = kinds("T8", trials);
        assert_eq!(found, (vec!["data", "pretrain", "frontier", "pretrain", "frontier"], 100));
    }

    #[test]
    fn an_artifact_that_the_profile_lacks_is_refused() {
        let error = chosen().only(&["F1"]).err().unwrap().to_string();
        assert_eq!(error, "this profile does not make F1; it makes T1, T5");
    }
}
