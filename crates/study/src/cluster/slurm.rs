//! Slurm: one array for the jobs of a stage that need the same number of steps before them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Resources, Task, quoted};
use tarrl_jobs::{GraphJob, Key};

/// An array of Slurm, and the keys of its tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The name of its files, such as `2-head-0`.
    pub name: String,
    /// The jobs, by the index of their task.
    pub keys: Vec<Key>,
    /// The arrays whose end it waits for, by their place.
    pub after: Vec<usize>,
    /// The batch script.
    pub script: String,
}

/// The most tasks of an array: `MaxArraySize` is 1001 by default, and the highest index is one less.
const MOST_TASKS: usize = 1000;

/// The arrays for the jobs that are `open`, inputs before their users, and last a task that works on what is left and writes
/// the report. `folder` is where scripts, lists of keys and logs will be, an absolute path. Where the administrator has not
/// set `RequeueExit=75` (`requeues` is false), the script asks for its next run itself.
pub fn arrays(
    jobs: &[GraphJob],
    open: impl Fn(&GraphJob) -> bool,
    resources: &Resources,
    task: &Task,
    folder: &str,
    profile: &str,
    requeues: bool,
) -> Vec<Array> {
    let mut levels: BTreeMap<Key, usize> = BTreeMap::new();
    let mut groups: BTreeMap<(usize, &str), Vec<&GraphJob>> = BTreeMap::new();
    for job in jobs {
        let level = job.inputs.iter().filter_map(|input| levels.get(input)).map(|level| level + 1).max();
        levels.insert(job.key, level.unwrap_or(0));
        if open(job) {
            groups.entry((level.unwrap_or(0), &job.kind)).or_default().push(job);
        }
    }
    let mut arrays: Vec<Array> = Vec::new();
    let mut places: BTreeMap<Key, usize> = BTreeMap::new();
    for ((level, kind), group) in groups {
        for (block, part) in group.chunks(MOST_TASKS).enumerate() {
            let inputs = part.iter().flat_map(|job| &job.inputs);
            let after: BTreeSet<usize> = inputs.filter_map(|input| places.get(input).copied()).collect();
            let name = format!("{level}-{kind}-{block}");
            let keys: Vec<Key> = part.iter().map(|job| job.key).collect();
            let script = script(kind, Some(keys.len()), resources, task, folder, &name, profile, requeues);
            places.extend(keys.iter().map(|key| (*key, arrays.len())));
            arrays.push(Array { name, keys, after: after.into_iter().collect(), script });
        }
    }
    if !arrays.is_empty() {
        let script = script("report", None, resources, task, folder, "report", profile, requeues);
        let after = (0..arrays.len()).collect();
        arrays.push(Array { name: "report".to_owned(), keys: Vec::new(), after, script });
    }
    arrays
}

