//! The command line program `tarrl`; see `tarrl --help`.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod commands;
mod device;
mod inputs;
mod limits;
mod model_flags;
mod stdout;
mod workspace;

use std::process::ExitCode;

use tarrl_study::jobs::{LockHeld, TimeIsUp};

use crate::stdout::{StdoutError, note};

/// `EX_TEMPFAIL` of sysexits.h: nothing is wrong, run it again.
const TRY_AGAIN: u8 = 75;

/// What a shell reports of a program that SIGPIPE ended: nobody reads its output.
const OUTPUT_CLOSED: u8 = 128 + 13;

fn main() -> ExitCode {
    let Err(error) = cli::main().and_then(|()| Ok(stdout::flush()?)) else { return ExitCode::SUCCESS };
    if error.downcast_ref().is_some_and(StdoutError::is_closed) {
        return ExitCode::from(OUTPUT_CLOSED);
    }
    if error.is::<TimeIsUp>() {
        note!("{error}");
    } else {
        note!("error: {}", tarrl_study::message::message(&error));
    }
    let again = error.is::<TimeIsUp>() || error.is::<LockHeld>();
    if again { ExitCode::from(TRY_AGAIN) } else { ExitCode::FAILURE }
}
