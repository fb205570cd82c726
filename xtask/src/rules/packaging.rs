//! What makes a crate a package of its own: its size, and no file of another folder built into it.

use std::path::{Component, Path};

use super::{Crate, Source, Violation};

/// The longest crate that is allowed, in lines of Rust without the files that only serve tests.
const LARGEST: usize = 9000;

/// Crates that may be longer, with the reason.
const LARGER: &[(&str, &str)] =
    &[("tensor", "every op has its adjoint, its kernels and its conformance test there")];

/// Finds crates that are too large to be one subject.
pub(crate) fn crate_sizes(crates: &[Crate], sources: &[Source]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for krate in crates.iter().filter(|krate| !LARGER.iter().any(|(name, _)| *name == krate.name)) {
        let own = sources.iter().filter(|source| source.krate == krate.name && !source.is_test());
        let lines: usize = own.map(|source| source.text.lines().count()).sum();
        if lines > LARGEST {
            let message = format!(
                "has {lines} lines of Rust without its tests, more than {LARGEST}; split it by subjects"
            );
            violations.push(Violation { place: format!("crate {}", krate.name), line: None, message });
        }
    }
    violations
}

/// Finds files that a crate builds in from outside of its folder: `cargo package` leaves them behind.
pub(crate) fn foreign_files(source: &Source) -> Vec<Violation> {
    // The benches, the examples and the checks are no packages that anyone takes.
    if !source.path.starts_with("crates/") {
        return Vec::new();
    }
    let lines: Vec<&str> = source.text.lines().collect();
    let mut violations = Vec::new();
    for (number, line) in source.code.lines().enumerate() {
        if !["include_str!", "include_bytes!", "include!"].iter().any(|include| line.contains(include)) {
            continue;
        }
        // The path is the first literal of this line or the next.
        let text = lines[number..lines.len().min(number + 2)].join(" ");
        let included = text.split_once("include").and_then(|(_, rest)| rest.split('"').nth(1));
        if included.is_some_and(|path| leaves_crate(&source.path, path)) {
            let message =
                "includes a file from outside of its crate, which `cargo package` leaves behind".to_owned();
            violations.push(Violation { place: source.path.clone(), line: Some(number + 1), message });
        }
    }
    violations
}

/// Whether a path relative to the file at `path`, which is `crates/NAME/…`, leaves the folder of its crate.
fn leaves_crate(path: &str, included: &str) -> bool {
    let mut depth = path.split('/').count().saturating_sub(3);
    for component in Path::new(included).components() {
        match component {
            Component::ParentDir if depth == 0 => return true,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_a_crate_is_exact() {
        let found = |name: &str, lines: usize| {
            let krate = Crate { name: name.into(), folder: "/w".into(), roots: vec![], needs: vec![] };
            let text = |n: usize| Source::new(name, "crates/x/src/lib.rs", "x\n".repeat(n));
            crate_sizes(&[krate], &[text(lines - 1), text(1)]).len()
        };
        assert_eq!((found("data", LARGEST), found("data", LARGEST + 1)), (0, 1));
        assert_eq!(found("tensor", LARGEST + 1), 0);
    }

    #[test]
    fn a_file_of_another_folder_is_found() {
        for (path, text, faults) in [
            ("crates/x/src/lib.rs", "const A: &str = include_str!(\"a.css\");", 0),
            ("crates/x/src/lib.rs", "#![doc = include_str!(\"../README.md\")]", 0),
            ("crates/x/src/lib.rs", "include_str!(concat!(\"../kernels/\", \"a.cu\"))", 0),
            ("crates/x/src/a/b.rs", "include_bytes!(\"../../tests/a.json\")", 0),
            ("crates/x/src/lib.rs", "#[doc = include_str!(\"../../../README.md\")]", 1),
            ("crates/x/src/lib.rs", "include_bytes!(\n    \"../../y/a\"\n)", 1),
            ("crates/x/tests/a.rs", "include_str!(\"../../../experiments/a.toml\")", 1),
            ("crates/x/src/lib.rs", "// include_str!(\"../../../README.md\")", 0),
        ] {
            assert_eq!(foreign_files(&Source::new("x", path, text.into())).len(), faults, "{text}");
        }
    }
}
