//! Grids of images as SVG.

use maud::html;

use crate::canvas::{Canvas, Px, shorten, text_width};
use crate::figure::{GridRow, ImageGrid};

const MARGIN: f64 = 12.0;
const GAP: f64 = 14.0;
const HEAD: f64 = 26.0;
const CAPTION: f64 = 22.0;
const LARGEST: f64 = 148.0;

/// A grid of images: headings above, labels to the left, words below each image.
pub(crate) fn draw(grid: &ImageGrid) -> Canvas {
    let label = |row: &GridRow| text_width(&row.label, 12.0);
    let labels = grid.rows.iter().map(label).fold(0.0, f64::max).min(180.0);
    let left = if labels > 0.0 { MARGIN + labels + GAP } else { MARGIN };
    let columns = grid.columns.len().max(1) as f64;
    let side = ((720.0 - left - MARGIN) / columns - GAP).clamp(24.0, LARGEST);
    let across = |column: usize| left + column as f64 * (side + GAP);

    let mut tops = vec![MARGIN + HEAD];
    for row in &grid.rows {
        tops.push(tops[tops.len() - 1] + row_height(row, side) + CAPTION + GAP);
    }
    let width = left + columns * (side + GAP) - GAP + MARGIN;
    let height = tops[tops.len() - 1] - GAP + MARGIN;
    let markup = html! {
        @for (c, heading) in grid.columns.iter().enumerate() {
            text text-anchor="middle" x=(Px(across(c) + side / 2.0)) y=(Px(MARGIN + 13.0)) {
                title { (heading) }
                (shorten(heading, 12.0, side + GAP))
            }
        }
        @for (row, &top) in grid.rows.iter().zip(&tops) {
            text x=(Px(MARGIN)) y=(Px(top + row_height(row, side) / 2.0 + 4.0)) {
                title { (row.label) }
                (shorten(&row.label, 12.0, labels))
            }
            @for (c, (picture, caption)) in row.images.iter().enumerate() {
                @let tall = side * picture.aspect();
                image href=(picture.data_uri()) x=(Px(across(c))) y=(Px(top))
                    width=(Px(side)) height=(Px(tall)) preserveAspectRatio="none"
                    style="image-rendering:pixelated" {
                    title { (row.label) " " (grid.columns[c]) " " (caption) }
                }
                rect class="rule" fill="none" x=(Px(across(c))) y=(Px(top)) width=(Px(side)) height=(Px(tall)) {}
                text class="note soft" text-anchor="middle"
                    x=(Px(across(c) + side / 2.0)) y=(Px(top + tall + 15.0)) {
                    title { (caption) }
                    (shorten(caption, 11.0, side + GAP))
                }
            }
        }
    };
    Canvas { width, height, markup }
}

/// The grid in a sentence, for its description.
pub(crate) fn words(grid: &ImageGrid) -> String {
    let rows: Vec<String> = grid
        .rows
        .iter()
        .map(|row| {
            let captions: Vec<&str> = row.images.iter().map(|(_, caption)| caption.as_str()).collect();
            format!("{}: {}", row.label, captions.join(", "))
        })
        .collect();
    format!("Columns: {}. Rows: {}.", grid.columns.join(", "), rows.join("; "))
}

fn row_height(row: &GridRow, side: f64) -> f64 {
    row.images.iter().map(|(picture, _)| side * picture.aspect()).fold(0.0, f64::max)
}
