//! Peer programs (PyTorch, candle, AutoAttack, auto_LiRPA, scikit-learn, torchvision) on the same workloads, measured in
//! alternation with ours.

use std::fmt;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::tasks::write_inputs;
use crate::{Activity, Task, Workload, median, repository};
use anyhow::{Context, bail};
use tarrl_tensor::Cpu;

/// How a workload is run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// What is run.
    pub workload: Workload,
    /// Images.
    pub batch: usize,
    /// Threads of each program.
    pub threads: usize,
    /// Timed runs of each program.
    pub pairs: usize,
}

/// Our figures and a peer's, measured in alternation.
#[derive(Debug)]
pub struct Comparison {
    workload: String,
    peer: String,
    ours: Figures,
    theirs: Figures,
}

#[derive(Debug)]
struct Figures {
    seconds: f64,
    peak_mb: f64,
    /// What came out, in words.
    result: String,
}

/// Compares the workload with each peer that is installed; of PyTorch's settings the quickest. `note` is told what is left
/// out.
pub fn compare(run: Run, note: &mut dyn FnMut(String)) -> anyhow::Result<Vec<Comparison>> {
    let mut found = Vec::new();
    match quickest_torch(run)? {
        Some(setting) => {
            let theirs = Peer::start(torch(run, setting))?;
            found.push(alternate(run, setting, theirs)?);
        }
        None => note("PyTorch is not installed here (pip install torch)".to_owned()),
    }
    let program = repository().join(CANDLE).join("target/release/candle-peer");
    match (run.workload.activity, program.exists()) {
        (Activity::SslStep, _) => {}
        (_, true) => found.push(alternate(run, "", Peer::start(candle(run, &program))?)?),
        (_, false) => note(format!(
            "candle is not built here (cd {CANDLE} && cargo build --release --target-dir target)"
        )),
    }
    Ok(found)
}

/// Does each task beside the program that is known for it, as far as that is installed; `note` is told what is left out.
///
/// # Errors
/// If the inputs cannot be made, or a program fails.
pub fn compare_tasks(
    tasks: &[Task],
    (threads, pairs): (usize, usize),
    note: &mut dyn FnMut(String),
    found: &mut dyn FnMut(Comparison) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("cannot make a folder for the inputs of the tasks")?;
    for &task in tasks {
        let (modules, missing) = needed(task);
        if !is_installed(modules) {
            note(missing.to_owned());
            continue;
        }
        let device = Cpu { threads, ..Cpu::default() }.open();
        let further = write_inputs(task, folder.path(), &device)?;
        let theirs = Peer::start(task_peer(task, folder.path(), threads, &further))?;
        let ours = ["--task", &task.to_string(), "--inputs"].map(PathBuf::from);
        let ours = this_program(&[&ours[..], &[folder.path().to_owned()]].concat(), threads)?;
        found(in_turns(pairs, [&task.to_string(), ""], ours, theirs)?)?;
    }
    Ok(())
}

/// The modules of Python that a task's peer needs, and what is said where they are missing.
fn needed(task: Task) -> (&'static str, &'static str) {
    match task {
        Task::AutoAttack => (
            "torch, safetensors, pyautoattack",
            "the authors' AutoAttack is not installed here (pip install torch safetensors pyautoattack)",
        ),
        Task::Certify => (
            "torch, safetensors, auto_LiRPA",
            "auto_LiRPA is not installed here (pip install torch safetensors appdirs tqdm pyyaml graphviz packaging \
             ninja psutil sortedcontainers, clone its repository and name that folder in PYTHONPATH)",
        ),
        Task::Probe => ("sklearn", "scikit-learn is not installed here (pip install scikit-learn)"),
        Task::Augment => {
            ("torch, torchvision", "torchvision is not installed here (pip install torch torchvision)")
        }
    }
}

