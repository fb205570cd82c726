//! The command line program `tarrl`; see `tarrl --help`.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod commands;
mod device;
mod inputs;
mod limits;
mod model_options;
mod signals;
mod stdout;
mod study_args;
mod workspace;

use std::process::ExitCode;

use tarrl_study::jobs::{JobHeld, MissingInputs, Stopped};

use crate::stdout::{StdoutError, note};

/// `EX_TEMPFAIL` of sysexits.h: nothing is wrong, run it again.
const TRY_AGAIN: u8 = 75;

/// `EX_NOINPUT` of sysexits.h: a job needs another one that is not done.
const NO_INPUT: u8 = 66;

/// What a shell reports of a program that SIGPIPE ended: nobody reads its output.
const OUTPUT_CLOSED: u8 = 128 + 13;

fn main() -> ExitCode {
    let Err(error) = cli::main().and_then(|()| Ok(stdout::flush()?)) else { return ExitCode::SUCCESS };
    if error.downcast_ref().is_some_and(StdoutError::is_closed) {
        return ExitCode::from(OUTPUT_CLOSED);
    }
    if error.is::<Stopped>() {
        note!("{error}");
    } else {
        note!("error: {}", tarrl_study::message::message(&error));
    }
    if error.is::<Stopped>() || error.is::<JobHeld>() {
        return ExitCode::from(TRY_AGAIN);
    }
    if error.is::<MissingInputs>() { ExitCode::from(NO_INPUT) } else { ExitCode::FAILURE }
}
