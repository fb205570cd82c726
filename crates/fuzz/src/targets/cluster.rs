//! Targets of what processes on several machines share: claims, progress of jobs, the graph, resources of stages.

use super::settings::job_key;
use crate::scratch::Scratch;
use crate::target::{Target, none};
use serde_json::{Value, json};
use tarrl_jobs::{
    ClaimRecord, Graph, GraphJob, Job, Key, Phase, Runs, Saved, Spec, Stage, read_claim, read_graph,
    write_graph,
};
use tarrl_study::cluster::{Resources, Task, hyperqueue, slurm};

pub(super) const CLAIM: Target = Target {
    name: "claim",
    seeds: claims,
    words: &["phase", "running", "done", "failed", "beat", "heartbeat", "machine", "1e999", "-1", "null"],
    repair: none,
    read: |bytes, scratch| {
        let Ok(record) = read_claim(&scratch.file("claim", bytes)) else { return false };
        let text = serde_json::to_vec(&record).expect("a claim is JSON");
        assert_eq!(read_claim(&scratch.file("again", &text)), Ok(record));
        true
    },
};

pub(super) const PROGRESS: Target = Target {
    name: "job-progress",
    seeds: || {
        let scratch = Scratch::new();
        let path = scratch.path("progress.json");
        let progress = json!([{"l2": 0.1, "clean": "0101", "robust": ["01"]}]);
        Saved::write(&path, job_key(), &progress).expect("the folder is writable");
        vec![std::fs::read(path).expect("it was written")]
    },
    words: &["job", "checksum", "progress", "null", "1e999", "[", "]"],
    repair: |bytes| {
        let mut saved: Value = serde_json::from_slice(bytes).ok()?;
        let key = Key::of(saved.get("progress")?);
        *saved.get_mut("checksum")? = key.to_string().into();
        serde_json::to_vec(&saved).ok()
    },
    read: |bytes, scratch| {
        let path = scratch.file("progress.json", bytes);
        let Ok(found) = Saved::read::<Value>(&path, job_key()) else { return false };
        Saved::write(&path, job_key(), &found).expect("the folder is writable");
        assert_eq!(Saved::read::<Option<Value>>(&path, job_key()), Ok(Some(found)));
        true
    },
};

pub(super) const GRAPH: Target = Target {
    name: "graph",
    seeds: || {
        let scratch = Scratch::new();
        let mut graph = Graph::default();
        let mut add = |kind: &'static str, inputs: Vec<Key>| {
            let stage = Stage { kind, version: 1 };
            let spec = Spec { name: kind.into(), stage, seed: 0, config: json!(kind), inputs, seconds: 1.5 };
            graph.add(Job::new(spec, |_| Ok(Value::Null)))
        };
        let data = add("data", vec![]);
        add("pretrain", vec![data]);
        let runs = Runs::new(&scratch.path("runs"), "p");
        std::fs::create_dir_all(runs.root()).expect("it is writable");
        write_graph(&runs, &graph).expect("it is writable");
        vec![std::fs::read(runs.root().join("graph.json")).expect("it was written")]
    },
    words: &["key", "kind", "inputs", "estimate", "seed", "1e999", "[]", "null"],
    repair: none,
    read: |bytes, scratch| {
        let path = scratch.file("p/graph.json", bytes);
        let Ok(jobs) = read_graph(path.parent().expect("it lies in a folder")) else { return false };
        // What was accepted is a graph: its scripts can be written.
        let (resources, task) = (Resources::default(), Task { program: "tarrl".into(), options: vec![] });
        let arrays = slurm::arrays(&jobs, |_| true, &resources, &task, "/runs", "p", true);
        let tasks: usize = arrays.iter().map(|array| array.keys.len()).sum();
        assert_eq!(tasks, jobs.len());
        assert!(arrays.iter().enumerate().all(|(i, array)| array.after.iter().all(|&after| after < i)));
        hyperqueue::job_file(&jobs, |_: &GraphJob| true, &resources, &task, "/runs", "p")
            .expect("it is TOML");
        true
    },
};

pub(super) const CLUSTER: Target = Target {
    name: "cluster",
    seeds: || {
        let text = "[default]\ncpus = 4\nmemory-mb = 8000\noptions = ['--partition=main']\n[stage.pretrain]\n\
                    gpus = 1\nminutes = 600\nwarn-seconds = 180\nat-once = 3\n";
        vec![text.into()]
    },
    words: &["cpus", "gpus", "memory-mb", "minutes", "stage", "options", "'--", "\\n", "-1", "1e300"],
    repair: none,
    read: |bytes, scratch| {
        let Ok(found) = Resources::read(&scratch.file("cluster.toml", bytes)) else { return false };
        let text = toml::to_string(&found).expect("resources are TOML");
        assert_eq!(Resources::parse(&text).expect("what was written is read"), found);
        let given = found.of("pretrain");
        assert!(given.cpus > 0 && given.minutes > 0 && given.options.iter().all(|line| !line.contains('\n')));
        true
    },
};

fn claims() -> Vec<Vec<u8>> {
    let record = ClaimRecord {
        host: "n1".into(),
        machine: "boot".into(),
        process: 7,
        token: "0123".into(),
        heartbeat: 10.0,
        beat: 3,
        phase: Phase::Failed,
        cause: "no memory".into(),
        found: String::new(),
        fruitless: 1,
    };
    vec![serde_json::to_vec(&record).expect("a claim is JSON")]
}
