//! Why a query cannot be read.

/// A VNN-LIB query that is not read, with the place of the cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct QueryError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong, and what to write.
    pub reason: String,
}
