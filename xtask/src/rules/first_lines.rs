//! The first line of a module says in one sentence what the module holds.

use super::{Source, Violation};

/// Finds a module that does not begin with a sentence: `//! `, a capital letter or code, and a full stop or a colon at
/// the end of the first paragraph. A library may begin with its README instead.
pub(crate) fn first_line(source: &Source) -> Option<Violation> {
    let message = fault(&source.text)?.to_owned();
    (!source.is_test()).then(|| Violation { place: source.path.clone(), line: Some(1), message })
}

fn fault(text: &str) -> Option<&'static str> {
    if text.starts_with("#![doc = include_str!(\"../README.md\")]\n") {
        return None;
    }
    let paragraph = || text.lines().map_while(|line| line.strip_prefix("//! "));
    let Some(first) = paragraph().next() else {
        return Some("does not begin with `//! ` and a sentence that says what the module holds");
    };
    if !first.starts_with(|c: char| c.is_uppercase() || c.is_numeric() || "`[".contains(c)) {
        return Some("has a first line that begins with neither a capital letter nor code");
    }
    let ends = paragraph().last().is_some_and(|line| line.ends_with(['.', ':']));
    (!ends).then_some("has a first paragraph that is no sentence: it ends with neither `.` nor `:`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_begins_with_a_sentence() {
        for (text, good) in [
            ("//! Threat models: balls around samples.\n", true),
            ("//! `Tensor`, an array with a graph.\n\nuse x;\n", true),
            ("//! A sentence that\n//! goes on.\n//!\n//! more\n", true),
            ("#![doc = include_str!(\"../README.md\")]\n//!\n", true),
            ("use x;\n", false),
            ("", false),
            ("// Threat models.\n", false),
            ("//! threat models.\n", false),
            ("//! Threat models\n//!\n//! more.\n", false),
            ("#![forbid(unsafe_code)]\n//! Threat models.\n", false),
        ] {
            assert_eq!(fault(text).is_none(), good, "{text}");
        }
    }

    #[test]
    fn test_files_may_begin_as_they_like() {
        for (path, faults) in [("crates/data/src/a.rs", true), ("crates/data/tests/a.rs", false)] {
            assert_eq!(first_line(&Source::new("data", path, String::new())).is_some(), faults);
        }
    }
}
