//! Turns results into files: tables, figures and one HTML page.
//!
//! The crate knows no tensor and computes no statistic; it receives means and half-widths and sets them.
//! Everything in a report speaks of one inequality, which the page states in words above the tables:
//!
//! ```text
//! adversarial loss of h∘f  ≤  clean loss of h∘f  +  C(h) · R(f),    R(f) = E_x max_{x' in B(x)} D(f(x), f(x'))
//! ```
//!
//! The same [`Report`] gives the same bytes, wherever and whenever it is written.
//!
//! ```
//! use tarrl_report::{Best, Cell, Column, Estimate, Keys, Report, Table, write};
//!
//! let clean = Column { label: "clean".into(), best: Some(Best::Highest), ..Column::default() };
//! let mut table = Table { id: "T1".into(), title: "Robustness".into(), columns: vec![clean], ..Table::default() };
//! let estimate = Estimate { mean: 78.0, half_width: Some(0.5), n: 3 };
//! table.push_row("SimCLR", vec![Some(Cell::measured(estimate, Keys::default()))]);
//! assert!(tarrl_report::markdown::table(&table).contains("| SimCLR | 78.0 ± 0.5 |"));
//!
//! let folder = tempfile::tempdir().unwrap();
//! let report = Report { title: "A study".into(), tables: vec![table], ..Report::default() };
//! let files = write(&report, folder.path()).unwrap();
//! assert!(files.contains(&folder.path().join("index.html")));
//! ```
#![forbid(unsafe_code)]

pub mod axis;
mod canvas;
mod chart;
mod check;
mod error;
pub mod figure;
mod grid;
pub mod latex;
mod legend;
pub mod markdown;
mod page;
mod picture;
mod report;
pub mod results;
mod style;
pub mod svg;
pub mod table;
mod write;

pub use axis::{Axis, Scale};
pub use check::check;
pub use error::ReportError;
pub use figure::{Chart, Drawing, Figure, GridRow, ImageGrid, Mark, Point, Reference, Series};
pub use page::page;
pub use picture::Picture;
pub use report::{Job, Provenance, Report};
pub use table::{Best, Cell, Column, Estimate, Keys, Published, Row, Table, Value};
pub use write::write;
