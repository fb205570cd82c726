//! Figures on the page: charts for wide and narrow screens, and images as HTML.

use maud::{Markup, PreEscaped, html};

use super::heading::heading;
use crate::canvas::Size;
use crate::chart::brief;
use crate::svg::draw_at;
use crate::{Drawing, Figure, GridRow, ImageGrid};

/// A figure with its heading, caption and numbers.
pub(super) fn section(figure: &Figure, subject: &str) -> Markup {
    html! {
        section id=(figure.id) {
            (heading(&figure.id, &figure.title))
            figure {
                @match &figure.drawing {
                    Drawing::Grid(grid) => (images(grid, subject)),
                    _ => {
                        div class="wide" { (PreEscaped(draw_at(figure, subject, Size::Wide))) }
                        div class="narrow" { (PreEscaped(draw_at(figure, subject, Size::Narrow))) }
                    }
                }
                figcaption {
                    (figure.caption) " "
                    a href={ "figures/" (figure.id) ".svg" } { "SVG" }
                }
            }
            @if !figure.drawing.charts().is_empty() { (points(figure)) }
        }
    }
}

/// The numbers behind the charts, for those who read rather than look.
fn points(figure: &Figure) -> Markup {
    html! {
        details {
            summary { "Numbers" }
            @for (heading, chart) in figure.drawing.charts() {
                table class="numbers" {
                    caption { (figure.id) @if !heading.is_empty() { ", " (heading) } }
                    thead {
                        tr {
                            th class="stub" scope="col" { "series" }
                            @for title in [&chart.x.title, &chart.y.title] { th scope="col" { (title) } }
                            th scope="col" { "±" }
                        }
                    }
                    tbody {
                        @for series in &chart.series {
                            @for point in &series.points {
                                tr {
                                    th scope="row" {
                                        (series.label)
                                        @if !point.label.is_empty() { ", " (point.label) }
                                    }
                                    td { (brief(point.x)) }
                                    td { (brief(point.y)) }
                                    td { (point.half_width.map_or("–".to_string(), brief)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Rows of images that wrap where they would not fit.
fn images(grid: &ImageGrid, subject: &str) -> Markup {
    let own = |row: &GridRow| !subject.is_empty() && row.label.starts_with(&format!("{subject}:"));
    html! {
        @for row in &grid.rows {
            div class={ "images" @if own(row) { " own" } } {
                div class="label" { (row.label) }
                @for ((picture, caption), column) in row.images.iter().zip(&grid.columns) {
                    div class="image" {
                        img src=(picture.data_uri()) alt={ (row.label) ", " (column) " " (caption.replace('\n', " ")) };
                        @if !column.is_empty() { div { (column) } }
                        div { (caption) }
                    }
                }
            }
        }
    }
}
