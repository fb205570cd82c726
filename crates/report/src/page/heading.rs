//! Headings of sections of the page.

use maud::{Markup, html};

/// The heading of a table or figure, with its id where that is a letter with a number, such as "T1".
pub(super) fn heading(id: &str, title: &str) -> Markup {
    let numbered = id.len() > 1 && id[1..].chars().all(|c| c.is_ascii_digit());
    html! { h2 { @if numbered { span class="id" { (id) } } (title) } }
}
