#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod axis;
mod canvas;
mod chart;
mod check;
mod error;
pub mod figure;
mod grid;
mod label;
pub mod latex;
mod legend;
pub mod markdown;
mod page;
mod picture;
mod plot;
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
pub use table::{Best, Cell, Column, Estimate, Heading, Keys, Published, Row, Table, Value};
pub use write::{prepare, write};
