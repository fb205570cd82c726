//! `tarrl bench`: measures the speed of training, attack and inference.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::{ArgGroup, Args};
use serde::{Deserialize, Serialize};
use tarrl_benches::peers;
use tarrl_benches::{PreparedTask, Step, Task, Workload, median, time, time_once};
use tarrl_tensor::{Cpu, Device};

use crate::limits;
use crate::stdout::{note, outln};
use crate::workspace::workspace_root;
use tarrl_jobs::machine;

const EXAMPLES: &str = "\
Examples:
  tarrl bench --workload train:conv-small                one workload at its usual batch
  tarrl bench --workload train:conv-small --batch 64 --threads 1
  tarrl bench --workload ssl-step:resnet18-cifar --json  one line of JSON, for scripts
  tarrl bench --all --markdown                           the table of docs/performance.md, a minute or two
  tarrl bench --all --peers                              side by side with other programs, half an hour
  tarrl bench --task certify --peers                     one task side by side with the program known for it

A workload is ACTIVITY:ENCODER. Activities:
  forward     inference of the frozen encoder
  input-grad  the gradient of a loss in the images alone, as each step of an attack needs it
  train       loss and all weight gradients, with the statistics of the batch
  ssl-step    one whole update of robust training: two views, NT-Xent, PGD-5, regularizer, SGD
Encoders: conv-small (28×28×1, usually 256 images), resnet18-cifar (32×32×3, usually 64 images).
A task is whole work, only beside the program that is known for it:
  autoattack  20 images, beside the authors' code
  certify     4 images, beside auto_LiRPA
  probe       logistic regression on 10,000 representations, beside scikit-learn
  augment     two views of 1024 images, beside torchvision

The time is the median of the repeats after one run that warms up. GFLOP/s counts two operations for each multiply-add
of the convolutions, once for each pass over an image: forward 1, input-grad 2, train 3, ssl-step 21. Memory is the
peak of the whole process; --all gives every workload a process of its own. Close other programs before you measure.";

/// Time steps of training, attack and inference: images per second, GFLOP/s and peak memory
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.", arg_required_else_help = true)]
#[command(group = ArgGroup::new("what").required(true).args(["workload", "task", "all"]))]
pub(crate) struct Bench {
    /// What to time, such as train:conv-small
    #[arg(long, value_name = "ACTIVITY:ENCODER")]
    workload: Option<Workload>,

    /// What to do beside the program that is known for it: autoattack, certify, probe or augment
    #[arg(long, conflicts_with_all = ["batch", "json", "markdown"])]
    task: Option<Task>,

    /// Time every workload, each in a process of its own; with --peers every task too
    #[arg(long)]
    all: bool,

    /// Number of images [default: 256 for conv-small, 64 for resnet18-cifar]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("bench.--batch"))]
    batch: Option<u32>,

    /// Number of threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u16>("--threads"))]
    threads: Option<u16>,

    /// Runs that are timed, after one that is not
    #[arg(long, value_name = "N", default_value = "7", value_parser = limits::whole::<u32>("--repeats"))]
    repeats: u32,

    /// Print one line of JSON for each workload
    #[arg(long, conflicts_with = "markdown")]
    json: bool,

    /// Time other programs (benches/peers) side by side with ours, and print a table of ratios
    #[arg(long, conflicts_with_all = ["json", "markdown"])]
    peers: bool,

    /// Run once for each line of standard input and print its seconds; at the end, the peak of memory
    #[arg(long, hide = true, conflicts_with_all = ["all", "peers", "json", "markdown", "repeats"])]
    in_turn: bool,

    /// Where the inputs of a task are
    #[arg(long, hide = true, requires_all = ["task", "in_turn"], value_name = "DIR")]
    inputs: Option<PathBuf>,

    /// Print a table for a document, of all workloads
    #[arg(long, conflicts_with = "workload")]
    markdown: bool,
}

/// Measurements of one workload.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    workload: String,
    batch: usize,
    threads: usize,
    repeats: usize,
    median_s: f64,
    images_per_s: f64,
    gflops: f64,
    /// In millions of bytes; absent where the system does not tell.
    peak_rss_mb: Option<f64>,
}

