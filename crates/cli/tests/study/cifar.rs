//! The profile for CIFAR at toy size: the project's own file with smaller numbers, on a dataset of its format.

use std::fs;
use std::path::Path;
use std::process::Command;

use tarrl_tensor::Key;

use crate::world::{Ran, ran};

/// What makes the profile a toy; everything else of it is run as it stands.
const SMALLER: [(&str, &str); 8] = [
    (
        "methods = [\"simclr\", \"rocl\", \"acl\", \"deacl\", \"tarr\", \"at\"]",
        "methods = [\"deacl\", \"tarr\", \"at\"]",
    ),
    ("width = 1.0", "width = 0.0625"),
    ("epochs = 100", "epochs = 2"),
    ("batch = 512", "batch = 20"),
    ("warmup-epochs = 10.0", "warmup-epochs = 0.5"),
    ("curve = [\"2/255\", \"4/255\", \"16/255\"]", "curve = [\"4/255\"]"),
    ("autoattack = 1000", "autoattack = 0"),
    ("seeds = 1", "seeds = 1\nsubset = { train = 40, test = 20 }"),
];

struct Toy(tempfile::TempDir);

impl Toy {
    fn new() -> Self {
        let toy = Toy(tempfile::tempdir().unwrap());
        let own = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        for folder in ["experiments/methods", "experiments/profiles", "data"] {
            fs::create_dir_all(toy.0.path().join(folder)).unwrap();
        }
        for file in
            ["simclr", "deacl", "tarr", "at", "acl", "rocl"].map(|name| format!("methods/{name}.toml"))
        {
            let file = format!("experiments/{file}");
            fs::copy(own.join(&file), toy.0.path().join(&file)).unwrap();
        }
        let mut text = fs::read_to_string(own.join("experiments/profiles/cifar.toml")).unwrap();
        for (from, to) in SMALLER {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text = text.replace(from, to);
        }
        fs::write(toy.0.path().join("experiments/profiles/cifar.toml"), text).unwrap();
        toy
    }

    /// The folder that the archive of CIFAR-10 unpacks to, with patterns that have nothing to do with it: ten directions
    /// and colors of stripes.
    fn with_data(self) -> Self {
        let folder = self.0.path().join("data/cifar10/cifar-10-batches-bin");
        fs::create_dir_all(&folder).unwrap();
        for file in
            ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
        {
            // A hundred images of noise on stripes, over and over.
            let mut some = Vec::new();
            for i in 0..100u8 {
                let mut noise = Key::new(1).fold(file).fold(u64::from(i)).stream();
                let class = i % 10;
                some.push(class);
                for p in 0..3072usize {
                    let (plane, y, x) = (p / 1024, p / 32 % 32, p % 32);
                    let along = if class < 5 { y } else { x };
                    let bright = (along / (1 + usize::from(class % 5)) + plane * usize::from(class % 3))
                        .is_multiple_of(2);
                    some.push(noise.below(90) as u8 + if bright { 150 } else { 10 });
                }
            }
            fs::write(folder.join(format!("{file}.bin")), some.repeat(100)).unwrap();
        }
        self
    }

    fn run(&self, out: &str, arguments: &[&str]) -> Ran {
        let root = self.0.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tarrl"));
        command.args(["reproduce", "--profile", "cifar", "--out"]).arg(root.join(out));
        command.arg("--experiments").arg(root.join("experiments")).arg("--data").arg(root.join("data"));
        command
            .arg("--datasets")
            .arg(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("datasets"));
        ran(command.args(arguments).output().unwrap())
    }

    /// What must not depend on how often a run stopped: its results but for the table of times, and the bits of the
    /// encoders by their job.
    fn bits(&self, out: &str) -> Vec<(String, Vec<u8>)> {
        let folder = self.0.path().join(out).join("cifar");
        let results = fs::read_to_string(folder.join("report/results.csv")).unwrap();
        let kept: Vec<&str> = results.lines().filter(|line| !line.starts_with("T7,")).collect();
        let mut files = vec![("results".to_owned(), kept.join("\n").into_bytes())];
        for job in fs::read_dir(folder.join("jobs")).unwrap().map(|entry| entry.unwrap().path()) {
            let name = job.file_name().unwrap().to_string_lossy().into_owned();
            if let Ok(bytes) = fs::read(job.join("encoder.safetensors")) {
                files.push((name, bytes));
            }
        }
        files.sort();
        files
    }
}

#[test]
fn a_plan_without_the_dataset_names_the_remedy() {
    let ran = Toy::new().run("runs", &["--dry-run"]).succeeded();
    for part in [
        "pretrain",
        "deacl, seed 0",
        "simclr, seed 0",
        "cargo xtask data fetch cifar10",
        "cifar-10-batches-bin",
    ] {
        assert!(ran.stdout.contains(part), "`{part}` is not in\n{}", ran.stdout);
    }
}

#[test]
fn slices_end_with_the_bits_of_one_run() {
    let toy = Toy::new().with_data();
    toy.run("whole", &["--threads", "2"]).succeeded();
    let tables = fs::read_to_string(toy.0.path().join("whole/cifar/report/tables.md")).unwrap();
    assert!(tables.contains("trained at ε = 0.0314"), "{tables}");
    let mut paused = 0;
    for slice in 0.. {
        assert!(slice < 200, "slices make no progress");
        // Time for something to begin, and not for much more.
        let ran = toy.run("slices", &["--threads", "2", "--time-limit", "0.01"]);
        match ran.code {
            Some(0) => break,
            code => assert_eq!(code, Some(75), "{}", ran.stderr),
        }
        paused += usize::from(checkpoints(&toy.0.path().join("slices/cifar/jobs")) > 0);
    }
    assert!(paused > 0, "no slice ended in the middle of a training");
    // Not `assert_eq`, which would print all weights.
    let pairs = toy.bits("slices").into_iter().zip(toy.bits("whole"));
    let other: Vec<String> =
        pairs.filter(|(slices, whole)| slices != whole).map(|(slices, _)| slices.0).collect();
    assert!(other.is_empty(), "other bits in {other:?}");
    assert_eq!(toy.bits("whole").len(), 1 + 4, "DeACL's teacher is trained too");
}

/// Trainings that wait to go on.
fn checkpoints(jobs: &Path) -> usize {
    let Ok(jobs) = fs::read_dir(jobs) else { return 0 };
    jobs.filter(|job| job.as_ref().unwrap().path().join("checkpoint.safetensors").exists()).count()
}
