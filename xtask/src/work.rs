//! `cargo xtask work`: what one step of training, attack, certificate and head costs, in counts.

use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches};

use crate::root::workspace_root;

/// The arguments of `work`.
pub(crate) fn command() -> clap::Command {
    clap::Command::new("work")
        .about("Count what one step costs, and compare it with benches/work.toml")
        .arg(Arg::new("update").long("update").help("Rewrite the file").action(ArgAction::SetTrue))
}

/// Runs the test that counts, which is also the program that rewrites the file.
///
/// # Errors
/// Fails if cargo cannot be started.
pub(crate) fn run(arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--quiet", "--package", "tarrl-benches", "--test", "work"]);
    if arguments.get_flag("update") {
        command.args(["--", "--update"]);
    }
    let status = command.current_dir(workspace_root()).status().context("cannot start cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
