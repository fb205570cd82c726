//! The program itself: exit codes and messages, as a user meets them.

use std::path::Path;
use std::process::{Command, Output};

fn tarrl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tarrl")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_dry_run_prints_the_jobs_and_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("runs");
    let output = tarrl(&["reproduce", "--profile", "smoke", "--dry-run", "--out", path(&out)]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let plan = text(&output.stdout);
    let row = |line: &str| line.split_whitespace().skip(1).take(4).collect::<Vec<_>>().join(" ");
    assert!(plan.lines().any(|line| row(line) == "data fashion-mnist-sample to do"), "{plan}");
    assert!(!out.exists());
}

#[test]
fn an_unwritable_place_is_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = tarrl(&["reproduce", "--profile", "smoke", "--out", path(&file)]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(
        message.starts_with(&format!("error: cannot write to {}", file.join("smoke").display())),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn a_run_folder_that_cannot_be_read_is_named_with_the_option() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for verb in [&["jobs"][..], &["submit", "--engine", "slurm", "--dry-run"]] {
        let output = tarrl(&[verb, &["--profile", "smoke", "--out", path(&file)]].concat());
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        let place = format!("cannot read the run folder {}", file.join("smoke").display());
        assert!(message.contains(&place) && message.contains("--out DIR"), "{message}");
    }
}

/// Slurm reads `#SBATCH` lines by itself: what would have to be quoted there is refused.
#[test]
fn paths_that_engines_would_misread_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a b", "a%j", "a\"b", "a'b", "a\\b"] {
        let out = folder.path().join(name);
        let output =
            tarrl(&["submit", "--engine", "slurm", "--dry-run", "--profile", "smoke", "--out", path(&out)]);
        let message = text(&output.stderr);
        assert!(
            output.status.code() == Some(1) && message.contains("in the path of their logs"),
            "{name}: {message}"
        );
    }
}

#[test]
fn a_misspelled_profile_is_answered_with_its_neighbor() {
    let output = tarrl(&["reproduce", "--profile", "defualt"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("did you mean `default`?"), "{}", text(&output.stderr));
}

#[test]
fn faulty_options_have_an_exit_code_of_their_own() {
    assert_eq!(tarrl(&["reproduce", "--seeds", "0"]).status.code(), Some(2));
    assert_eq!(tarrl(&["reproduce", "--only", "T99"]).status.code(), Some(2));
}

#[test]
fn the_datasets_are_listed() {
    let output = tarrl(&["data", "list"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("10000 + 2000 images of 28×28×1, 10 classes"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn an_import_says_what_it_misses() {
    let folder = tempfile::tempdir().unwrap();
    let output = tarrl(&["data", "import", path(folder.path())]);
    assert!(
        text(&output.stderr).contains("say which it is with --as, one of cifar10"),
        "{}",
        text(&output.stderr)
    );
    let data = folder.path().join("data");
    let output = tarrl(&["data", "--data", path(&data), "import", path(folder.path()), "--as", "mnist"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!data.exists());
}

/// No test goes to the network, so this one is about the program without an HTTP client.
#[cfg(not(feature = "download"))]
#[test]
fn fetching_without_an_http_client_names_the_remedies() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let output = tarrl(&["data", "--data", path(&data), "fetch", "cifar10"]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    for part in ["built without downloads", "`cargo xtask data fetch cifar10`", "--features download", "put "]
    {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    assert!(!data.exists());
    // What lies there already needs no client.
    let output = tarrl(&["data", "fetch", "fashion-mnist-sample"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_workload_is_timed_and_reported_as_json() {
    let options =
        ["bench", "--workload", "train:conv-small", "--batch", "2", "--repeats", "2", "--threads", "1"];
    let output = tarrl(&[&options[..], &["--json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let row: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&row["workload"], &row["batch"], &row["threads"]),
        (&"train:conv-small".into(), &2.into(), &1.into())
    );
    let number = |name: &str| row[name].as_f64().unwrap();
    let seconds = number("median_s");
    assert!(seconds > 0.0);
    let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-12;
    assert!(close(number("images_per_s"), 2.0 / seconds));
    assert!(close(number("gflops"), 2.0 * 3.0 * 2.0 * 14_676_480e-9 / seconds));
}

#[test]
fn a_task_is_only_timed_beside_other_programs() {
    let output = tarrl(&["bench", "--task", "probe"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("add --peers"), "{}", text(&output.stderr));
    let output = tarrl(&["bench", "--task", "attack", "--peers"]);
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(message.contains("take one of autoattack, certify, probe, augment"), "{message}");
}

#[test]
fn all_workloads_make_a_table() {
    let output = tarrl(&["bench", "--all", "--markdown", "--batch", "2", "--repeats", "1"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    let rows: Vec<_> =
        table.lines().filter(|line| line.contains(":conv-small") || line.contains(":resnet18")).collect();
    assert_eq!(rows.len(), 8, "{table}");
    assert!(rows.iter().all(|row| row.matches('|').count() == 7 && row.contains("| 2 |")), "{table}");
}
