//! `tarrl submit`: a study as jobs of Slurm or HyperQueue.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use crate::stdout::{note, out, outln};
use crate::study_args::StudyArgs;
use tarrl_jobs::files::{cannot_write, write_atomic};
use tarrl_jobs::{GraphJob, JobState, statuses};
use tarrl_study::cluster::{Resources, Task, hyperqueue, slurm};

const EXAMPLES: &str = "\
Examples:
  tarrl submit --engine slurm --profile cifar --dry-run    print the scripts
  tarrl submit --engine slurm --profile cifar --out /shared/runs --cluster cluster.toml
  tarrl submit --engine hyperqueue --profile smoke         with a server of HyperQueue running
  tarrl status --profile cifar --out /shared/runs          how far it is

Only jobs that are not done are submitted, so that the same command again submits what is left. On Slurm each stage is an
array that waits for the end of the arrays before it; its tasks are warned before their time limit, stop at a checkpoint and
are queued again. Scripts, lists of keys and logs are in OUT/PROFILE/submit. The run folder, the data and this program have
to be at the same place on every node.

cluster.toml says what the jobs of each stage are given; all of it may be left out:
  [default]
  cpus = 4
  memory-mb = 8000
  minutes = 60                 time limit
  options = [\"--partition=main\"]    of sbatch, as they are
  [stage.pretrain]             or the kind of any other job, or report
  gpus = 1
  minutes = 600
  warn-seconds = 180           the signal to stop comes so long before the limit
  at-once = 20                 tasks of an array at the same time (Slurm)";

/// Submit a study to Slurm or HyperQueue, one task for each job
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.", arg_required_else_help = true)]
pub(crate) struct Submit {
    /// Which engine
    #[arg(long, value_enum)]
    engine: Engine,

    #[command(flatten)]
    study: StudyArgs,

    /// Resources of the stages
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,

    /// Print what would be submitted, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// What runs the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    Slurm,
    Hyperqueue,
}

impl Submit {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let resources = self.cluster.as_deref().map(Resources::read).transpose()?.unwrap_or_default();
        let open = self.study.open()?;
        let jobs = GraphJob::all(open.graph());
        let states = statuses(&jobs, &open.runs, &open.runs.watch(), true).with_context(|| {
            format!(
                "cannot read the run folder {}; choose another with --out DIR",
                open.runs.root().display()
            )
        })?;
        let done: std::collections::BTreeSet<_> = states
            .iter()
            .filter(|status| status.state == JobState::Done)
            .map(|status| status.job.key)
            .collect();
        let left = |job: &GraphJob| !done.contains(&job.key);
        if !jobs.iter().any(left) {
            outln!("All {} jobs are done; `tarrl reproduce` writes the report.", jobs.len());
            return Ok(());
        }
        let folder = std::path::absolute(open.runs.root().join("submit"))?;
        let at = folder.to_str().with_context(|| format!("{} is not UTF-8", folder.display()))?;
        // Slurm reads `#SBATCH` lines by itself, quotes and backslashes included.
        if at.contains(|c: char| c.is_whitespace() || ['%', '"', '\'', '\\'].contains(&c)) {
            bail!(
                "{at}: engines take no blanks, quotes, backslashes and no % in the path of their logs; choose another --out DIR"
            );
        }
        let program = std::env::current_exe().context("cannot find this program")?;
        let program = program.to_str().context("the path of this program is not UTF-8")?.to_owned();
        let task = Task { program, options: self.study.words()? };
        let profile = open.runs.root().file_name().map_or("study".into(), |name| name.to_string_lossy());
        match self.engine {
            Engine::Slurm => {
                let requeues = self.dry_run || requeues_75();
                let arrays = slurm::arrays(&jobs, left, &resources, &task, at, &profile, requeues);
                if self.dry_run {
                    for array in &arrays {
                        let after: Vec<&str> = array.after.iter().map(|&i| arrays[i].name.as_str()).collect();
                        outln!("# {}, {} jobs, after: {}", array.name, array.keys.len(), after.join(", "));
                        array.keys.iter().try_for_each(|key| anyhow::Ok(outln!("#   {key}")))?;
                        out!("{}\n", array.script);
                    }
                    return Ok(());
                }
                open.claims(None)?;
                make(&folder)?;
                self.slurm(&arrays, &folder)
            }
            Engine::Hyperqueue => {
                let text = hyperqueue::job_file(&jobs, left, &resources, &task, at, &profile)?;
                if self.dry_run {
                    out!("{text}");
                    return Ok(());
                }
                open.claims(None)?;
                make(&folder)?;
                let path = folder.join("hyperqueue.toml");
                put(&path, text.as_bytes())?;
                let path = path.to_string_lossy();
                outln!("{}", called("hq", &["--output-mode", "quiet", "job", "submit-file", &path])?);
                Ok(())
            }
        }
    }

    fn slurm(&self, arrays: &[slurm::Array], folder: &std::path::Path) -> anyhow::Result<()> {
        let mut ids: Vec<String> = Vec::new();
        for array in arrays {
            let keys: String = array.keys.iter().map(|key| format!("{key}\n")).collect();
            put(&folder.join(format!("{}.keys", array.name)), keys.as_bytes())?;
            let script = folder.join(format!("{}.sh", array.name));
            put(&script, array.script.as_bytes())?;
            let after: Vec<&str> = array.after.iter().map(|&i| ids[i].as_str()).collect();
            let after = format!("--dependency=afterany:{}", after.join(":"));
            let script = script.to_string_lossy();
            let mut words = vec!["--parsable"];
            words.extend((!array.after.is_empty()).then_some(after.as_str()));
            words.push(&script);
            let id = called("sbatch", &words)?;
            // With several clusters their name follows.
            let id = id.split(';').next().unwrap_or_default().trim().to_owned();
            if id.is_empty() || !id.chars().all(|c| c.is_ascii_digit()) {
                bail!("sbatch answered `{id}` and no number of a job");
            }
            outln!("{id}  {}, {} jobs", array.name, array.keys.len());
            ids.push(id);
        }
        note!("progress: tarrl status --profile {} --out ..", self.study.profile());
        Ok(())
    }
}

/// Whether this Slurm runs a task again that ends with exit code 75.
fn requeues_75() -> bool {
    let Ok(text) = called("scontrol", &["show", "config"]) else { return false };
    let line = text.lines().find(|line| line.trim_start().starts_with("RequeueExit "));
    let codes = line.and_then(|line| line.split('=').nth(1)).unwrap_or_default();
    codes.split(',').any(|code| code.trim() == "75")
}

/// What a program of the engine prints.
fn called(program: &str, words: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(words).output();
    let output = output.with_context(|| format!("cannot run {program}; is its engine installed here?"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{program} refused: {}", error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn make(folder: &std::path::Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder.join("log")).map_err(|error| cannot_write(folder, "--out DIR", error))
}

fn put(path: &std::path::Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_atomic(path, bytes).map_err(|error| cannot_write(path, "--out DIR", error))
}
