//! Toy study: a folder with one method, a profile with every stage, a dataset, and the runs of the program on them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use crate::stripes;

const METHOD: &str = r#"title = "TARR"
views = ["strong", "strong"]
objective = { kind = "nt-xent", temperature = 0.5 }
projector = { hidden = 16, out = 8, layers = 2 }

[regularizer]
divergence = "relative-l2"
weight = 3.0
anchor = "clean"
inner = { kind = "pgd", steps = 1, norm = "linf", epsilon = 0.1, step_size = 0.08, start = "random" }
ramp = 0.3
"#;

const PROFILE: &str = r#"title = "Toy"
dataset = "stripes"
seeds = 1
methods = ["tarr"]
tables = ["T1", "T5", "T7", "F1"]

[encoder]
arch = "conv-small"
width = 0.0625

[pretrain]
epochs = 4
batch = 32
warmup-epochs = 1.0
optimizer = { kind = "adamw", lr = 2e-3 }

[attack]
epsilons = [0.005, 0.01]
curve = [0.002]
steps = 2
restarts = 1
autoattack = 4

[bound]
samples = 12
epsilons = [0.02]
"#;

/// Metrics and results that say how long something took or how much memory, which no run repeats.
const MEASURED: [&str; 5] = ["seconds", "images_per_second", "waiting", "saving", "peak_memory"];

/// A folder in which the program runs.
pub(crate) struct World {
    folder: TempDir,
}

/// What must not depend on how often the program was stopped, by name: the content of files, or values as text.
pub(crate) type Bits = BTreeMap<String, Vec<u8>>;

/// Files with their time and content.
pub(crate) type Files = BTreeMap<PathBuf, (SystemTime, Vec<u8>)>;

/// The study after one run without interruption.
pub(crate) struct Reference {
    pub(crate) world: World,
    pub(crate) bits: Bits,
    /// The jobs in the order in which they ran.
    pub(crate) jobs: Vec<ReferenceJob>,
    /// Time until the first job begins.
    pub(crate) start: Duration,
    /// Time from the end of the last job to that of the program.
    pub(crate) report: Duration,
}

/// A job of the study.
pub(crate) struct ReferenceJob {
    /// Its stage.
    pub(crate) kind: String,
    /// The name of its folder.
    pub(crate) key: String,
    /// How long it took.
    pub(crate) took: Duration,
}

impl World {
    /// Nothing has run.
    pub(crate) fn new() -> Self {
        let world = World { folder: tempfile::tempdir().unwrap() };
        for (file, text) in
            [("experiments/methods/tarr.toml", METHOD), ("experiments/profiles/toy.toml", PROFILE)]
        {
            write(&world.path(file), text.as_bytes());
        }
        stripes::TINY.write(&world.path("datasets"));
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn jobs(&self) -> PathBuf {
        self.path("runs/toy/jobs")
    }

    /// `reproduce` on this world.
    pub(crate) fn reproduce(&self) -> Command {
        self.study("reproduce")
    }

    /// A verb of studies on this world.
    pub(crate) fn study(&self, verb: &str) -> Command {
        let mut command = tarrl();
        command.args([verb, "--profile", "toy", "--threads", "1", "--out"]).arg(self.path("runs"));
        for folder in ["experiments", "datasets", "data"] {
            command.arg(format!("--{folder}")).arg(self.path(folder));
        }
        command
    }

    /// Runs the study to its end, which has to be a good one.
    pub(crate) fn finish(&self) -> String {
        succeeded(&self.reproduce().output().unwrap())
    }

    /// Every file of every finished job, but for those that only served to resume.
    pub(crate) fn kept(&self) -> Files {
        let mut kept = Files::new();
        for folder in fs::read_dir(self.jobs()).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            let Ok(text) = fs::read(folder.join("manifest.json")) else { continue };
            let manifest = serde_json::from_slice::<Value>(&text).unwrap_or_default();
            let scratch = manifest["manifest"]["scratch"].as_array().cloned().unwrap_or_default();
            kept.extend(files(&folder));
            scratch.iter().for_each(|name| drop(kept.remove(&folder.join(name.as_str().unwrap()))));
        }
        kept
    }

    /// All results but for times and memory.
    pub(crate) fn bits(&self) -> Bits {
        let mut bits = Bits::new();
        let root = self.path("runs/toy");
        for (path, (_, content)) in files(&root) {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            // Who did what, and how often it was begun.
            if name.starts_with("claims/") && !name.ends_with(".tmp") {
                continue;
            }
            match path.file_name().and_then(OsStr::to_str).unwrap() {
                "log.txt" | "index.html" | "tables.md" | "tables.tex" | "results.json" => {}
                // What training costs, in seconds and bytes.
                "T7.csv" | "T7.json" => {}
                "manifest.json" => {
                    let whole: Value = serde_json::from_slice(&content).unwrap();
                    bits.insert(name, unmeasured(whole["manifest"]["output"].clone()).into_bytes());
                }
                "metrics.jsonl" => {
                    let lines = std::str::from_utf8(&content).unwrap().lines();
                    let lines: String =
                        lines.map(|line| unmeasured(serde_json::from_str(line).unwrap()) + "\n").collect();
                    bits.insert(name, lines.into_bytes());
                }
                "results.csv" => {
                    let lines = std::str::from_utf8(&content).unwrap().lines();
                    let kept: Vec<&str> = lines.filter(|line| !line.starts_with("T7,")).collect();
                    bits.insert(name, kept.join("\n").into_bytes());
                }
                _ => {
                    bits.insert(name, content);
                }
            }
        }
        bits
    }

