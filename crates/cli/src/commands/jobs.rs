//! `tarrl jobs`: the jobs of a study with their states.

use anyhow::Context;
use clap::Args;
use serde_json::json;

use crate::stdout::out;
use crate::study_args::StudyArgs;
use tarrl_jobs::{GraphJob, status_table, statuses};

const EXAMPLES: &str = "\
Examples:
  tarrl jobs --profile smoke            a table for people
  tarrl jobs --profile smoke --json     the graph with keys, states and costs, for programs

The state of a job is `done`, `running` (a process works on it), `ready` (it can be begun or resumed), `waiting` (it needs
a job that is not done) or `failed` (its last try ended with an error; it can be begun again). The files of done jobs are
compared with their checksums. `seconds` are expected, or measured where a job is done; `begun` counts its tries.
`tarrl status` is quicker and needs nothing but the run folder.";

/// List the jobs of a study: keys, inputs, states and costs
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.")]
pub(crate) struct Jobs {
    #[command(flatten)]
    study: StudyArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Jobs {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let open = self.study.open()?;
        let jobs = statuses(&GraphJob::all(open.graph()), &open.runs, &open.runs.watch(), true)
            .with_context(|| {
                format!(
                    "cannot read the run folder {}; choose another with --out DIR",
                    open.runs.root().display()
                )
            })?;
        if self.json {
            let folder = open.runs.root().to_string_lossy();
            out!("{:#}\n", json!({"title": open.title, "folder": folder, "jobs": jobs}));
        } else {
            out!("{}", status_table(&jobs));
        }
        Ok(())
    }
}
