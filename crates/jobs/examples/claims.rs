//! Measures how fast many processes claim the jobs of one run folder: `claims FOLDER [PROCESSES [JOBS]]`.
//!
//! Every process goes through all jobs and takes what nobody holds, so that each job is claimed once and asked for by all.

use std::env::args;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tarrl_jobs::{Phase, Runs, Take};

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = args().collect();
    let folder = PathBuf::from(words.get(1).context("claims FOLDER [PROCESSES [JOBS]]")?);
    let number = |i: usize, usual: usize| words.get(i).map_or(Ok(usual), |word| word.parse());
    let (processes, jobs) = (number(2, 64)?, number(3, 5000)?);
    let runs = Runs::new(&folder, "claims");
    let go = folder.join("go");
    if words.get(4).is_some_and(|word| word == "child") {
        let claims = runs.open()?;
        while !go.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut mine = 0;
        for job in 0..jobs {
            let name = format!("job{job}");
            // As a manifest tells that a job is done.
            if claims.last(&name)?.is_some_and(|(_, record, _)| record.phase == Phase::Done) {
                continue;
            }
            if let Take::Claimed(claim) = claims.take(&name, String::new)? {
                claim.end(Phase::Done, "")?;
                mine += 1;
            }
        }
        println!("{mine}");
        return Ok(());
    }
    runs.open()?;
    ensure!(!go.exists(), "{} was used before; choose another folder", folder.display());
    let child = || {
        let arguments =
            [folder.to_str().context("UTF-8")?, &processes.to_string(), &jobs.to_string(), "child"];
        let child = Command::new(&words[0]).args(arguments).stdout(std::process::Stdio::piped()).spawn();
        child.context("cannot start a process")
    };
    let children = (0..processes).map(|_| child()).collect::<anyhow::Result<Vec<_>>>()?;
    std::thread::sleep(Duration::from_secs(2));
    let began = Instant::now();
    std::fs::write(&go, "")?;
    for child in children {
        ensure!(child.wait_with_output()?.status.success(), "a process failed");
    }
    let seconds = began.elapsed().as_secs_f64();
    let files = std::fs::read_dir(runs.claims())?.count();
    println!(
        "{jobs} jobs by {processes} processes: {seconds:.1} s, {:.0} claims a second, {:.0} jobs a second",
        files as f64 / seconds,
        jobs as f64 / seconds
    );
    Ok(())
}
