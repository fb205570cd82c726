//! The command line program `tarrl`; see `tarrl --help`.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod device;
mod workspace;

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
