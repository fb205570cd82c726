//! `cargo xtask check`: formatting, lints, documentation and the rules of the workspace.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;

use crate::root::workspace_root;
use crate::rules::invariants;

const EXAMPLES: &str = "\
Examples:
  cargo xtask check                  everything, as the continuous integration does it
  cargo xtask check --only rules     only the rules of the workspace, in a moment

The rules of the workspace are: which crate may depend on which; `unsafe` in the backends alone; files and environment
only where they belong; no hidden state and no hidden randomness; no file over 600 lines, no crate over 9,000; no circle
between files; modules that begin with a sentence; American spelling; no private words; no exports without users.";

/// Check formatting, lints, documentation and the rules of the workspace
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.")]
pub(crate) struct Check {
    /// Only these steps
    #[arg(long, value_name = "STEP,..", value_enum, value_delimiter = ',')]
    only: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Step {
    /// cargo fmt --check
    Format,
    /// The rules of the workspace
    Rules,
    /// cargo clippy with warnings denied
    Lints,
    /// cargo doc with warnings denied
    Docs,
}

impl Check {
    /// Runs every step even if an earlier one failed, so that one run shows everything; the quick ones come first.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut failed = Vec::new();
        for step in [Step::Format, Step::Rules, Step::Lints, Step::Docs] {
            if !self.only.is_empty() && !self.only.contains(&step) {
                continue;
            }
            println!("== {}", step.title());
            let started = Instant::now();
            match step.run() {
                Ok(()) => println!("   passed in {:.1} s", started.elapsed().as_secs_f64()),
                Err(error) => {
                    println!("   FAILED: {error:#}");
                    failed.push(step.title());
                }
            }
        }
        if failed.is_empty() { Ok(()) } else { bail!("{} failed; see above", failed.join(", ")) }
    }
}

impl Step {
    fn title(self) -> &'static str {
        match self {
            Self::Format => "formatting",
            Self::Rules => "rules of the workspace",
            Self::Lints => "lints",
            Self::Docs => "documentation",
        }
    }

    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Format => cargo("fmt --all --check", "run `cargo fmt --all`"),
            Self::Rules => rules(),
            Self::Lints => {
                cargo("clippy --workspace --all-targets -- -D warnings", "see the warnings")?;
                // What is compiled for a GPU only.
                cargo(
                    "clippy --package tarrl-cli --features cuda --all-targets -- -D warnings",
                    "see the warnings",
                )
            }
            Self::Docs => cargo("doc --workspace --no-deps", "see the warnings"),
        }
    }
}

fn cargo(arguments: &str, remedy: &str) -> anyhow::Result<()> {
    let status =
        command(arguments).env("RUSTDOCFLAGS", "-D warnings").status().context("cannot start cargo")?;
    if status.success() { Ok(()) } else { bail!("`cargo {arguments}` failed; {remedy}") }
}

fn rules() -> anyhow::Result<()> {
    let metadata = command("metadata --format-version 1 --no-deps").stderr(Stdio::inherit()).output()?;
    if !metadata.status.success() {
        bail!("`cargo metadata` failed");
    }
    let findings = invariants(workspace_root(), &serde_json::from_slice(&metadata.stdout)?)?;
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

/// Cargo hands its own path to the programs that it runs; alone, this program takes the one in the search path.
fn command(arguments: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments.split(' ')).current_dir(workspace_root());
    command
}
