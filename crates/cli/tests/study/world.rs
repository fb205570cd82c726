//! A folder with methods, a profile, a dataset and runs of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::SystemTime;

use serde_json::Value;
use tempfile::TempDir;

use crate::stripes;

/// Jobs of the study: the data, and five for each of the two methods.
pub(crate) const JOBS: usize = 11;

const PLAIN: &str = r#"title = "Plain"
views = ["strong", "strong"]
objective = { kind = "nt-xent", temperature = 0.5 }
projector = { hidden = 32, out = 16, layers = 2 }
"#;

const REGULARIZER: &str = r#"
[regularizer]
divergence = "relative-l2"
weight = 3.0
anchor = "clean"
inner = { kind = "pgd", steps = 2, norm = "linf", epsilon = 0.1, step_size = 0.08, start = "random" }
ramp = 0.3
"#;

const PROFILE: &str = r#"title = "Tiny"
dataset = "stripes"
seeds = 1
methods = ["plain", "tarr"]
tables = ["T1", "T5", "F1"]

[encoder]
arch = "conv-small"
width = 0.125

[pretrain]
epochs = 6
batch = 64
warmup-epochs = 1.0
optimizer = { kind = "adamw", lr = 2e-3 }

[attack]
epsilons = [0.05, 0.1]
curve = [0.025]
steps = 2
restarts = 1

[bound]
samples = 16
"#;

/// Everything that a run of the program reads and writes.
pub(crate) struct World {
    root: PathBuf,
    _own: Option<TempDir>,
}

/// What the program did.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    /// Nothing has run yet.
    pub(crate) fn new() -> Self {
        let own = tempfile::tempdir().unwrap();
        let world = Self { root: own.path().to_path_buf(), _own: Some(own) };
        world.furnish();
        world
    }

    /// Everything has run once, on two threads and without interruption.
    pub(crate) fn finished() -> Self {
        let world = Self::new();
        copy(&reference().path("runs"), &world.path("runs"));
        world
    }

    fn furnish(&self) {
        for (file, text) in [
            ("experiments/methods/plain.toml", PLAIN.to_owned()),
            ("experiments/methods/tarr.toml", PLAIN.replace("Plain", "TARR") + REGULARIZER),
            ("experiments/profiles/tiny.toml", PROFILE.to_owned()),
        ] {
            let path = self.path(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        stripes::USUAL.write(&self.path("datasets"));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Replaces the one place in a file of settings where `from` stands.
    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from} in {file}");
        fs::write(self.path(file), text.replace(from, to)).unwrap();
    }

    /// `reproduce` on this world, with output into `out`.
    pub(crate) fn command(&self, out: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tarrl"));
        command.args(["reproduce", "--profile", "tiny", "--out"]).arg(out);
        for folder in ["experiments", "datasets", "data"] {
            command.arg(format!("--{folder}")).arg(self.path(folder));
        }
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(&self.path("runs")).args(arguments).output().unwrap())
    }

    /// The folder of the finished or unfinished job of this kind and name.
    pub(crate) fn job(&self, kind: &str, name: &str) -> PathBuf {
        // A folder does not say whose it is before its job ends, but equal jobs have equal keys everywhere.
        let at = |(path, manifest): (PathBuf, Value)| {
            (manifest["kind"] == kind && manifest["name"] == name)
                .then(|| path.file_name().unwrap().to_owned())
        };
        let key = reference().manifests().into_iter().find_map(at).expect("a job of the study");
        self.jobs().join(key)
    }

    pub(crate) fn jobs(&self) -> PathBuf {
        self.path("runs/tiny/jobs")
    }

    /// The manifests of all finished jobs by folder.
    fn manifests(&self) -> Vec<(PathBuf, Value)> {
        let folders = fs::read_dir(self.jobs()).unwrap().map(|entry| entry.unwrap().path());
        let read = |path: PathBuf| {
            let text = fs::read(path.join("manifest.json")).ok()?;
            Some((path, serde_json::from_slice::<Value>(&text).unwrap()["manifest"].clone()))
        };
        folders.filter_map(read).collect()
    }

    /// Every file of every finished job, with its time and content.
    pub(crate) fn kept(&self) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
        let mut files = BTreeMap::new();
        for (folder, _) in self.manifests() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let content = fs::read(entry.path()).unwrap();
                files.insert(entry.path(), (entry.metadata().unwrap().modified().unwrap(), content));
            }
        }
        files
    }

    /// The bits that must not depend on how they were computed: the encoders and the results.
    pub(crate) fn bits(&self) -> Bits {
        let hash = |path: PathBuf| blake3::hash(&fs::read(path).unwrap()).to_hex().to_string();
        let encoder = |name| hash(self.job("pretrain", name).join("encoder.safetensors"));
        Bits {
            encoders: ["plain, seed 0", "tarr, seed 0"].map(encoder),
            results: fs::read_to_string(self.path("runs/tiny/report/results.csv")).unwrap(),
        }
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct Bits {
    /// Hashes of the files of both encoders.
    pub(crate) encoders: [String; 2],
    /// Content of `results.csv`.
    pub(crate) results: String,
}

impl Ran {
    /// The program succeeded.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// The program failed with one message that contains all of `parts`.
    #[track_caller]
    pub(crate) fn failed(self, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(1), "{}", self.stderr);
        assert_eq!(self.stderr.matches("error: ").count(), 1, "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        let message = &self.stderr[self.stderr.find("error: ").unwrap()..];
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in\n{message}");
        }
        self
    }

    /// The program succeeded and ran no job, because all were finished.
    #[track_caller]
    pub(crate) fn ran_nothing(self) {
        let ran = self.succeeded();
        assert!(ran.stderr.contains(&format!("{JOBS} jobs, {JOBS} done already")), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 2, "only the heading is said: {}", ran.stderr);
    }
}

pub(crate) fn ran(output: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The world in which the study ran to its end; made once for all tests.
pub(crate) fn reference() -> &'static World {
    static REFERENCE: OnceLock<World> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("study");
        if root.exists() {
            fs::remove_dir_all(&root).unwrap();
        }
        let world = World { root, _own: None };
        world.furnish();
        let ran = world.run(&["--threads", "2"]).succeeded();
        assert!(ran.stderr.contains(&format!("[{JOBS}/{JOBS}] done: ")), "{}", ran.stderr);
        world
    })
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
