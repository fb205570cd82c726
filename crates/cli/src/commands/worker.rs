//! `tarrl worker`: takes jobs of a study until nothing is left, then writes the report.

use std::time::{Duration, Instant};

use clap::Args;
use tarrl_report::{prepare, write};

use crate::limits;
use crate::signals;
use crate::stdout::note;
use crate::study_args::StudyArgs;
use tarrl_jobs::{Display, Phase, Plan, Session, Take, execute, execute_ready};

const EXAMPLES: &str = "\
Examples:
  tarrl worker --profile default --threads 1    one of several on one machine, or on many that share the run folder
  tarrl worker --profile cifar --out /shared/runs --data /shared/data
  tarrl worker --profile cifar --time-limit 55  of an allocation of an hour

A worker takes what is ready and held by nobody, waits while others work on the rest, and takes over what a killed one
left: at once on the same machine, after six missing signs of life on another. Who finds that all is done writes the
report; one of them does.

Exit codes: 0 all jobs are done; 1 some failed, the others are done; 2 wrong options; 75 go on later: a signal or the time
limit stopped it.";

/// Work on a study together with others, until nothing is left
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.")]
pub(crate) struct Worker {
    #[command(flatten)]
    study: StudyArgs,

    /// Stop after so many minutes, at a checkpoint, with exit code 75
    #[arg(long, value_name = "MINUTES", value_parser = limits::minutes)]
    time_limit: Option<f64>,

    /// Seconds between two signs of life; where six are missing, another machine takes the job over
    #[arg(long, value_name = "SECONDS", value_parser = limits::whole::<u32>("--heartbeat"))]
    heartbeat: Option<u32>,

    /// Help the process that holds the other end of standard input: say nothing, and end with it, or when nothing is left to begin
    #[arg(long, hide = true)]
    helper: bool,
}

/// What the claim of the report is called.
const REPORT: &str = "report";

impl Worker {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let deadline =
            self.time_limit.map(|minutes| Instant::now() + Duration::from_secs_f64(60.0 * minutes));
        let stop = &signals::stop(deadline)?;
        let open = self.study.open()?;
        let claims = &open.claims(self.heartbeat)?;
        let folder = open.runs.root().join("report");
        prepare(&folder)?;
        let reported = claims.last(REPORT)?.map(|(number, ..)| number);
        let plan = Plan::new(open.graph(), &open.runs);
        let display = if self.helper {
            Display::lines(&plan, Box::new(std::io::sink()))
        } else {
            Display::stderr(&plan)
        };
        let environment = &open.environment();
        let session = Session { runs: &open.runs, claims, environment, stop, display: &display };
        if self.helper {
            signals::stop_at_end_of_input(stop);
            execute_ready(&plan, &session);
            return Ok(());
        }
        let summary = execute(&plan, &session);
        drop(display);
        let ran = summary.ran;
        let finished = summary.into_result()?;
        note!("all jobs are done, {ran} of them here");
        let written = claims.last(REPORT)?.filter(|(_, record, _)| record.phase == Phase::Done);
        if written.is_some_and(|(number, ..)| Some(number) != reported) {
            return Ok(());
        }
        if let Take::Claimed(claim) = claims.take(REPORT, String::new)? {
            write(&open.study.report(&finished, &environment.provenance)?, &folder)?;
            claim.end(Phase::Done, "")?;
            note!("The report: {}", folder.join("index.html").display());
        }
        Ok(())
    }
}