fn is_installed(modules: &str) -> bool {
    let import = format!("import {modules}");
    let mut python = Command::new("python3");
    python.args(["-c", &import]).stdout(Stdio::null()).stderr(Stdio::null());
    python.status().is_ok_and(|status| status.success())
}

fn task_peer(task: Task, folder: &Path, threads: usize, further: &[String]) -> Command {
    let mut command = Command::new("python3");
    command.arg(repository().join("benches/peers/task_peer.py")).arg(task.to_string()).arg(folder);
    command.args(["--threads", &threads.to_string()]).args(further);
    for library in ["OMP", "OPENBLAS", "MKL"] {
        command.env(format!("{library}_NUM_THREADS"), threads.to_string());
    }
    command
}

/// The folder of the program that does all but `ssl-step` in candle.
const CANDLE: &str = "benches/peers/candle";

fn candle(run: Run, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args([run.workload.to_string(), run.batch.to_string()]);
    command.env("RAYON_NUM_THREADS", run.threads.to_string());
    command
}

const TORCH_SETTINGS: [&str; 3] = ["eager", "tuned", "compiled"];

/// The setting with the least median of three; `None` without PyTorch.
fn quickest_torch(run: Run) -> anyhow::Result<Option<&'static str>> {
    if !is_installed("torch") {
        return Ok(None);
    }
    let mut best: Option<(f64, &'static str)> = None;
    for setting in TORCH_SETTINGS {
        let mut peer = Peer::start(torch(run, setting))?;
        let seconds = (0..3).map(|_| peer.once()).collect::<anyhow::Result<Vec<_>>>()?;
        peer.finish()?;
        if best.is_none_or(|(least, _)| median(&seconds) < least) {
            best = Some((median(&seconds), setting));
        }
    }
    Ok(best.map(|(_, setting)| setting))
}

/// The script is part of this program, so that it can be carried to a machine without the source tree.
const TORCH: &str = include_str!("../peers/torch_peer.py");

fn torch(run: Run, setting: &str) -> Command {
    let mut command = Command::new("python3");
    torch_arguments(&mut command, run, setting);
    command
}

fn torch_arguments(command: &mut Command, run: Run, setting: &str) {
    command.args(["-c", TORCH]);
    command.args(["--workload", &run.workload.to_string(), "--setting", setting]);
    command.args(["--batch", &run.batch.to_string(), "--threads", &run.threads.to_string()]);
    if setting != "eager" {
        // Memory is kept between steps, in huge pages.
        let keep = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:\
                    glibc.malloc.trim_threshold=4294967296:glibc.malloc.top_pad=67108864";
        command.env("GLIBC_TUNABLES", keep);
    }
}

/// Whether PyTorch is installed with CUDA.
pub fn torch_has_gpu() -> bool {
    let probe = "import sys, torch; sys.exit(not torch.cuda.is_available())";
    let installed = Command::new("python3").args(["-c", probe]).stderr(Stdio::null()).status();
    installed.is_ok_and(|status| status.success())
}

/// The median seconds of a workload in PyTorch on the GPU, which is stopped if all of it takes longer than `most`.
///
/// # Errors
/// If PyTorch fails or is stopped.
pub fn torch_on_gpu(
    workload: Workload,
    batch: usize,
    [setting, dtype]: [&str; 2],
    most: Duration,
) -> anyhow::Result<f64> {
    let mut command = Command::new("timeout");
    command.arg(format!("{}", most.as_secs().max(1))).arg("python3");
    torch_arguments(&mut command, Run { workload, batch, threads: 1, pairs: 1 }, setting);
    command.args(["--device", "cuda", "--dtype", dtype]);
    let mut peer = Peer::start(command)?;
    let seconds = (0..7).map(|_| peer.once()).collect::<anyhow::Result<Vec<_>>>()?;
    peer.finish()?;
    Ok(median(&seconds))
}

/// Seconds of a run beside which waking the cores takes nothing.
const LONG: f64 = 2.0;

