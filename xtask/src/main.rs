//! `cargo xtask`: the checks of this repository, and a shortcut to the program `tarrl`.
//!
//! It depends on none of the other crates, so that it builds in seconds; every other command builds the program in
//! release mode, with cargo's own progress visible, and runs it.

#![forbid(unsafe_code)]

mod check;
mod forward;
mod root;
mod rules;
mod tools;
mod work;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Command, value_parser};

const EXAMPLES: &str = "\
Examples:
  cargo xtask reproduce                    the whole study, five to fifteen minutes on two cores
  cargo xtask reproduce --profile smoke    every part once at toy size, about two minutes
  cargo xtask attack --help                what `tarrl attack` takes
  cargo xtask check                        formatting, lints, documentation, packages and the rules of the workspace
  cargo xtask work                         what one step of training, attack and certificate costs, in counts

Every command but `check` and `work` is one of the program `tarrl` (crates/cli), such as reproduce, attack, certify, bound, data,
bench and gpu-check; it is built first. `cargo xtask tarrl --help` lists them.";

/// The arguments are declared without clap's derive macro, which would take half of the time of a first build.
fn command() -> Command {
    Command::new("xtask")
        .bin_name("cargo xtask")
        .version(env!("CARGO_PKG_VERSION"))
        .about("The checks of this repository, and a shortcut to the program `tarrl`")
        .after_help(EXAMPLES)
        .arg_required_else_help(true)
        .subcommand(check::command())
        .subcommand(work::command())
        .allow_external_subcommands(true)
        .external_subcommand_value_parser(value_parser!(OsString))
}

fn main() -> ExitCode {
    let arguments = command().get_matches();
    let result = match arguments.subcommand() {
        Some(("check", check)) => check::run(check).map(|()| ExitCode::SUCCESS),
        Some(("work", work)) => work::run(work),
        Some((name, rest)) => forward::run(name, rest.get_many("").unwrap_or_default()),
        None => unreachable!("clap shows its help"),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn other_commands_and_their_options_are_passed_on() {
        let line = ["xtask", "reproduce", "--profile", "smoke", "--help"];
        let parsed = command().try_get_matches_from(line).unwrap();
        let (name, rest) = parsed.subcommand().unwrap();
        let rest: Vec<_> =
            rest.get_many::<OsString>("").unwrap().map(|word| word.to_str().unwrap()).collect();
        assert_eq!((name, &rest[..]), ("reproduce", &line[2..]));
    }
}
