//! HTML page of a report, in one file without scripts.

mod details;
mod figure;
mod heading;
mod table;
mod width;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::canvas::printable;
use crate::{Drawing, Figure, Report, Table};

/// The style of the page.
const SHEET: &str = include_str!("page.css");

/// `index.html`: the whole report as one page without scripts and without any file beside it.
///
/// The first figure leads, then the claim; tables follow in their order, then other charts, images, and the details. The page
/// follows the reader's choice of light or dark, and nothing on it is wider than a phone, or on paper than the sheet.
pub fn page(report: &Report) -> String {
    let (lead, others) = report.figures.split_at(report.figures.len().min(1));
    let (images, charts): (Vec<&Figure>, Vec<&Figure>) =
        others.iter().partition(|figure| matches!(figure.drawing, Drawing::Grid(_)));
    let (details, tables): (Vec<&Table>, Vec<&Table>) = report.tables.iter().partition(|table| table.detail);
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (report.title) }
                style { (PreEscaped(SHEET)) }
            }
            body {
                header { h1 { (report.title) } }
                main {
                    @for item in lead { (figure::section(item, &report.subject)) }
                    @if !report.claim.is_empty() { p class="claim" { (report.claim) } }
                    (links(report))
                    @for item in tables { (table::section(item, &report.subject)) }
                    @for item in charts.into_iter().chain(images) { (figure::section(item, &report.subject)) }
                    (details::section(report, &details))
                }
            }
        }
    };
    printable(markup.into_string()) + "\n"
}

fn links(report: &Report) -> Markup {
    let tables = report.tables.iter().filter(|table| !table.folded).map(|table| (&table.id, &table.title));
    let figures = report.figures.iter().map(|figure| (&figure.id, &figure.title));
    html! {
        nav aria-label="Tables and figures" {
            @for (id, title) in tables.chain(figures) { a href={ "#" (id) } title=(title) { (id) } " " }
            a href="#provenance" { "details" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style;

    /// The relative luminance of a color `#rgb` or `#rrggbb` (WCAG 2.2).
    fn luminance(color: &str) -> f64 {
        let digits = color.trim_start_matches('#');
        let wide = digits.len() == 6;
        let channel = |i: usize| {
            let part = if wide { digits[2 * i..2 * i + 2].to_string() } else { digits[i..=i].repeat(2) };
            let v = f64::from(u8::from_str_radix(&part, 16).unwrap()) / 255.0;
            if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(0) + 0.7152 * channel(1) + 0.0722 * channel(2)
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// The value of the first `name` in `css`.
    fn value<'a>(css: &'a str, name: &str) -> &'a str {
        let (_, rest) = css.split_once(name).unwrap_or_else(|| panic!("{name} in {css:.60}"));
        rest.trim_start_matches([':', ' ']).split([';', '}']).next().unwrap()
    }

    /// A style sheet in light and in dark.
    fn modes(css: &str) -> [&str; 2] {
        let (light, dark) = css.split_once("prefers-color-scheme").unwrap();
        [light, dark]
    }

    #[test]
    fn text_and_lines_have_the_contrast_of_wcag_in_light_and_dark() {
        assert!((contrast("#000", "#ffffff") - 21.0).abs() < 1e-9);
        for css in modes(SHEET) {
            for paper in ["--paper", "--wash", "--own"] {
                for ink in ["--ink", "--soft", "--accent", "--mark"] {
                    let found = contrast(value(css, ink), value(css, paper));
                    assert!(found >= 4.5, "text {ink} on {paper}: {found:.2}");
                }
            }
        }
        for css in modes(style::SHEET) {
            let paper = value(css, ".paper{fill");
            for series in [".own", ".c0", ".c1", ".c2", ".c3", ".c4", ".c5", ".reference"] {
                let found = contrast(value(css, &format!("{series}{{color")), paper);
                assert!(found >= 3.0, "lines {series}: {found:.2}");
            }
        }
    }

    #[test]
    fn no_rule_asks_for_more_width_than_a_phone_has() {
        for declaration in SHEET.split([';', '{', '}']) {
            let Some((name, value)) = declaration.trim().split_once(':') else { continue };
            if !["width", "min-width"].contains(&name) {
                continue;
            }
            let value = value.trim();
            let rem = value.strip_suffix("rem").map(|v| 16.0 * v.parse::<f64>().unwrap());
            let pixels = value.strip_suffix("px").filter(|_| rem.is_none()).map(|v| v.parse().unwrap());
            // The narrowest screen has 390 pixels, of which the body pads a few.
            assert!(rem.or(pixels).unwrap_or(0.0) <= 350.0, "{name}: {value}");
        }
    }
}
