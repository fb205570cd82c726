//! `cargo xtask`: the checks of this repository, and a shortcut to the program `tarrl`.
//!
//! It depends on none of the other crates, so that it builds in seconds; every other command builds the program in
//! release mode, with cargo's own progress visible, and runs it.

#![forbid(unsafe_code)]

mod check;
mod forward;
mod root;
mod rules;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  cargo xtask reproduce                    the whole study, about a quarter of an hour on two cores
  cargo xtask reproduce --profile smoke    every part once at toy size, under a minute
  cargo xtask attack --help                what `tarrl attack` takes
  cargo xtask check                        formatting, lints, documentation and the rules of the workspace

Every command but `check` is one of the program `tarrl` (crates/cli), which is built first.
`cargo xtask tarrl --help` lists its commands.";

/// The checks of this repository, and a shortcut to the program `tarrl`.
#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Check),
    /// Any command of `tarrl`, such as reproduce, attack, certify, bound, data, bench, gpu-check
    #[command(external_subcommand)]
    Forward(Vec<OsString>),
}

fn main() -> ExitCode {
    let result = match Xtask::parse().command {
        Command::Check(check) => check.run().map(|()| ExitCode::SUCCESS),
        Command::Forward(arguments) => forward::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Xtask::command().debug_assert();
    }

    #[test]
    fn other_commands_and_their_options_are_passed_on() {
        let parsed = Xtask::try_parse_from(["xtask", "reproduce", "--profile", "smoke", "--help"]).unwrap();
        let Command::Forward(arguments) = parsed.command else { panic!("check") };
        assert_eq!(arguments, ["reproduce", "--profile", "smoke", "--help"]);
    }
}
