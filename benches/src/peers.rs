//! Peer programs (PyTorch, candle) on the same workloads, measured in alternation with ours.

use std::fmt;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::{Activity, Workload, median};
use anyhow::{Context, bail};

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
}

/// Compares the workload with each peer that is installed; of PyTorch's settings the quickest. `note` is told what is left
/// out.
pub fn compare(run: Run, note: &mut dyn FnMut(String)) -> anyhow::Result<Vec<Comparison>> {
    let mut found = Vec::new();
    match quickest_torch(run)? {
        Some(setting) => {
            let theirs = Peer::start(torch(run, setting))?;
            found.push(alternate(run, &format!("PyTorch, {setting}"), theirs)?);
        }
        None => note("PyTorch is not installed here (pip install torch)".to_owned()),
    }
    let program = repository().join(CANDLE).join("target/release/candle-peer");
    match (run.workload.activity, program.exists()) {
        (Activity::SslStep, _) => {}
        (_, true) => found.push(alternate(run, "candle", Peer::start(candle(run, &program))?)?),
        (_, false) => note(format!(
            "candle is not built here (cd {CANDLE} && cargo build --release --target-dir target)"
        )),
    }
    Ok(found)
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
    let installed = Command::new("python3").args(["-c", "import torch"]).stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
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

/// Between two turns: threads that wait by spinning give up, and leave the cores to the other program.
const REST: Duration = Duration::from_millis(500);

fn alternate(run: Run, name: &str, mut theirs: Peer) -> anyhow::Result<Comparison> {
    let mut ours = Peer::start(this_program(run)?)?;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..run.pairs {
        a.push(ours.turn()?);
        b.push(theirs.turn()?);
    }
    let figures = |seconds: &[f64], peak_mb| Figures { seconds: median(seconds), peak_mb };
    Ok(Comparison {
        workload: run.workload.to_string(),
        peer: name.to_owned(),
        ours: figures(&a, ours.finish()?),
        theirs: figures(&b, theirs.finish()?),
    })
}

fn this_program(run: Run) -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("cannot find this program to start it again")?;
    let mut command = Command::new(program);
    command.args(["bench", "--in-turn", "--workload", &run.workload.to_string()]);
    command.args(["--batch", &run.batch.to_string(), "--threads", &run.threads.to_string()]);
    Ok(command)
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
    /// that wakes the cores and does not count.
    fn turn(&mut self) -> anyhow::Result<f64> {
        sleep(REST);
        self.once()?;
        self.once()
    }

    /// The seconds of one run.
    fn once(&mut self) -> anyhow::Result<f64> {
        writeln!(self.input).context("writing to a peer")?;
        let line = self.line()?;
        line.parse().with_context(|| format!("{} said {line:?}, not seconds", self.name))
    }

    /// The peak of its resident memory in millions of bytes.
    fn finish(self) -> anyhow::Result<f64> {
        let Peer { mut child, input, mut output, name } = self;
        drop(input);
        let line = output.next().with_context(|| format!("{name} ended early"))??;
        child.wait()?;
        let peak = line.split_whitespace().next().and_then(|word| word.parse().ok());
        peak.with_context(|| format!("{name} said {line:?}, not its memory"))
    }
}

/// The head of a Markdown table of comparisons.
pub const HEADING: &str = "\
| workload | peer | ours, s | peer, s | times as fast | ours, MB | peer, MB | share of its memory |\n\
|---|---|---:|---:|---:|---:|---:|---:|";

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { workload, peer, ours, theirs } = self;
        write!(
            f,
            "| {workload} | {peer} | {:.3} | {:.3} | {:.2} | {:.0} | {:.0} | {:.2} |",
            ours.seconds,
            theirs.seconds,
            theirs.seconds / ours.seconds,
            ours.peak_mb,
            theirs.peak_mb,
            ours.peak_mb / theirs.peak_mb
        )
    }
}

/// The root of the repository, where the peers' programs are.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies inside the repository")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_peer_runs_once_for_each_request_and_reports_its_memory() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let script = "echo ready; while read line; do echo 0.5; done; echo 12.5 a peer";
        let mut peer = Peer::start(shell(script)).unwrap();
        assert_eq!([peer.once().unwrap(), peer.once().unwrap()], [0.5, 0.5]);
        assert_eq!(peer.finish().unwrap(), 12.5);
        let Err(error) = Peer::start(shell("echo a problem")) else { panic!("it was never ready") };
        assert!(error.to_string().contains("a problem"), "{error}");
        let mut peer = Peer::start(shell("echo ready; read line; echo soon")).unwrap();
        assert!(peer.once().unwrap_err().to_string().contains("soon"));
    }

    #[test]
    fn a_ratio_above_one_says_that_ours_is_faster() {
        let figures = |seconds, peak_mb| Figures { seconds, peak_mb };
        let row = Comparison {
            workload: "train:conv-small".into(),
            peer: "a peer".into(),
            ours: figures(0.1, 200.0),
            theirs: figures(0.25, 800.0),
        };
        assert_eq!(
            row.to_string(),
            "| train:conv-small | a peer | 0.100 | 0.250 | 2.50 | 200 | 800 | 0.25 |"
        );
    }
}
