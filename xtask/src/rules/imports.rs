//! The `use` items of a file, taken apart into paths and names.

/// One imported name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Import {
    /// The path as written, its last part included: a name, or `*`.
    pub(crate) path: Vec<String>,
    /// The name under which the file knows it: that after `as`, or the last part of the path.
    pub(crate) name: String,
    /// Who else may use it through this file.
    pub(crate) reach: Reach,
}

/// The visibility of an import.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reach {
    /// `use`
    File,
    /// `pub(crate) use` and the like
    Crate,
    /// `pub use`
    Public,
}

/// Splits masked code into identifiers, `::` and other single characters.
pub(crate) fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// The imports of a file, and its tokens without them. Imports for tests alone are left out of both.
pub(crate) fn imports<'a>(tokens: &[&'a str]) -> (Vec<Import>, Vec<&'a str>) {
    let (mut imports, mut rest) = (Vec::new(), Vec::new());
    let mut i = 0;
    while i < tokens.len() {
        // `use<'a>` in a type captures a lifetime.
        if tokens[i] != "use" || tokens.get(i + 1) == Some(&"<") {
            rest.push(tokens[i]);
            i += 1;
            continue;
        }
        let end = (i..tokens.len()).find(|&k| tokens[k] == ";").unwrap_or(tokens.len());
        let (reach, before) = reach(&tokens[..i]);
        rest.truncate(rest.len() - (i - before));
        if !tokens[..before].ends_with(&["#", "[", "cfg", "(", "test", ")", "]"]) {
            tree(&tokens[i + 1..end], &[], reach, &mut imports);
        }
        i = end + 1;
    }
    (imports, rest)
}

/// The visibility that the tokens before `use` end with, and where it begins.
fn reach(before: &[&str]) -> (Reach, usize) {
    match before {
        [.., "pub"] => (Reach::Public, before.len() - 1),
        [.., ")"] => match before.iter().rposition(|&token| token == "pub") {
            Some(start) if before[start + 1..].iter().filter(|&&token| token == "(").count() == 1 => {
                (Reach::Crate, start)
            }
            _ => (Reach::File, before.len()),
        },
        _ => (Reach::File, before.len()),
    }
}

/// Walks one tree of a `use` item, such as `a::{b, c as d}`.
fn tree(tokens: &[&str], prefix: &[String], reach: Reach, imports: &mut Vec<Import>) {
    let mut path = prefix.to_vec();
    let mut i = 0;
    while i < tokens.len() {
        match tokens[i] {
            "::" => {}
            "as" => {
                let name = (*tokens.get(i + 1).unwrap_or(&"_")).to_owned();
                return imports.push(Import { path: without_self(path), name, reach });
            }
            "{" => {
                for branch in branches(&tokens[i + 1..]) {
                    tree(branch, &path, reach, imports);
                }
                return;
            }
            part => path.push(part.to_owned()),
        }
        i += 1;
    }
    let path = without_self(path);
    if let Some(name) = path.last().cloned().filter(|_| !tokens.is_empty()) {
        imports.push(Import { path, name, reach });
    }
}

/// `a::{self}` is `a`.
fn without_self(mut path: Vec<String>) -> Vec<String> {
    if path.len() > 1 && path.last().is_some_and(|part| part == "self") {
        path.pop();
    }
    path
}

/// The parts between commas up to the brace that closes them.
fn branches<'a, 'b>(tokens: &'a [&'b str]) -> Vec<&'a [&'b str]> {
    let (mut branches, mut start, mut depth) = (Vec::new(), 0, 0);
    for (i, &token) in tokens.iter().enumerate() {
        match token {
            "{" => depth += 1,
            "}" if depth == 0 => {
                branches.push(&tokens[start..i]);
                return branches;
            }
            "}" => depth -= 1,
            "," if depth == 0 => {
                branches.push(&tokens[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    branches
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(code: &str) -> Vec<(String, String, Reach)> {
        let found = imports(&tokens(code)).0;
        found.into_iter().map(|import| (import.path.join("::"), import.name, import.reach)).collect()
    }

    #[test]
    fn a_tree_of_imports_is_flattened() {
        let found = read("use a::{self, b, c::{d as e, *}};");
        let expected = [("a", "a"), ("a::b", "b"), ("a::c::d", "e"), ("a::c::*", "*")];
        assert_eq!(found, expected.map(|(path, name)| (path.to_owned(), name.to_owned(), Reach::File)));
    }

    #[test]
    fn visibility_is_read_and_test_imports_are_left_out() {
        let found =
            read("mod m; pub use m::A; pub(crate) use m::B; #[cfg(test)] use m::C; fn f() { use m::D; }");
        let found: Vec<_> = found.iter().map(|(path, _, reach)| (path.as_str(), *reach)).collect();
        assert_eq!(found, [("m::A", Reach::Public), ("m::B", Reach::Crate), ("m::D", Reach::File)]);
    }

    #[test]
    fn the_rest_has_no_import_left() {
        let code = "pub(crate) use a::B; fn f() -> impl Sized + use<> { B }";
        assert_eq!(imports(&tokens(code)).1.join(" "), "fn f ( ) - > impl Sized + use < > { B }");
    }
}
