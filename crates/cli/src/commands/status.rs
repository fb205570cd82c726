//! `tarrl status`: the progress of a study, from its run folder alone.

use anyhow::Context;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::stdout::out;
use tarrl_jobs::{Runs, read_graph, status_table, statuses};

const EXAMPLES: &str = "\
Examples:
  tarrl status --profile smoke                       which jobs are done, running, ready, waiting or failed
  tarrl status --profile cifar --out /shared/runs    on any machine that shares the folder
  tarrl status --profile smoke --json                for programs

It reads the run folder alone: neither the profile nor the data has to be there. A job counts as done when its manifest is
there; `tarrl jobs` also compares the files. A process on another machine that was killed counts as running here.";

/// Show the progress of a study from its run folder
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.")]
pub(crate) struct Status {
    /// Which study: the name of its folder in DIR
    #[arg(long, value_name = "NAME", default_value = "default")]
    profile: String,

    /// Folder of the runs
    #[arg(long, value_name = "DIR", default_value = "runs")]
    out: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let runs = Runs::new(&self.out, &self.profile);
        let jobs = read_graph(runs.root()).map_err(anyhow::Error::msg)?;
        let jobs = statuses(&jobs, &runs, &runs.watch(), false).with_context(|| {
            format!("cannot read the run folder {}; choose another with --out DIR", runs.root().display())
        })?;
        if self.json {
            out!("{:#}\n", json!({"folder": runs.root().to_string_lossy(), "jobs": jobs}));
        } else {
            out!("{}", status_table(&jobs));
        }
        Ok(())
    }
}
