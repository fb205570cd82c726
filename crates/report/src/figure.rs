//! Figures as data: charts, panels of charts and grids of images.

use crate::{Axis, Picture};

/// A figure with its words.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Short name such as "F1", also its file name: letters, digits, '-' and '_'.
    pub id: String,
    /// Heading.
    pub title: String,
    /// What it shows and how to read it.
    pub caption: String,
    /// The drawing.
    pub drawing: Drawing,
}

/// What a figure draws.
#[derive(Clone, Debug)]
pub enum Drawing {
    /// Points and lines over two axes.
    Chart(Chart),
    /// Charts side by side, each under a heading such as "ε = 0.1", with one legend: series of the same label look the same.
    Panels(Vec<(String, Chart)>),
    /// Rows of small images.
    Grid(ImageGrid),
}

/// Points and lines over two axes.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// What is drawn, one color and marker each.
    pub series: Vec<Series>,
    /// Lines to compare with, such as chance or `y = x`.
    pub references: Vec<Reference>,
}

/// Points that belong together.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Name in the legend.
    pub label: String,
    /// Points in drawing order.
    pub points: Vec<Point>,
    /// How they are drawn.
    pub mark: Mark,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// A line with markers and its interval as a band: accuracy against ε.
    #[default]
    Band,
    /// A line with markers and intervals as bars: a path in a plane.
    Path,
    /// Markers and bars only: a scatter.
    Points,
    /// A line alone: steps.
    Line,
}

/// A point of a series.
#[derive(Clone, Debug, Default)]
pub struct Point {
    /// Horizontal value.
    pub x: f64,
    /// Vertical value.
    pub y: f64,
    /// Half-width of the 95 % interval of `y`, if there is one.
    pub half_width: Option<f64>,
    /// Written beside the point if not empty, such as "λ = 8".
    pub label: String,
}

/// The line `y = intercept + slope · x`.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Name in the legend.
    pub label: String,
    /// Rise per unit of x.
    pub slope: f64,
    /// Value at x = 0.
    pub intercept: f64,
}

/// Images in rows, for example one attacked sample per row.
#[derive(Clone, Debug, Default)]
pub struct ImageGrid {
    /// Headings, one per column, such as "clean", "perturbation × 10", "attacked"; may all be empty.
    pub columns: Vec<String>,
    /// Rows from top to bottom.
    pub rows: Vec<GridRow>,
}

/// A row of a grid.
#[derive(Clone, Debug, Default)]
pub struct GridRow {
    /// Written to the left of the row.
    pub label: String,
    /// An image and the words below it, one per column; the words may have several lines.
    pub images: Vec<(Picture, String)>,
}

impl Drawing {
    /// The charts of a figure and the headings above them; none for a grid.
    pub(crate) fn charts(&self) -> Vec<(&str, &Chart)> {
        match self {
            Drawing::Chart(chart) => vec![("", chart)],
            Drawing::Panels(panels) => panels.iter().map(|(name, chart)| (name.as_str(), chart)).collect(),
            Drawing::Grid(_) => Vec::new(),
        }
    }
}

impl Reference {
    /// The level `y`, such as the accuracy of chance.
    pub fn level(y: f64, label: impl Into<String>) -> Self {
        Self { label: label.into(), slope: 0.0, intercept: y }
    }

    /// The line `y = x`, on which measured and bound would be equal.
    pub fn identity(label: impl Into<String>) -> Self {
        Self { label: label.into(), slope: 1.0, intercept: 0.0 }
    }
}