#[allow(clippy::too_many_arguments, reason = "the parts of a script, used twice above")]
fn script(
    kind: &str,
    tasks: Option<usize>,
    resources: &Resources,
    task: &Task,
    folder: &str,
    name: &str,
    profile: &str,
    requeues: bool,
) -> String {
    let given = resources.of(kind);
    let mut text = String::from("#!/bin/bash\n");
    let mut option = |line: String| {
        let _ = writeln!(text, "#SBATCH {line}");
    };
    option(format!("--job-name=tarrl-{profile}-{name}"));
    if let Some(tasks) = tasks {
        let at_once = given.at_once.map_or(String::new(), |most| format!("%{most}"));
        option(format!("--array=0-{}{at_once}", tasks - 1));
    }
    let log = if tasks.is_some() { "%A_%a" } else { "%j" };
    option(format!("--output={folder}/log/{name}-{log}.txt"));
    option("--ntasks=1".to_owned());
    option(format!("--cpus-per-task={}", given.cpus));
    if given.gpus > 0 {
        option(format!("--gpus={}", given.gpus));
    }
    if let Some(memory) = given.memory_mb {
        option(format!("--mem={memory}M"));
    }
    option(format!("--time={}", given.minutes));
    option("--requeue".to_owned());
    option("--open-mode=append".to_owned());
    option(format!("--signal=B:USR2@{}", given.warn_seconds));
    option("--kill-on-invalid-dep=yes".to_owned());
    given.options.iter().for_each(|line| option(line.clone()));
    let (id, command) = match tasks {
        Some(_) => {
            let keys = quoted(&format!("{folder}/{name}.keys"));
            let _ = writeln!(text, "key=$(sed -n \"$((SLURM_ARRAY_TASK_ID + 1))p\" {keys})");
            ("${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}", task.command("job", &["\"$key\""], given.cpus))
        }
        None => ("$SLURM_JOB_ID", task.command("worker", &[], given.cpus)),
    };
    if requeues {
        // 75 is one of the exit codes after which Slurm runs a task again.
        let _ = writeln!(text, "exec {command}");
    } else {
        // A task is run again after its warning, and not after `scancel`, which sends another signal. After a preemption
        // Slurm does it by itself.
        let _ = write!(
            text,
            "{command} &\n\
             child=$!\n\
             warned=\n\
             trap 'warned=1; kill -USR2 $child' USR2\n\
             trap 'warned=; kill -TERM $child' TERM INT\n\
             while :; do\n\
             \x20 wait $child\n\
             \x20 code=$?\n\
             \x20 kill -0 $child 2>/dev/null || break\n\
             done\n\
             if [ $code = 75 ] && [ -n \"$warned\" ]; then scontrol requeue \"{id}\"; fi\n\
             exit $code\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(name: &str, kind: &str, inputs: &[&GraphJob]) -> GraphJob {
        let inputs = inputs.iter().map(|job| job.key).collect();
        let key = Key::of(&json!(name));
        GraphJob { key, kind: kind.into(), name: name.into(), seed: 0, inputs, estimate: 1.0 }
    }

    fn all(jobs: &[GraphJob], open: impl Fn(&GraphJob) -> bool, requeues: bool) -> Vec<Array> {
        let task = Task { program: "/opt/tarrl".into(), options: vec!["--out".into(), "/a b".into()] };
        let resources = Resources::parse("[stage.head]\ncpus = 3\nmemory-mb = 500\nat-once = 2").unwrap();
        arrays(jobs, open, &resources, &task, "/runs/submit", "toy", requeues)
    }

    /// The second training begins with the encoder of the first, so it stands in an array of its own.
    #[test]
    fn arrays_wait_for_the_arrays_of_their_inputs() {
        let data = job("data", "data", &[]);
        let first = job("first", "pretrain", &[&data]);
        let second = job("second", "pretrain", &[&data, &first]);
        let heads = [job("a", "head", &[&first]), job("b", "head", &[&second])];
        let jobs = [data, first, second, heads[0].clone(), heads[1].clone()];
        let found = all(&jobs, |_| true, true);
        let shape: Vec<(&str, usize, &[usize])> =
            found.iter().map(|array| (array.name.as_str(), array.keys.len(), &array.after[..])).collect();
        assert_eq!(
            shape,
            [
                ("0-data-0", 1, &[][..]),
                ("1-pretrain-0", 1, &[0][..]),
                ("2-head-0", 1, &[1][..]),
                ("2-pretrain-0", 1, &[0, 1][..]),
                ("3-head-0", 1, &[3][..]),
                ("report", 0, &[0, 1, 2, 3, 4][..]),
            ]
        );
        // What is done is left out, and nobody waits for it.
        let rest = all(&jobs, |job| job.kind == "head", true);
        assert_eq!(rest.len(), 3);
        assert!(rest[0].after.is_empty() && rest[1].after.is_empty());
        assert!(all(&jobs, |_| false, true).is_empty());
    }

    #[test]
    fn a_long_stage_is_several_arrays() {
        let jobs: Vec<GraphJob> = (0..2001).map(|i| job(&i.to_string(), "head", &[])).collect();
        let found = all(&jobs, |_| true, true);
        assert_eq!(found.iter().map(|array| array.keys.len()).collect::<Vec<_>>(), [1000, 1000, 1, 0]);
        assert!(found[1].script.contains("--array=0-999%2\n") && found[1].script.contains("0-head-1.keys"));
    }

    #[test]
    fn the_script_asks_for_what_the_stage_is_given_and_quotes_what_a_shell_would_change() {
        let script = all(&[job("a", "head", &[])], |_| true, true).remove(0).script;
        for line in [
            "#SBATCH --cpus-per-task=3\n",
            "#SBATCH --mem=500M\n",
            "#SBATCH --signal=B:USR2@120\n",
            "#SBATCH --requeue\n",
            "#SBATCH --open-mode=append\n",
            "#SBATCH --kill-on-invalid-dep=yes\n",
            "\nexec /opt/tarrl job \"$key\" --out '/a b' --threads 3\n",
        ] {
            assert!(script.contains(line), "{line} is not in\n{script}");
        }
        let own = all(&[job("a", "head", &[])], |_| true, false).remove(0).script;
        assert!(own.contains("scontrol requeue \"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}\""), "{own}");
    }
}
