//! A newcomer's session: the commands of docs/bring-your-own.md, on a model and images that are made here.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Files, dataset, text};
use tarrl_data::{Dataset, npy, write_zip};

/// Images of the embedded sample as another program would save them: `(n, 28, 28)` and labels `(n, 1)`.
fn export(path: &Path, train: &Dataset, test: &Dataset) {
    let images = |data: &Dataset| npy::encode_u8(&[data.len(), 28, 28], data.images.as_slice().unwrap());
    let labels = |data: &Dataset| {
        let labels: Vec<u8> = data.labels.iter().map(|&label| label as u8).collect();
        npy::encode_u8(&[data.len(), 1], &labels)
    };
    let members = [
        ("train_images.npy", images(train)),
        ("train_labels.npy", labels(train)),
        ("test_images.npy", images(test)),
        ("test_labels.npy", labels(test)),
    ];
    let mut bytes = Vec::new();
    write_zip(&mut bytes, &members.each_ref().map(|(name, bytes)| (*name, &bytes[..]))).unwrap();
    fs::write(path, bytes).unwrap();
}

struct Session {
    files: Files,
    test: Dataset,
}

impl Session {
    fn new() -> Self {
        let files = Files::new();
        let data = dataset();
        let train = data.train.first_per_class(20).unwrap();
        let test = data.test.first_per_class(6).unwrap();
        export(&files.path("images.npz"), &train, &test);
        Session { files, test }
    }

    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tarrl"));
        command.args(line.split_whitespace()).current_dir(self.files.path(".")).output().unwrap()
    }

    #[track_caller]
    fn succeeds(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    #[track_caller]
    fn refused(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(1), "{line}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.files.path(name)).unwrap()).unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.files.path(name)).unwrap()
    }
}

/// The commands of the page.
fn commands() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bring-your-own.md");
    let page = fs::read_to_string(path).unwrap();
    let lines: Vec<String> =
        page.lines().filter_map(|line| line.strip_prefix("$ tarrl ")).map(str::to_owned).collect();
    assert!(lines.len() >= 4, "{lines:?}");
    lines
}

#[test]
fn the_commands_of_the_page_work_in_their_order() {
    let session = Session::new();
    for line in commands() {
        session.succeeds(&line);
    }

    // What was embedded are the representations of the test images in their order.
    let labels = session.archive_labels("features.npz");
    assert_eq!(labels, session.test.labels);

    // The page, and numbers that fit together.
    let page = text(&session.bytes("page/index.html"));
    for part in ["Accuracy, clean and under attack", "AutoAttack", "Certificates", "images.npz"] {
        assert!(page.contains(part), "{part}");
    }
    let results = session.json("page/results.json");
    let cells = results["cells"].as_array().unwrap();
    let accuracy = |row: &str| {
        let of = |cell: &&serde_json::Value| cell["table"] == "E1" && cell["row"] == row;
        cells.iter().find(of).unwrap_or_else(|| panic!("no {row} in {results}"))["mean"].as_f64().unwrap()
    };
    assert!(
        accuracy("AutoAttack") <= accuracy("PGD") + 1e-9,
        "AutoAttack is the stronger attack on these images"
    );

    // Every image stands under its place in the split.
    let images = session.json("page/images.json");
    let images = images.as_array().unwrap();
    assert_eq!(images.len(), 60);
    for (index, image) in images.iter().enumerate() {
        assert_eq!(
            (image["index"].as_u64(), image["label"].as_u64()),
            (Some(index as u64), Some(session.test.labels[index].into()))
        );
    }
    let attacked = images.iter().filter(|image| image["autoattack_0.015686_robust"].is_boolean());
    assert_eq!(attacked.count(), 20);
    let robust = images.iter().filter(|image| image["autoattack_0.015686_robust"] == true).count();
    assert!((accuracy("AutoAttack") - 5.0 * robust as f64).abs() < 1e-9);
    let certified: Vec<&serde_json::Value> = images
        .iter()
        .filter(|image| {
            image["certified_displacement_0.000980"].is_number()
                || image["certified_displacement_0.00098"].is_number()
        })
        .collect();
    assert_eq!(certified.len(), 2, "{images:?}");
    // A measured displacement is below the certified one.
    let table = text(&session.bytes("page/images.csv"));
    assert_eq!(table.lines().count(), 61);

    // Nothing is done again, and the same bits are written.
    let before = session.bytes("page/results.json");
    let evaluate = commands().into_iter().find(|line| line.starts_with("evaluate")).unwrap();
    let again = session.run(&evaluate);
    let notes = text(&again.stderr);
    let jobs = fs::read_dir(session.files.path("page/jobs")).unwrap().count();
    assert!(
        again.status.success() && notes.contains(&format!("{jobs} jobs, {jobs} done already")),
        "{notes}"
    );
    assert_eq!(session.bytes("page/results.json"), before);
}

