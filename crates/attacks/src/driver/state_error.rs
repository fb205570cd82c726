//! Errors of resume, and the checks of what a stored run says.

/// Why an attack cannot be resumed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Of another format or version.
    #[error("attack state: it is of format {found:?}, this program reads {wanted:?}; start anew")]
    OtherFormat {
        /// What the state says.
        found: String,
        /// What is read.
        wanted: String,
    },
    /// Not what was written.
    #[error("attack state: its checksum does not fit, so that it was changed or is damaged; start anew")]
    Damaged,
    /// A shape, an index or a number that no run has.
    #[error("attack state: {0}, as no run of this program has it; start anew")]
    Invalid(String),
    /// The state is of other samples, radii, keys or limits.
    #[error(
        "attack state: it was taken of another problem; resume with the inputs, radii, keys and limits of the \
         interrupted run, or start anew"
    )]
    OtherProblem,
    /// The state is of the same attack with another configuration.
    #[error("attack state: it was taken of {found}, this is {wanted}; resume with the same configuration")]
    OtherConfig {
        /// What the state says.
        found: String,
        /// That of the run.
        wanted: String,
    },
}

/// An error unless `holds`, which says `what` of a state.
pub(crate) fn demand(holds: bool, what: &'static str) -> Result<(), StateError> {
    if holds { Ok(()) } else { Err(StateError::Invalid(what.to_owned())) }
}

/// An error unless these are positions among `n` samples, rising.
pub(crate) fn demand_positions(positions: &[usize], n: usize) -> Result<(), StateError> {
    let rising = positions.windows(2).all(|pair| pair[0] < pair[1]);
    demand(
        rising && positions.last().is_none_or(|&last| last < n),
        "positions of samples do not rise below their number",
    )
}
