//! Studies as jobs of an engine on a cluster: resources per stage, the scripts of Slurm, the job file of HyperQueue.
//!
//! Nothing here schedules: an engine starts `tarrl job KEY` for each job, and what a job needs is tested by the job itself.
//!
//! ```
//! use serde_json::json;
//! use tarrl_study::cluster::{Resources, Task, slurm};
//! use tarrl_jobs::{GraphJob, Key};
//!
//! let resources = Resources::parse("[default]\ncpus = 2\n[stage.pretrain]\ngpus = 1\nminutes = 600").unwrap();
//! let job = |kind: &str, inputs| {
//!     let key = Key::of(&json!(kind));
//!     GraphJob { key, kind: kind.into(), name: kind.into(), seed: 0, inputs, estimate: 1.0 }
//! };
//! let data = job("data", vec![]);
//! let train = job("pretrain", vec![data.key]);
//! let task = Task { program: "/opt/tarrl".into(), options: vec!["--profile".into(), "smoke".into()] };
//! let arrays = slurm::arrays(&[data, train], |_| true, &resources, &task, "/shared/submit", "smoke", true);
//! assert_eq!(arrays.len(), 3, "the last makes the report");
//! assert_eq!(arrays[1].after, [0]);
//! assert!(arrays[1].script.contains("#SBATCH --gpus=1"));
//! ```

pub mod hyperqueue;
mod resources;
pub mod slurm;

pub use resources::{Resources, StageResources};

/// What an engine runs for each job, but for the key.
#[derive(Clone, Debug)]
pub struct Task {
    /// The program `tarrl`.
    pub program: String,
    /// The options that choose the study.
    pub options: Vec<String>,
}

impl Task {
    /// The options, with as many threads as there are cores unless they say otherwise.
    fn options(&self, cpus: u32) -> Vec<String> {
        let mut options = self.options.clone();
        if !options.iter().any(|word| word == "--threads") {
            options.extend(["--threads".to_owned(), cpus.to_string()]);
        }
        options
    }

    /// The command line of a verb, quoted for a shell.
    fn command(&self, verb: &str, rest: &[&str], cpus: u32) -> String {
        let mut words = vec![quoted(&self.program), verb.to_owned()];
        words.extend(rest.iter().map(|word| (*word).to_owned()));
        words.extend(self.options(cpus).iter().map(|word| quoted(word)));
        words.join(" ")
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_change_them() {
        assert_eq!(quoted("/a/b-c.d"), "/a/b-c.d");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
