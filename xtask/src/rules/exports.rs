//! Exports that nobody outside of the crate uses.

use std::collections::{BTreeSet, HashSet};

use super::imports::{Reach, imports, tokens};
use super::{Crate, Source, Text, Violation};

/// What stays although nothing in the workspace names it: crate, names, reason.
const KEPT: &[(&str, &[&str], &str)] = &[
    ("attacks", &["UnknownNorm", "UnknownVersion"], "errors of parsing"),
    ("interop", &["NormalizationError"], "an error of parsing"),
];

/// Finds `pub use` items of libraries that no other crate, test, bench, example or document names, and that no public
/// signature of their own crate needs.
pub(crate) fn unused_exports(crates: &[Crate], sources: &[Source], documents: &[Text]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let written: Vec<(&Source, HashSet<&str>)> =
        sources.iter().map(|source| (source, names(&source.code))).collect();
    let documented: HashSet<&str> = documents.iter().flat_map(|document| names(&document.text)).collect();
    for krate in crates {
        let Some(root) = sources.iter().find(|source| {
            source.krate == krate.name
                && krate.roots.iter().any(|root| root.ends_with(&source.path))
                && source.path.ends_with("lib.rs")
        }) else {
            continue;
        };
        let exports = exports(root);
        // The front page of the crate's documentation is as good as a document.
        let front: String = root.text.lines().filter(|line| line.starts_with("//!")).collect();
        let front = names(&front);
        // Tests and examples of the crate itself use it from outside too.
        let outside = |source: &Source| source.krate != krate.name || !source.path.contains("/src/");
        let used = |name: &str| {
            documented.contains(name)
                || front.contains(name)
                || written.iter().any(|(source, names)| outside(source) && names.contains(name))
        };
        let signatures: BTreeSet<&str> = sources
            .iter()
            .filter(|source| source.krate == krate.name && !source.is_test())
            .flat_map(|source| public_signatures(source.library_code()))
            .collect();
        let kept = |name: &str| KEPT.iter().any(|(of, names, _)| *of == krate.name && names.contains(&name));
        for name in &exports {
            let unused = !used(name) && !signatures.contains(name.as_str());
            if unused != kept(name) {
                let message = if unused {
                    format!(
                        "exports `{name}`, which nobody uses; make it `pub(crate)`, or defend it in xtask/src/rules/exports.rs"
                    )
                } else {
                    format!(
                        "exports `{name}`, which is used; remove it from the list in xtask/src/rules/exports.rs"
                    )
                };
                violations.push(Violation { place: root.path.clone(), line: None, message });
            }
        }
    }
    violations
}

/// The names that a library's root passes on to everyone.
fn exports(root: &Source) -> BTreeSet<String> {
    let (imports, _) = imports(&tokens(root.library_code()));
    let public = imports.into_iter().filter(|import| import.reach == Reach::Public && import.name != "*");
    public.map(|import| import.name).collect()
}

/// The words of a text, identifiers in one piece.
fn names(text: &str) -> HashSet<&str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect()
}

/// The identifiers in the public signatures, fields and variants of a file, without the names that are defined there.
fn public_signatures(code: &str) -> BTreeSet<&str> {
    let (_, rest) = imports(&tokens(code));
    let mut names = BTreeSet::new();
    let mut i = 0;
    while i < rest.len() {
        if rest[i] != "pub" || rest.get(i + 1) == Some(&"(") {
            i += 1;
            continue;
        }
        let whole = matches!(rest.get(i + 1), Some(&("enum" | "trait")));
        let end = if whole { body_end(&rest, i) } else { signature_end(&rest, i) };
        // What follows the kind of the item is its own name.
        let defined =
            matches!(rest.get(i + 1), Some(&("enum" | "trait" | "struct" | "type" | "fn" | "const")));
        names.extend(&rest[i + if defined { 3 } else { 1 }..end.max(i + 3).min(rest.len())]);
        i = end.max(i + 1);
    }
    names
}

/// The end of a signature or field: `{`, `;` or `=`, or a comma outside of brackets.
fn signature_end(tokens: &[&str], start: usize) -> usize {
    let mut depth = 0;
    for (i, &token) in tokens.iter().enumerate().skip(start) {
        match token {
            "(" | "[" | "<" => depth += 1,
            // The `>` of `->` closes nothing.
            ">" if tokens[i - 1] == "-" => {}
            ")" | "]" | ">" => depth -= 1,
            "{" | ";" | "=" => return i,
            _ => {}
        }
        if depth < 0 || depth == 0 && token == "," {
            return i;
        }
    }
    tokens.len()
}

fn body_end(tokens: &[&str], start: usize) -> usize {
    let mut depth = 0;
    for (i, &token) in tokens.iter().enumerate().skip(start) {
        match token {
            "{" => depth += 1,
            "}" if depth == 1 => return i,
            "}" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], document: &str) -> Vec<String> {
        let krate = |name: &str| Crate {
            name: name.into(),
            folder: format!("/w/crates/{name}").into(),
            roots: vec![format!("/w/crates/{name}/src/lib.rs").into()],
            needs: vec![],
        };
        let source = |(path, text): &(&str, &str)| {
            let name = path.split('/').nth(1).unwrap();
            Source::new(name, path, (*text).to_owned())
        };
        let sources: Vec<_> = files.iter().map(source).collect();
        let documents = [Text { path: "README.md".into(), text: document.into() }];
        unused_exports(&[krate("data"), krate("eval")], &sources, &documents)
            .iter()
            .map(Violation::to_string)
            .collect()
    }

    const ROOT: (&str, &str) = ("crates/data/src/lib.rs", "mod a;\npub use a::{A, f};\npub(crate) use a::B;");

    #[test]
    fn an_export_that_nobody_names_is_found() {
        let found =
            check(&[ROOT, ("crates/data/src/a.rs", "pub struct A; pub fn f() {} fn g() { A; f() }")], "");
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("crates/data/src/lib.rs: exports `A`, which nobody uses"));
    }

    #[test]
    fn other_crates_own_tests_and_documents_are_users_and_comments_are_none() {
        let uses = |path: &'static str, text: &'static str| check(&[ROOT, (path, text)], "").len();
        assert_eq!(uses("crates/eval/src/lib.rs", "use tarrl_data::{A, f};"), 0);
        assert_eq!(uses("crates/data/tests/all.rs", "use tarrl_data::{A, f};"), 0);
        assert_eq!(uses("crates/eval/src/lib.rs", "// A f"), 2);
        assert_eq!(uses("crates/data/src/b.rs", "use crate::{A, f};"), 2);
        assert_eq!(check(&[ROOT], "Take an `A` and call `f`."), [""; 0]);
        let front = format!("//! Take an [`A`] and call [`f`].\n{}", ROOT.1);
        assert_eq!(check(&[(ROOT.0, &front)], ""), [""; 0]);
    }

    #[test]
    fn what_a_public_signature_names_may_be_named() {
        for (text, unused) in [
            ("pub fn g(x: Vec<A>) -> f { h() }", 0),
            ("pub struct S { pub a: A, pub f: f }", 0),
            ("pub enum E { V(A), W { f: f } }", 0),
            ("pub trait T { fn g() -> A; fn f(); }", 0),
            ("pub(crate) fn g(x: A) -> f { h() }", 2),
            ("pub fn g() { let a = A; f() }", 2),
            ("pub struct S { a: A, f: f }", 2),
        ] {
            assert_eq!(check(&[ROOT, ("crates/data/src/a.rs", text)], "").len(), unused, "{text}");
        }
    }
}
