//! Standard output that is closed or full, and run folders that are taken: how the program ends.
#![cfg(unix)]

mod common;

use std::fs::File;
use std::process::{Command, Stdio};

use common::{Files, text};

fn tarrl() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tarrl"))
}

#[test]
fn a_closed_pipe_ends_quietly_with_the_code_of_sigpipe() {
    for line in
        ["data list", "reproduce --profile smoke --dry-run", "bench --all --markdown --repeats 1 --batch 2"]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = tarrl().args(line.split(' ')).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((done.status.code(), text(&done.stderr).as_str()), (Some(141), ""), "{line}");
    }
}

#[cfg(feature = "cuda")]
#[test]
fn the_check_of_a_gpu_ends_quietly_when_nobody_reads_it() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    // Where it finds no NVRTC it only says what it did not do.
    let mut command = tarrl();
    let done = command
        .args(["gpu-check", "--emulated"])
        .env_clear()
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!((done.status.code(), text(&done.stderr).as_str()), (Some(141), ""));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_output_is_an_error_with_its_cause() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let done = tarrl().args(["data", "list"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(
        text(&done.stderr).starts_with("error: cannot write to standard output: No space"),
        "{}",
        text(&done.stderr)
    );
}

#[test]
fn the_outcomes_are_in_their_file_before_the_table_is_printed() {
    let files = Files::new();
    let output = files.path("outcomes.json");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = files.command(&output, &["--epsilon", "0.01", "--attack", "fgsm"]);
    let done = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((done.status.code(), text(&done.stderr).as_str()), (Some(141), ""));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&output).unwrap()).unwrap();
    assert_eq!(report["samples"].as_array().unwrap().len(), 20);
}
