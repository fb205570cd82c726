//! Errors of writing a report.

use std::path::PathBuf;

/// Why a report was not written. Each message names the place, the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A number of a table that no reader could trust.
    #[error(
        "table {table}, row {row:?}, column {column:?}: {cause}; leave the cell out to show it as missing"
    )]
    Cell {
        /// Id of the table.
        table: String,
        /// Label of the row.
        row: String,
        /// Name of the column, as in `results.csv`.
        column: String,
        /// What is wrong with which number.
        cause: String,
    },
    /// Our own figures and figures of others in one column.
    #[error(
        "table {table}, column {column:?}: measured and published figures in one column; \
         give the published ones a column of their own"
    )]
    Mixed {
        /// Id of the table.
        table: String,
        /// Name of the column.
        column: String,
    },
    /// Two things that must be told apart have the same name.
    #[error("{place}: {name:?} occurs twice; rename one of the two")]
    Duplicate {
        /// Where it was found.
        place: String,
        /// The repeated name.
        name: String,
    },
    /// An id that cannot be an anchor and a file name.
    #[error("the id {id:?} is used as a file name; use letters, digits, '-' and '_' only")]
    Id {
        /// The id as given.
        id: String,
    },
    /// A number of a figure that cannot be drawn.
    #[error("figure {figure}, {place}: {cause}; leave the value out or mend its source")]
    Figure {
        /// Id of the figure.
        figure: String,
        /// The series and point, the axis or the reference line.
        place: String,
        /// What is wrong with which number.
        cause: String,
    },
    /// A file or folder that could not be written. Files already in place are whole.
    #[error(
        "cannot write {path}: {source}; choose a folder that you may write to and that has room, then run again"
    )]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