/// Between two turns: threads that wait by spinning give up, and leave the cores to the other program.
const REST: Duration = Duration::from_millis(500);

fn alternate(run: Run, setting: &str, theirs: Peer) -> anyhow::Result<Comparison> {
    let workload = run.workload.to_string();
    let ours = ["--workload", &workload, "--batch", &run.batch.to_string()].map(PathBuf::from);
    in_turns(run.pairs, [&workload, setting], this_program(&ours, run.threads)?, theirs)
}

/// Our program and another, one after the other: medians of so many turns of each.
fn in_turns(
    turns: usize,
    [workload, setting]: [&str; 2],
    ours: Command,
    mut theirs: Peer,
) -> anyhow::Result<Comparison> {
    let mut ours = Peer::start(ours)?;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        a.push(ours.turn()?);
        b.push(theirs.turn()?);
    }
    let figures = |seconds: &[f64], Ending { peak_mb, result, .. }| Figures {
        seconds: median(seconds),
        peak_mb,
        result,
    };
    let (ours, theirs) = (ours.finish()?, theirs.finish()?);
    let peer = [&theirs.program, setting].into_iter().filter(|part| !part.is_empty());
    Ok(Comparison {
        workload: workload.to_owned(),
        peer: peer.collect::<Vec<_>>().join(", "),
        ours: figures(&a, ours),
        theirs: figures(&b, theirs),
    })
}

fn this_program(what: &[PathBuf], threads: usize) -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("cannot find this program to start it again")?;
    let mut command = Command::new(program);
    command.args(["bench", "--in-turn"]).args(what).args(["--threads", &threads.to_string()]);
    Ok(command)
}

/// The last line of a program: its peak memory, its name and version, and after a semicolon what came out.
#[derive(Debug, PartialEq)]
struct Ending {
    /// The peak of its resident memory in millions of bytes.
    peak_mb: f64,
    program: String,
    result: String,
}

impl Ending {
    fn parse(line: &str) -> Option<Ending> {
        let (head, result) = line.split_once(';').unwrap_or((line, ""));
        let (peak, program) = head.split_once(' ').unwrap_or((head, ""));
        let peak_mb = peak.parse().ok()?;
        Some(Ending { peak_mb, program: program.trim().to_owned(), result: result.trim().to_owned() })
    }
}

/// A program that runs once for each line it is given.
struct Peer {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    name: String,
}

impl Peer {
    /// Returns when it has warmed up.
    fn start(mut command: Command) -> anyhow::Result<Peer> {
        // The script itself is no name for people.
        let short = command.get_args().filter(|argument| !argument.to_string_lossy().contains('\n'));
        let name = format!("{:?} {:?}", command.get_program(), short.collect::<Vec<_>>());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let input = child.stdin.take().context("the peer has no input")?;
        let output = BufReader::new(child.stdout.take().context("the peer has no output")?).lines();
        let mut peer = Peer { child, input, output, name };
        match peer.line()?.as_str() {
            "ready" => Ok(peer),
            other => bail!("{} said {other:?} instead of being ready", peer.name),
        }
    }

    fn line(&mut self) -> anyhow::Result<String> {
        self.output
            .next()
            .with_context(|| format!("{} ended early; see above", self.name))?
            .context("reading a peer")
    }

    /// The seconds of one run at full speed: after a rest in which the other program's threads stop spinning, and a run
    /// that wakes the cores and does not count, unless it took so long that this does not matter.
    fn turn(&mut self) -> anyhow::Result<f64> {
        sleep(REST);
        let first = self.once()?;
        if first > LONG { Ok(first) } else { self.once() }
    }

    /// The seconds of one run.
    fn once(&mut self) -> anyhow::Result<f64> {
        writeln!(self.input).context("writing to a peer")?;
        let line = self.line()?;
        line.parse().with_context(|| format!("{} said {line:?}, not seconds", self.name))
    }

