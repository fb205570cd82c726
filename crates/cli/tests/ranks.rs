//! `tarrl pretrain` on several processes, as torchrun starts them: the same bits, and one end for all.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Starts rank `rank` of `count`; alone without a launcher.
fn start(folder: &Path, [rank, count]: [usize; 2], port: u16, options: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tarrl"));
    command.current_dir(folder).args(["pretrain", "--method", "simclr", "--dataset", "fashion-mnist-sample"]);
    command.args(["--width", "0.1", "--epochs", "1", "--batch", "40", "--shards", "4", "--threads", "1"]);
    command.args(["--out", "run", "--rank-timeout", "200"]).args(options);
    for name in ["RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_STEP_ID", "OMPI_COMM_WORLD_RANK"] {
        command.env_remove(name);
    }
    if count > 1 {
        command.env("RANK", rank.to_string()).env("WORLD_SIZE", count.to_string());
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn start_all(folder: &Path, count: usize, options: &[&str]) -> Vec<Child> {
    let port = free_port();
    (0..count).map(|rank| start(folder, [rank, count], port, options)).collect()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn end(children: Vec<Child>) -> Vec<Output> {
    children.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

fn train(folder: &Path, count: usize) {
    for (rank, output) in end(start_all(folder, count, &[])).iter().enumerate() {
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rank {rank} of {count}: {message}");
        // The first alone speaks.
        assert_eq!(rank > 0, message.is_empty() && output.stdout.is_empty(), "rank {rank}: {message}");
    }
}

fn files(folder: &Path) -> [Vec<u8>; 2] {
    ["checkpoint.safetensors", "encoder.safetensors"]
        .map(|name| std::fs::read(folder.join("run").join(name)).unwrap())
}

/// Waits until the training in the folder has taken steps.
fn wait_for_steps(folder: &Path, children: &mut [Child]) {
    let clock = Instant::now();
    let begun = || {
        std::fs::read_to_string(folder.join("run/metrics.jsonl")).is_ok_and(|text| text.lines().count() > 1)
    };
    while !begun() {
        assert!(clock.elapsed() < Duration::from_secs(300), "no step was taken");
        assert!(children.iter_mut().all(|child| child.try_wait().unwrap().is_none()), "a rank ended early");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What all ranks say, which has to be one message, and the exit code of the first.
fn one_message(outputs: &[Output]) -> (String, Option<i32>) {
    let texts: Vec<String> =
        outputs.iter().map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).collect();
    let errors = texts.iter().flat_map(|text| text.lines()).filter(|line| line.contains("error: ")).count();
    assert_eq!(errors, 1, "{texts:?}");
    assert!(texts[1..].iter().all(String::is_empty), "{texts:?}");
    (texts[0].clone(), outputs[0].status.code())
}

#[test]
fn processes_that_die_and_come_back_in_another_number_end_with_the_same_bits() {
    let (alone, ranks) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    train(alone.path(), 1);

    // The second of two is killed.
    let mut children = start_all(ranks.path(), 2, &[]);
    wait_for_steps(ranks.path(), &mut children);
    children[1].kill().unwrap();
    let outputs = end(children);
    let (message, code) = one_message(&outputs);
    assert!(message.contains("rank 1 was lost: its process has ended"), "{message}");
    assert!(message.contains("which is in the checkpoint: run/checkpoint.safetensors"), "{message}");
    assert_eq!(code, Some(75));
    assert!(!ranks.path().join("run/encoder.safetensors").exists());

    // Four go on.
    train(ranks.path(), 4);
    assert!(files(ranks.path()) == files(alone.path()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_to_one_process_stops_all_at_the_same_step() {
    let (alone, ranks) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    train(alone.path(), 1);
    let mut children = start_all(ranks.path(), 4, &[]);
    wait_for_steps(ranks.path(), &mut children);
    let id = children[2].id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    for output in end(children) {
        assert_eq!(output.status.code(), Some(75), "{}", String::from_utf8_lossy(&output.stderr));
    }
    train(ranks.path(), 2);
    assert!(files(ranks.path()) == files(alone.path()));
}

#[test]
fn processes_that_do_not_train_the_same_end_with_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let other = |rank: usize| if rank == 1 { &["--seed", "7"][..] } else { &[] };
    let (message, code) =
        one_message(&end((0..2).map(|rank| start(folder.path(), [rank, 2], port, other(rank))).collect()));
    assert!(
        message.contains("the ranks disagree: rank 1 has other settings or images than rank 0"),
        "{message}"
    );
    assert_eq!(code, Some(1));

    // What one alone meets is what the first says.
    let port = free_port();
    let other = |rank: usize| if rank == 1 { &["--split", "nothing"][..] } else { &[] };
    let (message, code) =
        one_message(&end((0..2).map(|rank| start(folder.path(), [rank, 2], port, other(rank))).collect()));
    assert!(message.contains("rank 1 ended: ") && message.contains("nothing"), "{message}");
    assert_eq!(code, Some(1));
}

#[test]
fn processes_without_shards_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tarrl"));
    command.current_dir(folder.path()).args(["pretrain", "--method", "simclr"]);
    command.args(["--dataset", "fashion-mnist-sample", "--out", "run"]);
    command.env("RANK", "0").env("WORLD_SIZE", "2").env("MASTER_ADDR", "127.0.0.1");
    let output = command.env("MASTER_PORT", port.to_string()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("give all --shards 2 or more") && output.status.code() == Some(1), "{message}");
}

/// A program without GPU backend says what it lacks, and one that has it what it has to be given.
#[test]
fn nccl_is_for_gpus() {
    let folder = tempfile::tempdir().unwrap();
    let output = end(vec![start(folder.path(), [0, 2], free_port(), &["--connect", "nccl"])]);
    let (message, code) = one_message(&output);
    assert!(message.contains("--connect nccl") && message.contains("GPU"), "{message}");
    assert_eq!(code, Some(1));
}