impl Bench {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        if self.markdown {
            outln!("{}", self.heading());
        }
        if self.in_turn {
            return self.run_in_turn();
        }
        if self.peers {
            return self.run_beside_peers();
        }
        if self.task.is_some() {
            bail!("a task is only timed beside other programs; add --peers");
        }
        for workload in self.workloads() {
            let row = if self.all { self.in_own_process(workload)? } else { self.measure(workload) };
            match (self.json, self.markdown) {
                (true, _) => outln!("{}", serde_json::to_string(&row)?),
                (_, true) => outln!("{}", row.markdown()),
                _ => outln!("{row}"),
            }
        }
        Ok(())
    }

    /// The workloads that are asked for.
    fn workloads(&self) -> Vec<Workload> {
        if self.all { Workload::ALL.to_vec() } else { self.workload.into_iter().collect() }
    }

    fn run_in_turn(&self) -> anyhow::Result<()> {
        match (self.task, &self.inputs) {
            (Some(task), Some(inputs)) => {
                let mut task = PreparedTask::new(task, inputs, &self.device())?;
                let mut result = task.run()?.1;
                in_turn(&mut || {
                    let (seconds, found) = task.run()?;
                    result = found;
                    Ok(seconds)
                })?;
                last_line(&result)
            }
            _ => {
                let workload =
                    self.workload.context("--in-turn needs a workload, or a task with --inputs")?;
                let mut step = Step::new(workload, self.batch(workload), &self.device());
                time(&mut step, 1);
                in_turn(&mut || Ok(time_once(&mut step)))?;
                last_line("")
            }
        }
    }

    fn run_beside_peers(&self) -> anyhow::Result<()> {
        outln!("{}\n\n{}", self.conditions(), peers::HEADING);
        let mut absent = BTreeSet::new();
        let note = &mut |what: String| {
            if absent.insert(what.clone()) {
                note!("left out: {what}");
            }
        };
        let (threads, pairs) = (self.threads(), self.repeats as usize);
        for workload in self.workloads() {
            let run = peers::Run { workload, batch: self.batch(workload), threads, pairs };
            for comparison in peers::compare(run, note)? {
                outln!("{comparison}");
            }
        }
        let tasks = if self.all { Task::ALL.to_vec() } else { self.task.into_iter().collect() };
        peers::compare_tasks(&tasks, (threads, pairs), note, &mut |comparison| {
            outln!("{comparison}");
            Ok(())
        })
    }

    fn device(&self) -> Device {
        Cpu { threads: self.threads(), ..Cpu::default() }.open()
    }

    fn batch(&self, workload: Workload) -> usize {
        self.batch.map_or(workload.usual_batch(), |batch| batch as usize)
    }

    fn measure(&self, workload: Workload) -> Row {
        let batch = self.batch(workload);
        let repeats = self.repeats as usize;
        let mut step = Step::new(workload, batch, &self.device());
        let seconds = median(&time(&mut step, repeats));
        Row {
            workload: workload.to_string(),
            batch,
            threads: self.threads(),
            repeats,
            median_s: seconds,
            images_per_s: batch as f64 / seconds,
            gflops: step.flops() as f64 / seconds / 1e9,
            peak_rss_mb: machine::peak_rss().map(|bytes| bytes as f64 / 1e6),
        }
    }

    /// The peak of memory is that of a process, so that the next workload needs a new one.
    fn in_own_process(&self, workload: Workload) -> anyhow::Result<Row> {
        let program = std::env::current_exe().context("cannot find this program to start it again")?;
        let mut command = Command::new(program);
        command.args(["bench", "--json", "--workload", &workload.to_string()]);
        command.args(["--repeats", &self.repeats.to_string(), "--threads", &self.threads().to_string()]);
        if let Some(batch) = self.batch {
            command.args(["--batch", &batch.to_string()]);
        }
        let output = command.stderr(Stdio::inherit()).output().context("cannot start this program again")?;
        if !output.status.success() {
            bail!("{workload} ended with {}; see above", output.status);
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("{workload} printed no figures"))
    }

    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get());
        self.threads.map_or_else(cores, usize::from)
    }

    /// Machine, threads and commit of a table.
    fn conditions(&self) -> String {
        let machine = machine::provenance(workspace_root(), "cpu");
        let known = |field: &str| machine[field].as_str().unwrap_or("unknown").to_owned();
        let (cpu, commit) = (known("cpu"), known("commit"));
        format!("{cpu}, {} threads, commit {commit}; medians of {}", self.threads(), self.repeats)
    }

    fn heading(&self) -> String {
        format!(
            "{}\n\n\
             | workload | images | seconds | images/s | GFLOP/s | peak memory, MB |\n\
             |---|---:|---:|---:|---:|---:|",
            self.conditions()
        )
    }
}

/// Runs once for each line of standard input and prints the seconds.
fn in_turn(run: &mut dyn FnMut() -> anyhow::Result<f64>) -> anyhow::Result<()> {
    outln!("ready");
    for line in std::io::stdin().lines() {
        line?;
        outln!("{}", run()?);
    }
    Ok(())
}

/// Prints the peak of memory in millions of bytes, the name of this program, and what came out.
fn last_line(result: &str) -> anyhow::Result<()> {
    let peak = machine::peak_rss().map_or(f64::NAN, |bytes| bytes as f64 / 1e6);
    outln!("{peak} tarrl {}; {result}", env!("CARGO_PKG_VERSION"));
    Ok(())
}

impl Row {
    fn markdown(&self) -> String {
        let Row { workload, batch, median_s, images_per_s, gflops, .. } = self;
        let speed = figures(*images_per_s);
        format!("| {workload} | {batch} | {median_s:.3} | {speed} | {gflops:.0} | {} |", self.memory())
    }

    fn memory(&self) -> String {
        self.peak_rss_mb.map_or("unknown".to_owned(), |mb| format!("{mb:.0}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { workload, batch, threads, repeats, median_s, images_per_s, gflops, .. } = self;
        write!(
            f,
            "{workload}  {median_s:.3} s for {batch} images (median of {repeats}), {} images/s, {gflops:.1} GFLOP/s, \
             peak memory {} MB, {threads} threads",
            figures(*images_per_s),
            self.memory()
        )
    }
}

/// Whole numbers from ten on, else one digit more.
fn figures(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_printed_in_three_forms_with_the_same_figures() {
        let row = Row {
            workload: "train:conv-small".into(),
            batch: 256,
            threads: 2,
            repeats: 5,
            median_s: 0.25,
            images_per_s: 1024.0,
            gflops: 90.2,
            peak_rss_mb: Some(812.4),
        };
        assert_eq!(row.markdown(), "| train:conv-small | 256 | 0.250 | 1024 | 90 | 812 |");
        let line = row.to_string();
        assert!(line.contains("1024 images/s, 90.2 GFLOP/s, peak memory 812 MB"), "{line}");
        let json: serde_json::Value = serde_json::from_str(&serde_json::to_string(&row).unwrap()).unwrap();
        assert_eq!((&json["median_s"], &json["peak_rss_mb"]), (&0.25.into(), &812.4.into()));
        let silent = Row { peak_rss_mb: None, ..row };
        assert!(silent.markdown().ends_with("| unknown |"));
    }
}
