//! HyperQueue: one job file, with a task for each job and the graph as their dependencies.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Resources, Task};
use tarrl_jobs::{GraphJob, Key};

/// The file for `hq job submit-file`.
#[derive(Serialize)]
struct JobFile {
    name: String,
    task: Vec<FileTask>,
}

#[derive(Serialize)]
struct FileTask {
    id: usize,
    command: Vec<String>,
    stdout: String,
    stderr: String,
    crash_limit: u32,
    deps: Vec<usize>,
    request: Vec<Request>,
}

#[derive(Serialize)]
struct Request {
    resources: BTreeMap<String, String>,
    time_request: String,
}

/// Runs the program again as long as it says so, or a signal ended it before it could, but not after a signal to the task: a
/// task that HyperQueue stops is stopped.
const LOOP: &str = "stopped=; trap 'stopped=1; kill -TERM $child' TERM INT; \
                    while :; do \"$@\" & child=$!; \
                    while :; do wait $child; code=$?; kill -0 $child 2>/dev/null || break; done; \
                    case $code in 75|130|140|143) [ -z \"$stopped\" ] || exit $code;; *) exit $code;; esac; \
                    sleep 5; done";

/// The job file for the jobs that are `open`. A task that is stopped by a signal goes on where it was when it runs again.
/// `folder` is an absolute path for the logs.
///
/// # Errors
/// Fails if it cannot be written as TOML.
pub fn job_file(
    jobs: &[GraphJob],
    open: impl Fn(&GraphJob) -> bool,
    resources: &Resources,
    task: &Task,
    folder: &str,
    profile: &str,
) -> anyhow::Result<String> {
    let jobs: Vec<&GraphJob> = jobs.iter().filter(|job| open(job)).collect();
    let places: BTreeMap<Key, usize> = jobs.iter().enumerate().map(|(id, job)| (job.key, id)).collect();
    let words = |verb: &[&str], kind: &str| {
        let shell = ["/bin/bash", "-c", LOOP, "tarrl", &task.program];
        let words = shell.iter().chain(verb).map(|word| (*word).to_owned());
        words.chain(task.options(resources.of(kind).cpus)).collect::<Vec<String>>()
    };
    let task = |id: usize, name: &str, kind: &str, command: Vec<String>, deps: Vec<usize>| {
        let given = resources.of(kind);
        let mut asked = BTreeMap::from([("cpus".to_owned(), given.cpus.to_string())]);
        if given.gpus > 0 {
            asked.insert("gpus/nvidia".to_owned(), given.gpus.to_string());
        }
        if let Some(memory) = given.memory_mb {
            asked.insert("mem".to_owned(), memory.to_string());
        }
        let log = format!("{folder}/log/{name}-%{{INSTANCE_ID}}.txt");
        // It needs so much of its worker's time, and is not ended after it: what is too slow goes on.
        let time_request = format!("{}m", given.minutes);
        let request = vec![Request { resources: asked, time_request }];
        FileTask { id, command, stdout: log.clone(), stderr: log, crash_limit: 5, deps, request }
    };
    let mut tasks: Vec<FileTask> = Vec::new();
    for (id, job) in jobs.iter().enumerate() {
        let key = job.key.to_string();
        let deps = job.inputs.iter().filter_map(|input| places.get(input).copied()).collect();
        tasks.push(task(id, &key, &job.kind, words(&["job", &key], &job.kind), deps));
    }
    if !tasks.is_empty() {
        let all = (0..tasks.len()).collect();
        tasks.push(task(tasks.len(), "report", "report", words(&["worker"], "report"), all));
    }
    Ok(toml::to_string(&JobFile { name: format!("tarrl-{profile}"), task: tasks })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_graph_is_the_dependencies_of_the_tasks() {
        let job = |name: &str, kind: &str, inputs: Vec<Key>| {
            let key = Key::of(&json!(name));
            GraphJob { key, kind: kind.into(), name: name.into(), seed: 0, inputs, estimate: 1.0 }
        };
        let done = job("data", "data", vec![]);
        let train = job("train", "pretrain", vec![done.key]);
        let head = job("head", "head", vec![train.key, done.key]);
        let task = Task { program: "/opt/tarrl".into(), options: vec!["--profile".into(), "toy".into()] };
        let resources = Resources::parse("[stage.pretrain]\ngpus = 2\nminutes = 90").unwrap();
        let jobs = [done, train, head];
        let text =
            job_file(&jobs, |job| job.kind != "data", &resources, &task, "/runs/submit", "toy").unwrap();
        let file: toml::Value = toml::from_str(&text).unwrap();
        let tasks = file["task"].as_array().unwrap();
        assert_eq!(tasks.len(), 3);
        let deps = |i: usize| {
            tasks[i]["deps"].as_array().unwrap().iter().map(|id| id.as_integer().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!((deps(0), deps(1), deps(2)), (vec![], vec![0], vec![0, 1]));
        assert_eq!(tasks[0]["request"][0]["resources"]["gpus/nvidia"].as_str(), Some("2"));
        assert_eq!(tasks[0]["request"][0]["time_request"].as_str(), Some("90m"));
        let command = tasks[1]["command"].as_array().unwrap();
        assert_eq!(command[5].as_str(), Some("job"));
        assert_eq!(command[6].as_str(), Some(jobs[2].key.to_string().as_str()));
    }
}