    /// The study with the first `done` jobs of the reference finished and no report.
    pub(crate) fn begun(reference: &Reference, done: usize) -> Self {
        let world = World::new();
        fs::create_dir(world.path("runs")).unwrap();
        for job in &reference.jobs[..done] {
            copy(&reference.world.jobs().join(&job.key), &world.jobs().join(&job.key));
        }
        world
    }
}

impl Reference {
    /// Runs the study once and watches when its jobs begin.
    pub(crate) fn new() -> Self {
        let world = World::new();
        let clock = Instant::now();
        let mut child = quiet(&mut world.reproduce()).spawn().unwrap();
        let mut begun: Vec<(String, Duration)> = Vec::new();
        let end = loop {
            let ended = child.try_wait().unwrap();
            let now = clock.elapsed();
            for entry in fs::read_dir(world.jobs()).into_iter().flatten() {
                let key = entry.unwrap().file_name().into_string().unwrap();
                if !begun.iter().any(|(known, _)| *known == key) {
                    begun.push((key, now));
                }
            }
            if let Some(status) = ended {
                assert!(status.success(), "the reference ended with {status}");
                break now;
            }
            sleep(TICK);
        };
        let manifest = |key: &str| -> Value {
            let text = fs::read(world.jobs().join(key).join("manifest.json")).unwrap();
            serde_json::from_slice::<Value>(&text).unwrap()["manifest"].clone()
        };
        let job = |(key, _): &(String, Duration)| {
            let manifest = manifest(key);
            let took = Duration::from_secs_f64(manifest["seconds"].as_f64().unwrap());
            ReferenceJob { kind: manifest["kind"].as_str().unwrap().to_owned(), key: key.clone(), took }
        };
        let jobs: Vec<ReferenceJob> = begun.iter().map(job).collect();
        let start = begun[0].1;
        let report = end.saturating_sub(begun.last().unwrap().1 + jobs.last().unwrap().took);
        let bits = world.bits();
        Reference { world, bits, jobs, start, report }
    }

    /// Fails unless `world` has the results of this study to the bit, and nothing else.
    #[track_caller]
    pub(crate) fn check(&self, world: &World, story: &str) {
        let bits = world.bits();
        let names = |bits: &Bits| bits.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&bits), names(&self.bits), "other files after {story}");
        let other: Vec<&String> = bits.keys().filter(|name| bits[*name] != self.bits[*name]).collect();
        assert!(other.is_empty(), "other bits in {other:?} after {story}");
    }
}

/// Time between two looks at a running program.
pub(crate) const TICK: Duration = Duration::from_micros(200);

/// The program. Without a `PATH` it neither asks for the commit nor for the compiler, which takes longer than the study.
pub(crate) fn tarrl() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tarrl"));
    command.env("PATH", "");
    command
}

pub(crate) fn quiet(command: &mut Command) -> &mut Command {
    command.stdout(Stdio::null()).stderr(Stdio::null())
}

/// Sends a signal by its name.
pub(crate) fn signal(child: &Child, name: &str) {
    let status =
        Command::new("kill").args(["-s", name, &child.id().to_string()]).stderr(Stdio::null()).status();
    // A program that has ended by itself leaves nothing to stop.
    let _ = status.unwrap();
}

#[track_caller]
pub(crate) fn succeeded(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {text}", output.status);
    text
}

/// Fails unless the program ended with one error that has one of `causes`, and without a panic.
#[track_caller]
pub(crate) fn failed(output: &Output, causes: &[&str], story: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{story}: {text}");
    assert!(text.matches("error: ").count() == 1 && !text.contains("panicked"), "{story}: {text}");
    assert!(causes.iter().any(|cause| text.contains(cause)), "{story}: {text}");
}

/// All files below a folder.
pub(crate) fn files(folder: &Path) -> Files {
    let mut found = Files::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&path));
        } else {
            let content = fs::read(&path).unwrap();
            found.insert(path, (entry.metadata().unwrap().modified().unwrap(), content));
        }
    }
    found
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    for (path, (_, content)) in files(from) {
        write(&to.join(path.strip_prefix(from).unwrap()), &content);
    }
}

pub(crate) fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A value without what was measured.
fn unmeasured(mut value: Value) -> String {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| !MEASURED.contains(&name.as_str()));
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut value);
    value.to_string()
}
