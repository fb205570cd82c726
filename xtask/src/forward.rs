//! Builds the program `tarrl` in release mode and runs it with the arguments of the caller.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Context;

use crate::root::workspace_root;

/// Runs `tarrl NAME ARGUMENTS` in the caller's folder, with the features that the arguments ask for. The name
/// `tarrl` is left out, so that `cargo xtask tarrl --help` is the program's own help.
///
/// # Errors
/// Fails if cargo cannot be started.
pub(crate) fn run<'a>(name: &str, arguments: impl Iterator<Item = &'a OsString>) -> anyhow::Result<ExitCode> {
    let name = (name != "tarrl").then(|| name.into());
    let arguments: Vec<OsString> = name.into_iter().chain(arguments.cloned()).collect();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--release", "--package", "tarrl-cli", "--bin", "tarrl", "--manifest-path"]);
    command.arg(workspace_root().join("Cargo.toml"));
    if needs_gpu(&arguments) {
        command.args(["--features", "cuda"]);
    }
    if downloads(&arguments) {
        command.args(["--features", "download"]);
    }
    let status = command.arg("--").args(arguments).status().context("cannot start cargo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Whether the command is `gpu-check` or some argument names a GPU, as `--device cuda:0` does. Without one the GPU
/// backend is not built: it takes another minute.
fn needs_gpu(arguments: &[OsString]) -> bool {
    let names_gpu = |text: &str| text.starts_with("cuda") || text.starts_with("--device=cuda");
    arguments.first().is_some_and(|command| command == "gpu-check")
        || arguments.iter().filter_map(|argument| argument.to_str()).any(names_gpu)
}

/// Whether the command is `data fetch`. No other needs an HTTP client with TLS, which takes half a minute to build.
fn downloads(arguments: &[OsString]) -> bool {
    arguments.first().is_some_and(|command| command == "data") && arguments.iter().any(|word| word == "fetch")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gpu_backend_is_built_where_a_gpu_is_named() {
        for (line, gpu) in [
            ("gpu-check --only speed", true),
            ("reproduce --device cuda:1", true),
            ("reproduce --device=cuda:0 --seeds 2", true),
            ("reproduce --device cpu", false),
            ("attack --help", false),
            ("", false),
        ] {
            let arguments: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
            assert_eq!(needs_gpu(&arguments), gpu, "{line}");
        }
    }

    #[test]
    fn the_http_client_is_built_where_something_is_fetched() {
        for (line, client) in [
            ("data fetch mnist", true),
            ("data --data elsewhere fetch mnist", true),
            ("data list", false),
            ("evaluate fetch", false),
            ("data", false),
            ("", false),
        ] {
            let arguments: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
            assert_eq!(downloads(&arguments), client, "{line}");
        }
    }
}
