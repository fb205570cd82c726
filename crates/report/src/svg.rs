//! SVG documents of figures.

use maud::{PreEscaped, html};

use crate::canvas::{Px, Size, printable};
use crate::{Drawing, Figure, chart, grid, style};

/// The figure as a whole SVG document, the same bytes each time. The series called `subject`, if any, is emphasized.
///
/// It carries its own style for light and dark, a title and a description for those who do not see it,
/// and exact values as tool tips. It can be shown alone or stand inside an HTML page.
pub fn draw(figure: &Figure, subject: &str) -> String {
    draw_at(figure, subject, Size::Wide)
}

/// The figure at a size; documents of both sizes can stand in one page.
pub(crate) fn draw_at(figure: &Figure, subject: &str, size: Size) -> String {
    let id = match size {
        Size::Wide => figure.id.clone(),
        Size::Narrow => format!("{}-narrow", figure.id),
    };
    let (drawing, words) = match &figure.drawing {
        Drawing::Grid(item) => (grid::draw(item), grid::words(item)),
        drawing => {
            let charts = drawing.charts();
            (chart::draw(&charts, &id, subject, size), chart::words(&charts))
        }
    };
    let (title, description) = (format!("{id}-title"), format!("{id}-description"));
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
