//! The job graph: jobs behind the jobs whose results they use.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{JobContext, Key, Spec};

/// One unit of work with its key.
pub struct Job {
    spec: Spec,
    key: Key,
    run: Box<RunFn>,
}

type RunFn = dyn Fn(&JobContext<'_>) -> anyhow::Result<Value>;

impl Job {
    /// A job; `run` returns its result as JSON and may write files through its context.
    pub fn new(spec: Spec, run: impl Fn(&JobContext<'_>) -> anyhow::Result<Value> + 'static) -> Self {
        let key = Key::of(&spec.identity());
        Self { spec, key, run: Box::new(run) }
    }

    /// What the job is.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Its key.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Kind and name, for people.
    pub(crate) fn label(&self) -> String {
        format!("{} {}", self.spec.stage.kind, self.spec.name)
    }

    pub(crate) fn run(&self, context: &JobContext<'_>) -> anyhow::Result<Value> {
        (self.run)(context)
    }
}

/// Jobs in topological order.
#[derive(Default)]
pub struct Graph {
    jobs: Vec<Job>,
    places: BTreeMap<Key, usize>,
}

impl Graph {
    /// Adds a job and returns its key. A job with the same key as an earlier one is that job and is not added again.
    ///
    /// Inputs have to be added first. So no graph has a cycle, and the order of adding is topological.
    ///
    /// # Panics
    /// Panics if an input is not in the graph.
    #[track_caller]
    pub fn add(&mut self, job: Job) -> Key {
        for input in &job.spec.inputs {
            assert!(
                self.places.contains_key(input),
                "add: job `{}` needs {input}, which was not added",
                job.spec.name
            );
        }
        let key = job.key;
        self.places.entry(key).or_insert_with(|| {
            self.jobs.push(job);
            self.jobs.len() - 1
        });
        key
    }

    /// All jobs, inputs before their users.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// The part of the graph that `targets` need, themselves included, in the same order.
    ///
    /// # Panics
    /// Panics if a target is not in the graph.
    #[track_caller]
    pub fn only(self, targets: impl IntoIterator<Item = Key>) -> Self {
        let mut open: Vec<Key> = targets.into_iter().collect();
        let mut needed = BTreeSet::new();
        while let Some(key) = open.pop() {
            let place = *self.places.get(&key).unwrap_or_else(|| panic!("only: {key} is not in the graph"));
            if needed.insert(key) {
                open.extend(&self.jobs[place].spec.inputs);
            }
        }
        let mut part = Self::default();
        for job in self.jobs.into_iter().filter(|job| needed.contains(&job.key)) {
            part.add(job);
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stage;
    use serde_json::json;

    const STAGE: Stage = Stage { kind: "pretrain", version: 1 };

    fn spec() -> Spec {
        Spec {
            name: "simclr".into(),
            stage: STAGE,
            seed: 3,
            config: json!({"epochs": 8, "objective": {"kind": "nt-xent", "temperature": 0.5}}),
            inputs: vec![Key::of(&json!("data")), Key::of(&json!("other"))],
            seconds: 10.0,
        }
    }

    fn key(change: impl Fn(&mut Spec)) -> Key {
        let mut spec = spec();
        change(&mut spec);
        Key::of(&spec.identity())
    }

    fn job(name: &str, inputs: &[Key]) -> Job {
        let spec = Spec { name: name.into(), config: json!(name), inputs: inputs.to_vec(), ..spec() };
        Job::new(spec, |_| Ok(Value::Null))
    }

    #[test]
    fn every_field_that_matters_changes_the_key() {
        let changes: Vec<(&str, Key)> = vec![
            ("nothing", key(|_| ())),
            ("kind", key(|s| s.stage.kind = "probe")),
            ("version", key(|s| s.stage.version = 2)),
            ("seed", key(|s| s.seed = 4)),
            ("a config value", key(|s| s.config["epochs"] = json!(9))),
            ("a nested value", key(|s| s.config["objective"]["temperature"] = json!(0.25))),
            ("a new config key", key(|s| s.config["width"] = json!(1))),
            ("an input", key(|s| s.inputs[0] = Key::of(&json!("data 2")))),
            ("the order of inputs", key(|s| s.inputs.reverse())),
            ("the number of inputs", key(|s| s.inputs.truncate(1))),
        ];
        for (i, (a, key_a)) in changes.iter().enumerate() {
            for (b, key_b) in &changes[..i] {
                assert_ne!(key_a, key_b, "{a} against {b}");
            }
        }
    }

    #[test]
    fn what_does_not_determine_the_result_leaves_the_key() {
        assert_eq!(key(|s| s.name = "another name".into()), key(|_| ()));
        assert_eq!(key(|s| s.seconds = 99.0), key(|_| ()));
        let reordered = json!({"objective": {"temperature": 0.5, "kind": "nt-xent"}, "epochs": 8});
        assert_eq!(key(|s| s.config = reordered.clone()), key(|_| ()));
    }

    #[test]
    fn equal_jobs_are_one_and_the_order_is_topological() {
        let mut graph = Graph::default();
        let a = graph.add(job("a", &[]));
        let b = graph.add(job("b", &[a]));
        assert_eq!(graph.add(job("a", &[])), a);
        let c = graph.add(job("c", &[b, a]));
        let order: Vec<Key> = graph.jobs().iter().map(Job::key).collect();
        assert_eq!(order, [a, b, c]);
    }

    #[test]
    fn a_part_holds_the_targets_and_what_they_need() {
        let mut graph = Graph::default();
        let a = graph.add(job("a", &[]));
        let b = graph.add(job("b", &[a]));
        let other = graph.add(job("other", &[a]));
        let c = graph.add(job("c", &[b]));
        assert!(graph.jobs().iter().any(|job| job.key() == other));
        let part = graph.only([c]);
        assert_eq!(part.jobs().iter().map(Job::key).collect::<Vec<_>>(), [a, b, c]);
    }

    #[test]
    #[should_panic(expected = "was not added")]
    fn an_input_has_to_be_there_first() {
        Graph::default().add(job("b", &[Key::of(&json!("nobody"))]));
    }
}