/// Interrupted in every job, in the middle of an attack too, and started again each time: the page has the same bits.
#[cfg(unix)]
#[test]
fn an_interrupted_evaluation_goes_on_and_ends_with_the_same_bits() {
    let session = Session::new();
    let line = |out: &str| {
        format!(
            "evaluate encoder.safetensors --dataset images.npz --epsilon 4/255 --images 10 --samples 1 --out {out}"
        )
    };
    session.succeeds(&line("whole"));
    let jobs = fs::read_dir(session.files.path("whole/jobs")).unwrap().count();
    let count = |file: &str| {
        let folders = fs::read_dir(session.files.path("broken/jobs"));
        folders.map_or(0, |all| all.filter(|job| job.as_ref().unwrap().path().join(file).exists()).count())
    };
    let mut interrupted = 0;
    // Each round ends at the latest when one more job is done.
    for round in 0..3 * jobs {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tarrl"))
            .args(line("broken").split_whitespace())
            .current_dir(session.files.path("."))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let done = count("manifest.json");
        let clock = Instant::now();
        // A job is under way: it has its settings and no result.
        let under_way = || count("config.json") > count("manifest.json") || count("manifest.json") > done;
        while child.try_wait().unwrap().is_none() && !under_way() {
            assert!(clock.elapsed() < Duration::from_secs(300), "nothing begins in round {round}");
            sleep(Duration::from_millis(2));
        }
        // Sooner and later within a job.
        sleep(Duration::from_millis(50 * (round as u64 % 3)));
        let killed =
            Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).stderr(Stdio::null()).status();
        killed.unwrap();
        match child.wait().unwrap().code() {
            Some(75) => interrupted += 1,
            Some(0) => break,
            // The signal came before the program had a handler.
            None => {}
            other => panic!("ended with {other:?} in round {round}"),
        }
    }
    assert!(interrupted > 0, "no job was interrupted");
    session.succeeds(&line("broken"));
    for file in ["results.json", "results.csv", "images.json", "images.csv"] {
        assert!(
            session.bytes(&format!("whole/{file}")) == session.bytes(&format!("broken/{file}")),
            "{file}"
        );
    }
}

impl Session {
    fn archive_labels(&self, name: &str) -> Vec<u16> {
        // Stored members: the array of labels is found by its header.
        let bytes = self.bytes(name);
        let at = bytes.windows(10).position(|window| window == b"labels.npy").unwrap() + 10;
        let length =
            64 * usize::div_ceil(bytes[at..].windows(1).take(256).position(|b| b == b"\n").unwrap() + 1, 64);
        let n = self.test.labels.len();
        npy::parse_labels(&bytes[at..at + length + 4 * n], Path::new(name)).unwrap()
    }
}

#[test]
fn what_does_not_fit_together_is_refused_with_the_remedy() {
    let session = Session::new();
    let evaluate = "evaluate encoder.safetensors --out page --images 10";
    let nowhere = session.refused(&format!("{evaluate} --dataset nowhere.npz"));
    assert!(nowhere.contains("neither a manifest of this name"), "{nowhere}");
    let split = session.refused(&format!("{evaluate} --dataset images.npz --train-split dev"));
    assert!(split.contains("no split dev; its splits are train, test"), "{split}");
    let zero = session.refused(&format!("{evaluate} --dataset images.npz --epsilon 0"));
    assert!(zero.contains("radii above 0"), "{zero}");
    let norm = session.refused(&format!("{evaluate} --dataset images.npz --norm l0"));
    assert!(norm.contains("take linf, l2 or l1"), "{norm}");
    let severity = session.refused("embed encoder.safetensors --dataset fashion-mnist-sample --severity 2");
    assert!(severity.contains("only arrays of NumPy have severities"), "{severity}");
    let over = session.refused("embed encoder.safetensors --dataset images.npz --out images.npz");
    assert!(over.contains("is an input of this command"), "{over}");
    let teacher = session.refused("pretrain --method deacl --dataset images.npz --out own");
    assert!(teacher.contains("--teacher"), "{teacher}");
    let method = session.refused("pretrain --method nothing --dataset images.npz --out own");
    assert!(method.contains("there is no method nothing"), "{method}");
    assert!(!session.files.path("page").exists(), "nothing is written before what can be refused is");
}

/// The head of another program stands in for one that is fitted, and images of one split suffice then.
#[test]
fn a_given_head_needs_no_training_images() {
    let session = Session::new();
    let line = "evaluate encoder.safetensors --dataset images.npz --split test --head head.safetensors --images 10 --samples 1 \
                --epsilon 1/255 --out page";
    session.succeeds(line);
    let kinds: BTreeSet<String> = fs::read_dir(session.files.path("page/jobs"))
        .unwrap()
        .map(|job| {
            let config = fs::read(job.unwrap().path().join("config.json")).unwrap();
            let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
            config["kind"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["attack", "certificates", "clean", "displacement", "distances", "masking"]
    );
}
