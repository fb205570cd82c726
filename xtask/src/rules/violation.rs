//! A breach of a rule.

use std::fmt;

/// One breach of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Violation {
    /// File or crate.
    pub(crate) place: String,
    /// Line, counted from one, where there is one.
    pub(crate) line: Option<usize>,
    /// What is wrong, and what to do instead.
    pub(crate) message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.place, self.message),
            None => write!(f, "{}: {}", self.place, self.message),
        }
    }
}
