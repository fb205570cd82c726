//! `tarrl reproduce`: runs a study and writes its report.

use std::time::{Duration, Instant};

use clap::Args;
use tarrl_report::{prepare, write};

use crate::helpers::Helpers;
use crate::limits;
use crate::signals;
use crate::stdout::{note, out, outln};
use crate::study_args::{OpenStudy, StudyArgs};
use tarrl_jobs::{Display, Plan, Session, count, execute_with_helpers};

const EXAMPLES: &str = "\
Examples:
  tarrl reproduce                            the default study
  tarrl reproduce --profile smoke            every part once at toy size
  tarrl reproduce --only T1 --seeds 5        one table, five seeds
  tarrl reproduce --methods acl,tarr         two methods of the profile
  tarrl reproduce --profile selection        what hyperparameters were selected from
  tarrl reproduce --dry-run                  the jobs, their states and the expected time
  tarrl reproduce --out /scratch/tarrl       keep the runs elsewhere
  tarrl reproduce --processes 1              one job at a time, with all threads, in the least memory
  tarrl reproduce --time-limit 10            ten minutes of it; again to go on
  tarrl reproduce --experiments ~/mine       methods and profiles of your own

Tables and figures: T0 robust accuracy at equal clean accuracy, T1 robust accuracy, T2 other tasks and datasets, T3 protocols
SLF, ALF and AFF, T4 choices in the regularizer, T5 bound and certificates, T6 base objectives, T7 cost of
training, T8 selection of hyperparameters, T9 corruptions, T10 few labels, T11 retrieval, T12 any predictor, F1 accuracy
against ε, F2 sweep of λ, F3 bound against attacked loss, F4 frontier of clean and robust accuracy, F5 one perturbation
for all images, F6 distance of the nearest mistake. A profile makes those that it names.

A study is a graph of jobs. The key of a job is a hash of everything that determines its result, and its files are in
OUT/PROFILE/jobs/KEY. Finished jobs are skipped, so the same command again takes seconds; interrupted ones go on from
their last checkpoint; after a failure everything else is finished and kept, and the exit code is not zero. Several
processes may run it in one folder, on machines that share it: they share the jobs (docs/cluster.md).

Ctrl-C, SIGTERM and SIGUSR2 end it at the next step or batch, with a checkpoint and exit code 75, at most 25 seconds later; a
second one ends it at once. Either way the same command goes on.";

/// Run the study: train every method, put heads on, attack them, check the bound, write the report
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.")]
pub(crate) struct Reproduce {
    #[command(flatten)]
    pub(crate) study: StudyArgs,

    /// Print the jobs with their states and the expected time, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Stop after so many minutes, trainings at a checkpoint, with exit code 75; the same command resumes from there
    #[arg(long, value_name = "MINUTES", value_parser = limits::minutes)]
    time_limit: Option<f64>,

    /// Jobs at a time, each in a process with its share of the threads [default: up to 4 where cores and memory allow]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u16>("--processes"))]
    processes: Option<u16>,
}

impl Reproduce {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let open = self.study.open()?;
        let OpenStudy { title, context, study, runs } = &open;
        if self.dry_run {
            out!("{}", Plan::new(study.graph(), runs).table());
            if let Err(error) = context.source(&context.profile.dataset)?.verify() {
                outln!(
                    "before it can run: {error}\nhere: cargo xtask data fetch {0}, or tarrl data import FOLDER --as {0}",
                    context.profile.dataset
                );
            }
            return Ok(());
        }
        let deadline =
            self.time_limit.map(|minutes| Instant::now() + Duration::from_secs_f64(60.0 * minutes));
        let stop = signals::stop(deadline)?;
        let claims = open.claims(None)?;
        let folder = runs.root().join("report");
        prepare(&folder)?;
        let plan = Plan::new(study.graph(), runs);
        let done = plan.jobs.len() - plan.open().count();
        note!("{title}");
        note!("{}, {done} done already, in {}", count(plan.jobs.len()), runs.root().display());
        let display = Display::stderr(&plan);
        let environment = &open.environment();
        let session = Session { runs, claims: &claims, environment, stop: &stop, display: &display };
        let helpers =
            Helpers::new(&self.study, environment.device.threads(), self.processes.map(usize::from));
        let summary = execute_with_helpers(&plan, &session, &helpers);
        drop((helpers, display));
        let finished = summary.into_result()?;
        let report = study.report(&finished, &environment.provenance)?;
        write(&report, &folder)?;
        for table in &report.tables {
            outln!("{}", tarrl_report::markdown::table(table));
        }
        outln!("{}", report.claim);
        outln!("\nThe report: {}", folder.join("index.html").display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_study::artifacts;

    #[test]
    fn the_help_names_every_table_and_figure() {
        for artifact in artifacts::REGISTRY {
            assert!(EXAMPLES.contains(&format!(" {} ", artifact.id())), "{}", artifact.id());
        }
    }
}
