//! Standard output and error: prints that return errors where `println!` panics.

use std::fmt;
use std::io::{self, Write};

/// The error of a standard output that is closed or full.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}; what was written to files is kept")]
pub(crate) struct StdoutError(io::Error);

impl StdoutError {
    /// Whether nobody reads the output any more, as in `tarrl data list | head -2`.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Prints to standard output.
///
/// # Errors
/// Fails if it is closed or full.
pub(crate) fn print(text: fmt::Arguments<'_>) -> Result<(), StdoutError> {
    io::stdout().write_fmt(text).map_err(StdoutError)
}

/// Writes out what is buffered.
///
/// # Errors
/// Fails if standard output is closed or full.
pub(crate) fn flush() -> Result<(), StdoutError> {
    io::stdout().flush().map_err(StdoutError)
}

/// `println!` that returns the error to the caller's `Result`.
macro_rules! outln {
    ($($text:tt)*) => { $crate::stdout::print(format_args!("{}\n", format_args!($($text)*)))? };
}

/// `print!` that returns the error to the caller's `Result`.
macro_rules! out {
    ($($text:tt)*) => { $crate::stdout::print(format_args!($($text)*))? };
}

/// `eprintln!` that ignores errors: a closed standard error is no reason to stop computing.
macro_rules! note {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

pub(crate) use {note, out, outln};
