//! SVG documents of figures.

use maud::{PreEscaped, html};

use crate::canvas::{Px, printable};
use crate::{Drawing, Figure, chart, grid, style};

/// The figure as a whole SVG document, the same bytes each time.
///
/// It carries its own style for light and dark, a title and a description for those who do not see it,
/// and exact values as tool tips. It can be shown alone or stand inside an HTML page.
pub fn draw(figure: &Figure) -> String {
    let (drawing, words) = match &figure.drawing {
        Drawing::Chart(item) => (chart::draw(item, &figure.id), chart::words(item)),
        Drawing::Grid(item) => (grid::draw(item), grid::words(item)),
    };
    let (title, description) = (format!("{}-title", figure.id), format!("{}-description", figure.id));
    let markup = html! {
        svg xmlns="http://www.w3.org/2000/svg" class="tarrl" role="img"
            viewBox={ "0 0 " (Px(drawing.width)) " " (Px(drawing.height)) }
            width=(Px(drawing.width)) height=(Px(drawing.height))
            aria-labelledby={ (title) " " (description) } {
            title id=(title) { (figure.id) ". " (figure.title) }
            desc id=(description) { (figure.caption) " " (words) }
            style { (PreEscaped(style::SHEET)) }
            rect class="paper" width="100%" height="100%" {}
            (drawing.markup)
        }
    };
    printable(markup.into_string()) + "\n"
}
