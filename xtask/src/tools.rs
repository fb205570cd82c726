//! Checks by tools that need not be installed: dependencies by cargo-deny, and the build on the oldest Rust. One that is
//! missing is said in a line of its own, and fails nothing.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::root::workspace_root;

/// Licenses, duplicates and sources of all dependencies by deny.toml, and advisories where their database can be fetched.
pub(crate) fn dependencies() -> anyhow::Result<()> {
    if !succeeds("cargo-deny", &["--version"]) {
        println!("   did not run: cargo-deny is not installed (cargo install cargo-deny --locked)");
        return Ok(());
    }
    let mut arguments = vec!["--log-level", "error", "check", "licenses", "bans", "sources"];
    if succeeds("cargo-deny", &["fetch", "db"]) {
        arguments.push("advisories");
    } else {
        println!("   advisories did not run: their database cannot be fetched");
    }
    let status = command("cargo-deny", &arguments).status().context("cannot start cargo-deny")?;
    if status.success() { Ok(()) } else { bail!("deny.toml refuses a dependency; see above") }
}

/// A build of everything with the oldest Rust that Cargo.toml allows, in a folder of its own below the target folder.
pub(crate) fn oldest_rust(metadata: &Value) -> anyhow::Result<()> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let oldest = packages.iter().find_map(|package| package["rust_version"].as_str());
    let oldest = oldest.context("Cargo.toml names no `rust-version`")?;
    // A toolchain has three numbers where a version in Cargo.toml may have two.
    let toolchain = if oldest.matches('.').count() == 1 { format!("{oldest}.0") } else { oldest.to_owned() };
    if !succeeds("rustup", &["run", &toolchain, "cargo", "--version"]) {
        println!("   did not run: Rust {toolchain} is not installed (rustup toolchain install {toolchain})");
        return Ok(());
    }
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
    let target = format!("{target}/oldest-rust");
    let check = ["check", "--quiet", "--workspace", "--all-targets", "--locked", "--target-dir", &target];
    let arguments = [&["run", &toolchain, "cargo"][..], &check].concat();
    // Cargo hands its own compiler to the programs that it runs.
    let mut build = command("rustup", &arguments);
    let status = build.env_remove("CARGO").env_remove("RUSTC").status().context("cannot start rustup")?;
    if status.success() { Ok(()) } else { bail!("Rust {toolchain} does not build this; see above") }
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = command(program, arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(workspace_root());
    command
}
