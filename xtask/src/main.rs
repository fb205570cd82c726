//! `cargo xtask`: see `cargo xtask --help`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// `EX_TEMPFAIL` of sysexits.h: nothing is wrong, run it again.
const TRY_AGAIN: u8 = 75;

fn main() -> ExitCode {
    match xtask::cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<xtask::jobs::TimeIsUp>() => {
            eprintln!("{error}");
            ExitCode::from(TRY_AGAIN)
        }
        Err(error) => {
            eprintln!("error: {}", xtask::message::message(&error));
            ExitCode::FAILURE
        }
    }
}
