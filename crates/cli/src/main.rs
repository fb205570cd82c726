//! The command line program `tarrl`; see `tarrl --help`.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod commands;
mod device;
mod exit_code;
mod helpers;
mod inputs;
mod limits;
mod model_options;
mod ranks;
mod signals;
mod stdout;
mod study_args;
mod workspace;

use std::process::ExitCode;

use tarrl_jobs::{JobHeld, MissingInputs, Stopped};

use crate::exit_code::{NO_INPUT, OUTPUT_CLOSED, Silent, TRY_AGAIN};
use crate::stdout::{StdoutError, note};

fn main() -> ExitCode {
    let Err(error) = cli::main().and_then(|()| Ok(stdout::flush()?)) else { return ExitCode::SUCCESS };
    if error.downcast_ref().is_some_and(StdoutError::is_closed) {
        return ExitCode::from(OUTPUT_CLOSED);
    }
    if let Some(Silent(code)) = error.downcast_ref() {
        return ExitCode::from(*code);
    }
    if error.is::<Stopped>() {
        note!("{error}");
    } else {
        note!("error: {}", tarrl_jobs::message::message(&error));
    }
    if error.is::<Stopped>() || error.is::<JobHeld>() || ranks::is_passing(&error) {
        return ExitCode::from(TRY_AGAIN);
    }
    if error.is::<MissingInputs>() { ExitCode::from(NO_INPUT) } else { ExitCode::FAILURE }
}
