//! The program `tarrl`: see `tarrl --help`.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod device;

use std::path::Path;
use std::process::ExitCode;

/// `EX_TEMPFAIL` of sysexits.h: nothing is wrong, run it again.
const TRY_AGAIN: u8 = 75;

fn main() -> ExitCode {
    match cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<tarrl_study::jobs::TimeIsUp>() => {
            eprintln!("{error}");
            ExitCode::from(TRY_AGAIN)
        }
        Err(error) => {
            eprintln!("error: {}", tarrl_study::message::message(&error));
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository that this program was built from, where its datasets and experiments are.
fn workspace_root() -> &'static Path {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    crates.and_then(Path::parent).expect("the crate lies two folders below the root")
}
