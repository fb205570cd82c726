//! Grids of images as SVG.

use maud::html;

use crate::canvas::{Canvas, Px, shorten, text_width};
use crate::figure::{GridRow, ImageGrid};

const MARGIN: f64 = 12.0;
const GAP: f64 = 14.0;
const HEAD: f64 = 26.0;
const LINE: f64 = 14.0;
const LARGEST: f64 = 148.0;

/// A grid of images: headings above, labels to the left, words below each image.
pub(crate) fn draw(grid: &ImageGrid) -> Canvas {
    let label = |row: &GridRow| text_width(&row.label, 12.0);
    let labels = grid.rows.iter().map(label).fold(0.0, f64::max).min(180.0);
    let left = if labels > 0.0 { MARGIN + labels + GAP } else { MARGIN };
    let columns = grid.columns.len().max(1) as f64;
    let side = ((720.0 - left - MARGIN) / columns - GAP).clamp(24.0, LARGEST);
    let across = |column: usize| left + column as f64 * (side + GAP);

    let head = if grid.columns.iter().all(String::is_empty) { 0.0 } else { HEAD };
    let mut tops = vec![MARGIN + head];
    for row in &grid.rows {
        let lines = row.images.iter().map(|(_, caption)| caption.lines().count()).max().unwrap_or(0);
        tops.push(tops[tops.len() - 1] + row_height(row, side) + lines as f64 * LINE + GAP);
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
                @for (i, line) in caption.lines().enumerate() {
                    text class="note soft" text-anchor="middle"
                        x=(Px(across(c) + side / 2.0)) y=(Px(top + tall + 13.0 + i as f64 * LINE)) {
                        title { (caption) }
                        (shorten(line, 11.0, side + GAP))
                    }
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
            format!("{}: {}", row.label, captions.join(", ").replace('\n', " "))
        })
        .collect();
    let columns: Vec<&str> =
        grid.columns.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    let columns =
        if columns.is_empty() { String::new() } else { format!("Columns: {}. ", columns.join(", ")) };
    format!("{columns}Rows: {}.", rows.join("; "))
}

fn row_height(row: &GridRow, side: f64) -> f64 {
    row.images.iter().map(|(picture, _)| side * picture.aspect()).fold(0.0, f64::max)
}
