//! `cargo xtask check`: formatting, lints, documentation, packages and the rules of the workspace.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, ArgAction, ArgMatches};
use serde_json::Value;

use crate::root::workspace_root;
use crate::rules::invariants;
use crate::tools::{self, dependencies};

const EXAMPLES: &str = "\
Examples:
  cargo xtask check                  everything, as the continuous integration does it
  cargo xtask check --only rules     only the rules of the workspace, in a moment

The rules of the workspace are: which crate may depend on which; `unsafe` in the backends alone; files and environment
only where they belong; no hidden state and no hidden randomness; no file over 600 lines, no crate over 9,000; no circle
between files; modules that begin with a sentence; American spelling; no private words; no exports without users.
Dependencies need cargo-deny and the oldest Rust its toolchain; a step whose tool is missing says so and passes.";

/// One step of the check.
struct Step {
    /// What `--only` calls it.
    name: &'static str,
    /// What it is called in the output.
    title: &'static str,
    help: &'static str,
    run: fn() -> anyhow::Result<()>,
}

/// The quick ones come first.
const STEPS: [Step; 7] = [
    Step { name: "format", title: "formatting", help: "cargo fmt --check", run: formatting },
    Step { name: "rules", title: "rules of the workspace", help: "The rules of the workspace", run: rules },
    Step { name: "packages", title: "packages", help: "cargo package of every library crate", run: packages },
    Step {
        name: "dependencies",
        title: "dependencies",
        help: "cargo deny, where installed",
        run: dependencies,
    },
    Step { name: "lints", title: "lints", help: "cargo clippy with warnings denied", run: lints },
    Step { name: "docs", title: "documentation", help: "cargo doc with warnings denied", run: docs },
    Step {
        name: "oldest",
        title: "oldest Rust",
        help: "cargo check on it, where installed",
        run: oldest_rust,
    },
];

/// The arguments of `check`.
pub(crate) fn command() -> clap::Command {
    let steps = STEPS.map(|step| PossibleValue::new(step.name).help(step.help));
    let only = Arg::new("only")
        .long("only")
        .value_name("STEP,..")
        .help("Only these steps")
        .value_parser(PossibleValuesParser::new(steps))
        .value_delimiter(',')
        .action(ArgAction::Append);
    clap::Command::new("check")
        .about("Check formatting, lints, documentation, packages and the rules of the workspace")
        .after_help("`--help` shows examples.")
        .after_long_help(EXAMPLES)
        .arg(only)
}

/// Runs every step even if an earlier one failed, so that one run shows everything.
pub(crate) fn run(arguments: &ArgMatches) -> anyhow::Result<()> {
    let only: Vec<&String> = arguments.get_many("only").unwrap_or_default().collect();
    let mut failed = Vec::new();
    for step in STEPS.iter().filter(|step| only.is_empty() || only.iter().any(|name| *name == step.name)) {
        println!("== {}", step.title);
        let started = Instant::now();
        match (step.run)() {
            Ok(()) => println!("   passed in {:.1} s", started.elapsed().as_secs_f64()),
            Err(error) => {
                println!("   FAILED: {error:#}");
                failed.push(step.title);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("{} failed; see above", failed.join(", ")) }
}

fn formatting() -> anyhow::Result<()> {
    cargo("fmt --all --check", "run `cargo fmt --all`")
}

fn lints() -> anyhow::Result<()> {
    cargo("clippy --workspace --all-targets -- -D warnings", "see the warnings")?;
    // What is compiled for a GPU only.
    cargo("clippy --package tarrl-cli --features cuda --all-targets -- -D warnings", "see the warnings")
}

fn docs() -> anyhow::Result<()> {
    cargo("doc --workspace --no-deps", "see the warnings")
}

/// Packages all libraries together, because none of them is in a registry, and does not build the packages: the
/// workspace has been built from the same files.
fn packages() -> anyhow::Result<()> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let published = packages.iter().filter(|package| package["publish"].is_null());
    let mut arguments = "package --no-verify --allow-dirty".to_owned();
    for name in published.filter_map(|package| package["name"].as_str()) {
        arguments += &format!(" --package {name}");
    }
    let output = command_of(&arguments).output().context("cannot start cargo")?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{}", String::from_utf8_lossy(&output.stderr).trim_end())
}

fn cargo(arguments: &str, remedy: &str) -> anyhow::Result<()> {
    let status =
        command_of(arguments).env("RUSTDOCFLAGS", "-D warnings").status().context("cannot start cargo")?;
    if status.success() { Ok(()) } else { bail!("`cargo {arguments}` failed; {remedy}") }
}

fn rules() -> anyhow::Result<()> {
    let findings = invariants(workspace_root(), &metadata()?)?;
    for note in &findings.notes {
        println!("   note: {note}");
    }
    for violation in &findings.violations {
        println!("   {violation}");
    }
    match findings.violations.len() {
        0 => Ok(()),
        1 => bail!("a rule is broken"),
        n => bail!("rules are broken in {n} places"),
    }
}

fn oldest_rust() -> anyhow::Result<()> {
    tools::oldest_rust(&metadata()?)
}

/// What cargo knows of the packages of the workspace.
fn metadata() -> anyhow::Result<Value> {
    let metadata = command_of("metadata --format-version 1 --no-deps").stderr(Stdio::inherit()).output()?;
    if !metadata.status.success() {
        bail!("`cargo metadata` failed");
    }
    Ok(serde_json::from_slice(&metadata.stdout)?)
}

/// Cargo hands its own path to the programs that it runs; alone, this program takes the one in the search path.
fn command_of(arguments: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments.split(' ')).current_dir(workspace_root());
    command
}