    /// What it says at the end.
    fn finish(self) -> anyhow::Result<Ending> {
        let Peer { mut child, input, mut output, name } = self;
        drop(input);
        let line = output.next().with_context(|| format!("{name} ended early"))??;
        child.wait()?;
        Ending::parse(&line).with_context(|| format!("{name} said {line:?}, not its memory"))
    }
}

/// The head of a Markdown table of comparisons.
pub const HEADING: &str = "\
| workload | peer | ours, s | peer, s | times as fast | ours, MB | peer, MB | share of its memory | our result | its result |\n\
|---|---|---:|---:|---:|---:|---:|---:|---|---|";

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { workload, peer, ours, theirs } = self;
        write!(
            f,
            "| {workload} | {peer} | {:.3} | {:.3} | {:.2} | {:.0} | {:.0} | {:.2} | {} | {} |",
            ours.seconds,
            theirs.seconds,
            theirs.seconds / ours.seconds,
            ours.peak_mb,
            theirs.peak_mb,
            ours.peak_mb / theirs.peak_mb,
            ours.result,
            theirs.result
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    #[cfg(unix)]
    fn a_peer_runs_once_for_each_request_and_reports_its_memory() {
        let script = "echo ready; while read line; do echo 0.5; done; echo '12.5 a peer 1.0; 3 of 5'";
        let mut peer = Peer::start(shell(script)).unwrap();
        assert_eq!([peer.once().unwrap(), peer.once().unwrap()], [0.5, 0.5]);
        let ending = Ending { peak_mb: 12.5, program: "a peer 1.0".into(), result: "3 of 5".into() };
        assert_eq!(peer.finish().unwrap(), ending);
        let Err(error) = Peer::start(shell("echo a problem")) else { panic!("it was never ready") };
        assert!(error.to_string().contains("a problem"), "{error}");
        let mut peer = Peer::start(shell("echo ready; read line; echo soon")).unwrap();
        assert!(peer.once().unwrap_err().to_string().contains("soon"));
    }

    #[test]
    #[cfg(unix)]
    fn programs_take_turns_and_the_row_has_both_results() {
        let ours = shell("echo ready; while read line; do echo 3.0; done; echo '1 ours; 7 of 9'");
        let theirs = shell("echo ready; while read line; do echo 6.0; done; echo '2 peer 1.2; 8 of 9'");
        let row = in_turns(1, ["a task", "tuned"], ours, Peer::start(theirs).unwrap()).unwrap().to_string();
        let expected = "| a task | peer 1.2, tuned | 3.000 | 6.000 | 2.00 | 1 | 2 | 0.50 | 7 of 9 | 8 of 9 |";
        assert_eq!(row, expected);
    }

    #[test]
    fn the_last_line_needs_no_more_than_the_memory() {
        let bare = Ending { peak_mb: 7.0, program: String::new(), result: String::new() };
        assert_eq!(Ending::parse("7"), Some(bare));
        assert_eq!(Ending::parse("much memory"), None);
    }

    #[test]
    fn a_missing_peer_is_named_with_what_to_install() {
        assert!(!is_installed("no_module_has_this_name"));
        for task in Task::ALL {
            let (modules, missing) = needed(task);
            let last = modules.split(", ").last().unwrap();
            let named = if last == "sklearn" { "scikit-learn" } else { last };
            assert!(missing.contains("not installed here") && missing.contains(named), "{missing}");
        }
    }

    #[test]
    fn a_ratio_above_one_says_that_ours_is_faster() {
        let figures = |seconds, peak_mb| Figures { seconds, peak_mb, result: String::new() };
        let row = Comparison {
            workload: "train:conv-small".into(),
            peer: "a peer".into(),
            ours: figures(0.1, 200.0),
            theirs: figures(0.25, 800.0),
        };
        assert_eq!(
            row.to_string(),
            "| train:conv-small | a peer | 0.100 | 0.250 | 2.50 | 200 | 800 | 0.25 |  |  |"
        );
    }
}
