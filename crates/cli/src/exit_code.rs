//! Exit codes, as docs/cluster.md promises them.

/// `EX_TEMPFAIL` of sysexits.h: nothing is wrong, run it again.
pub(crate) const TRY_AGAIN: u8 = 75;

/// `EX_NOINPUT` of sysexits.h: a job needs another one that is not done.
pub(crate) const NO_INPUT: u8 = 66;

/// A rank that ends with this code and says nothing, because another one has told the user why.
#[derive(Debug, thiserror::Error)]
#[error("another rank has said why")]
pub(crate) struct Silent(pub(crate) u8);

/// What a shell reports of a program that SIGPIPE ended: nobody reads its output.
pub(crate) const OUTPUT_CLOSED: u8 = 128 + 13;
