//! `tarrl job`: runs exactly one job of a study.

use anyhow::bail;
use clap::Args;

use crate::limits;
use crate::signals;
use crate::stdout::note;
use crate::study_args::StudyArgs;
use tarrl_jobs::{Display, Key, Plan, Session, execute_one};

const EXAMPLES: &str = "\
Examples:
  tarrl jobs --profile smoke                     the keys
  tarrl job 5f0c21ab9d --profile smoke           the job whose key begins so
  tarrl submit --engine slurm --profile smoke    all of them, each as a task of Slurm

Exit codes: 0 done, also if it was done before; 1 failed for good; 2 wrong options; 66 a job that it needs is not done, with
its key in the message; 75 go on later: it was stopped by a signal, with a checkpoint if it has one, or another process
works on it. docs/cluster.md shows what Slurm, HyperQueue, Kubernetes and SkyPilot make of them.";

/// Run exactly one job of a study, as an engine on a cluster does
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.", arg_required_else_help = true)]
pub(crate) struct Job {
    /// The key of the job, or how it begins, as `tarrl jobs` shows it
    key: String,

    #[command(flatten)]
    study: StudyArgs,

    /// Tries in a row without any progress after which the job fails for good
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = limits::whole::<u32>("--most-restarts"))]
    most_restarts: u32,

    /// Seconds between two signs of life; where six are missing, another machine takes the job over
    #[arg(long, value_name = "SECONDS", value_parser = limits::whole::<u32>("--heartbeat"))]
    heartbeat: Option<u32>,
}

impl Job {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let stop = &signals::stop(None)?;
        let open = self.study.open()?;
        let keys = open.graph().jobs().iter().map(|job| job.key());
        let keys: Vec<Key> = keys.filter(|key| key.to_string().starts_with(&self.key)).collect();
        let key = match keys[..] {
            [key] => key,
            [] => bail!(
                "no key of this study begins with `{}`; `tarrl jobs` with the same options lists them",
                self.key
            ),
            _ => bail!("{} keys of this study begin with `{}`; give more of it", keys.len(), self.key),
        };
        let claims = &open.claims(self.heartbeat)?;
        let plan = Plan::of_inputs(open.graph(), &open.runs, key);
        let display = &Display::stderr(&plan);
        let session = Session { runs: &open.runs, claims, environment: &open.environment(), stop, display };
        let most = self.most_restarts;
        execute_one(&plan, &session, key, most)?;
        note!("done: {key}");
        Ok(())
    }
}
