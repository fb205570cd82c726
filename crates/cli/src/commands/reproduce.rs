//! `tarrl reproduce`: runs a study and writes its report.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tarrl_data::Catalog;
use tarrl_report::{prepare, write};

use crate::device::DeviceName;
use crate::limits;
use crate::stdout::{note, out, outln};
use crate::workspace::workspace_root;
use tarrl_study::context::StudyContext;
use tarrl_study::jobs::{Display, Plan, RunEnvironment, Runs, count, execute};
use tarrl_study::profile::Profile;
use tarrl_study::study::Study;
use tarrl_study::{artifacts, machine, published};

const EXAMPLES: &str = "\
Examples:
  tarrl reproduce                            the default study
  tarrl reproduce --profile smoke            every part once at toy size
  tarrl reproduce --only T1 --seeds 5        one table, five seeds
  tarrl reproduce --profile selection        what hyperparameters were selected from
  tarrl reproduce --dry-run                  the jobs, their states and the expected time
  tarrl reproduce --out /scratch/tarrl       keep the runs elsewhere
  tarrl reproduce --time-limit 10            ten minutes of it; again to go on
  tarrl reproduce --experiments ~/mine       methods and profiles of your own

Tables and figures: T0 robust accuracy at equal clean accuracy, T1 robust accuracy, T2 other tasks and datasets, T3 protocols
SLF, ALF and AFF, T4 choices in the regularizer, T5 bound and certificates, T6 base objectives, T7 cost of training, T8
selection of hyperparameters, T9 corruptions, T10 few labels, T11 retrieval, F1 accuracy against ε, F2 sweep of λ, F3 bound
against attacked loss, F4 frontier of clean and robust accuracy, F5 one perturbation for all images. A profile makes those
that it names.

A study is a graph of jobs. The key of a job is a hash of everything that determines its result, and its files are in
OUT/PROFILE/jobs/KEY. Finished jobs are skipped, so the same command again takes seconds; interrupted ones go on from
their last checkpoint; after a failure everything else is finished and kept, and the exit code is not zero.";

/// Run the study: train every method, put heads on, attack them, check the bound, write the report
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.")]
pub(crate) struct Reproduce {
    /// Which study: a file of EXPERIMENTS/profiles without its ending (smoke, default, frontier, headline, headline-cifar, selection,
    /// tasks, objectives, certified, full, cifar, cifar100, or your own)
    #[arg(long, value_name = "NAME", default_value = "default")]
    profile: String,

    /// Only these tables and figures, and what they need
    #[arg(long, value_name = "TABLE,..", value_delimiter = ',', value_parser = artifact)]
    pub(crate) only: Vec<&'static str>,

    /// Number of seeds, instead of the profile's; cells become mean ± half-width over them
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("--seeds"))]
    seeds: Option<u32>,

    /// Print the jobs with their states and the expected time, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Stop after so many minutes, trainings at a checkpoint, with exit code 75; the same command resumes from there
    #[arg(long, value_name = "MINUTES", value_parser = limits::minutes)]
    time_limit: Option<f64>,

    /// Number of threads [default: all cores]; results are the same bits for any number
    #[arg(long, value_name = "N", value_parser = limits::whole::<u16>("--threads"))]
    threads: Option<u16>,

    /// Folder for the runs; each profile has a folder of its own in it
    #[arg(long, value_name = "DIR", default_value = "runs")]
    out: PathBuf,

    /// Folder for datasets that were fetched or imported
    #[arg(long, value_name = "DIR", default_value_os_t = workspace_root().join("data"), hide_default_value = true)]
    data: PathBuf,

    /// Folder with your own `methods` and `profiles`, instead of this project's
    #[arg(long, value_name = "DIR", default_value_os_t = workspace_root().join("experiments"), hide_default_value = true)]
    experiments: PathBuf,

    /// Folder with your own dataset manifests, instead of this project's
    #[arg(long, value_name = "DIR", default_value_os_t = workspace_root().join("datasets"), hide_default_value = true)]
    datasets: PathBuf,

    /// Where tensors are computed: cpu, or cuda:0 for an NVIDIA GPU
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,
}

/// The id of a table or figure, given in any case.
fn artifact(text: &str) -> Result<&'static str, String> {
    artifacts::find(text).map(|artifact| artifact.id())
}

impl Reproduce {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut profile = Profile::read(&self.experiments.join("profiles"), &self.profile)?;
        profile.seeds = self.seeds.unwrap_or(profile.seeds);
        let title = profile.title.clone();
        let catalog = Catalog::new(&self.datasets, &self.data);
        let device = self.device.open(self.threads.map_or(0, usize::from))?;
        let mut context = StudyContext::new(profile, catalog, device);
        context.published = published::read(&self.experiments)?;
        context.deadline =
            self.time_limit.map(|minutes| Instant::now() + Duration::from_secs_f64(60.0 * minutes));
        let context = Arc::new(context);
        let study = Study::new(&context, &self.experiments.join("methods"))?.only(&self.only)?;
        let runs = Runs::new(&self.out, &self.profile);
        if self.dry_run {
            out!("{}", Plan::new(study.graph(), &runs).table());
            if let Err(error) = context.catalog.verify(&context.profile.dataset) {
                outln!(
                    "before it can run: {error}\nhere: tarrl data fetch {0}, or tarrl data import FOLDER --as {0}",
                    context.profile.dataset
                );
            }
            return Ok(());
        }
        let lock = runs.open()?;
        let folder = runs.root().join("report");
        prepare(&folder)?;
        let plan = Plan::new(study.graph(), &runs);
        let done = plan.jobs.len() - plan.open().count();
        note!("{title}");
        note!("{}, {done} done already, in {}", count(plan.jobs.len()), runs.root().display());
        let display = Display::stderr(&plan);
        let provenance = machine::provenance_on(workspace_root(), &context.device);
        let environment = RunEnvironment { provenance, device: context.device.clone() };
        let summary = execute(&plan, &runs, &lock, &environment, context.deadline, &display);
        drop(display);
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

    #[test]
    fn the_help_names_every_table_and_figure() {
        for artifact in artifacts::REGISTRY {
            assert!(EXAMPLES.contains(&format!(" {} ", artifact.id())), "{}", artifact.id());
        }
    }
}
