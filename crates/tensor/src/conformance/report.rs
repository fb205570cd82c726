//! The report of a run of the suite: checks, failures, and the ops that were covered.

use crate::op::Op;
use std::collections::BTreeSet;
use std::fmt;

/// What a run of the suite found.
#[derive(Debug, Default)]
pub struct Report {
    /// The checks that were made.
    pub checks: usize,
    /// One line for each check that failed: case, check, where and by how much.
    pub failures: Vec<String>,
    /// The names of the ops that appeared in a recorded graph.
    pub covered: BTreeSet<&'static str>,
}

impl Report {
    /// The ops that no case has recorded: must be empty.
    pub fn missing(&self) -> Vec<&'static str> {
        Op::NAMES.into_iter().filter(|name| !self.covered.contains(name)).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} checks, {} failures", self.checks, self.failures.len())?;
        self.failures.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
