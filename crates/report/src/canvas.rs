//! SVG canvas: sizes, coordinates, text widths and escaping that all drawings share.

use maud::{Markup, Render};

/// What fills an SVG, and its size in pixels.
pub(crate) struct Canvas {
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) markup: Markup,
}

/// How much room a figure has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Panels side by side, at most 1080 pixels wide.
    Wide,
    /// Panels one below the other, 360 pixels wide: a phone.
    Narrow,
}

/// A coordinate, written with at most two decimals.
pub(crate) struct Px(pub(crate) f64);

impl Render for Px {
    fn render_to(&self, buffer: &mut String) {
        buffer.push_str(&px(self.0));
    }
}

/// A coordinate with at most two decimals, for the `d` of a path.
pub(crate) fn px(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0 + 0.0;
    rounded.to_string()
}

/// An estimate from above of the width of `text` in a sans-serif of that size in pixels.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    let em = |c: char| match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | ' ' | '(' | ')' => 0.36,
        'm' | 'w' | 'M' | 'W' | '%' => 0.95,
        c if (c as u32) > 0x2e80 => 1.0,
        _ => 0.62,
    };
    text.chars().map(em).sum::<f64>() * size
}

/// `text`, cut with "…" if it is wider than `width` pixels.
pub(crate) fn shorten(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_string();
    }
    let mut short = String::new();
    for c in text.chars() {
        if text_width(&short, size) + text_width(&c.to_string(), size) + size > width {
            break;
        }
        short.push(c);
    }
    short.trim_end().to_string() + "…"
}

/// Replaces the characters that XML 1.0 forbids even in escaped form.
pub(crate) fn printable(text: String) -> String {
    let forbidden = |c: char| (c < ' ' && !"\t\n\r".contains(c)) || c == '\u{fffe}' || c == '\u{ffff}';
    if text.contains(forbidden) { text.replace(forbidden, "\u{fffd}") } else { text }
}
