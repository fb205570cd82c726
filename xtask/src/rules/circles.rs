//! Circles of files: files of a crate that need each other, so that none can be read or moved alone.

use std::collections::{BTreeMap, BTreeSet};

use super::imports::{Import, Reach, imports, tokens};
use super::{Source, Violation};

/// Files that may need each other, all those of the circle, and why. ARCHITECTURE.md says the same.
const ALLOWED: &[(&[&str], &str)] = &[
    (
        &[
            "crates/tensor/src/array.rs",
            "crates/tensor/src/autodiff.rs",
            "crates/tensor/src/backend/mod.rs",
            "crates/tensor/src/backend/batch_norm.rs",
            "crates/tensor/src/captured.rs",
            "crates/tensor/src/extensions/augment.rs",
            "crates/tensor/src/extensions/nt_xent.rs",
            "crates/tensor/src/extensions/optimizer.rs",
            "crates/tensor/src/graph.rs",
            "crates/tensor/src/op.rs",
            "crates/tensor/src/tensor.rs",
        ],
        "a tensor holds an array on a device, a device is a backend, a backend takes arrays, and a recorded node is an op \
         with tensors as operands: four types that are defined by each other",
    ),
    (
        &[
            "crates/tensor/src/cpu/deferred.rs",
            "crates/tensor/src/cpu/memory.rs",
            "crates/tensor/src/cpu/norm.rs",
            "crates/tensor/src/cpu/pointwise.rs",
            "crates/tensor/src/cpu/real.rs",
        ],
        "a block of memory may hold a map that is computed when it is first read, and the kernels that compute such maps read \
         blocks",
    ),
    (
        &[
            "crates/tensor/src/cpu/gemm/element.rs",
            "crates/tensor/src/cpu/gemm/kernel.rs",
            "crates/tensor/src/cpu/gemm/vector.rs",
        ],
        "an element type names its kernel, and kernels and vectors are generic over the element type",
    ),
];

/// Finds the circles between the files of each crate. A file needs another whose items it names by `use` or by path;
/// a name that a file only passes on counts as one of the file that defines it, and tests do not count.
pub(crate) fn circles(sources: &[Source]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut defended = BTreeSet::new();
    let crates: BTreeSet<&str> = sources.iter().map(|source| source.krate.as_str()).collect();
    for krate in crates {
        let modules = Modules::new(sources.iter().filter(|source| source.krate == krate));
        let edges = modules.edges();
        for circle in components(&edges) {
            let paths: Vec<&str> = circle.iter().map(|module| modules.files[module].path).collect();
            let reason = ALLOWED.iter().position(|(files, _)| paths.iter().all(|path| files.contains(path)));
            match reason {
                Some(index) => _ = defended.insert(index),
                None => violations.push(violation(&modules, &edges, &circle)),
            }
        }
    }
    for (_, (files, _)) in ALLOWED.iter().enumerate().filter(|(index, _)| !defended.contains(index)) {
        let message = "is no longer part of a circle; remove it from xtask/src/rules/circles.rs".to_owned();
        violations.push(Violation { place: files[0].to_owned(), line: None, message });
    }
    violations
}

/// Tells the shortest way around, which is the place to open the circle, and how many files there are.
fn violation(modules: &Modules<'_>, edges: &Edges, circle: &BTreeSet<String>) -> Violation {
    let shortest = circle.iter().filter_map(|start| way_around(edges, start)).min_by_key(Vec::len);
    let mut way = shortest.unwrap_or_default();
    way.extend(way.first().cloned());
    let short = |module: &String| if module.is_empty() { "the root".to_owned() } else { module.clone() };
    let way: Vec<_> = way.iter().map(short).collect();
    let all: Vec<_> = circle.iter().map(short).collect();
    let message = format!(
        "is one of {} files in a circle ({}); the shortest is {}; move what both need into a file of its own",
        circle.len(),
        all.join(", "),
        way.join(" → "),
    );
    let first = circle.iter().next().map_or("", |module| modules.files[module].path);
    Violation { place: first.to_owned(), line: None, message }
}

/// For each module, the modules that it needs. A module is named by its path in the crate, `a::b`.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// The files of a crate that are modules of its library or program.
struct Modules<'a> {
    files: BTreeMap<String, File<'a>>,
}

struct File<'a> {
    path: &'a str,
    imports: Vec<Import>,
    rest: Vec<&'a str>,
}

impl<'a> Modules<'a> {
    fn new(sources: impl Iterator<Item = &'a Source>) -> Self {
        let mut files = BTreeMap::new();
        let mut tests = Vec::new();
        for source in sources.filter(|source| !source.is_test()) {
            let Some(module) = module_path(&source.path) else { continue };
            let (imports, rest) = imports(&without_inline_modules(&tokens(source.library_code())));
            let declares_test = |window: &[&str]| {
                window[..8] == ["#", "[", "cfg", "(", "test", ")", "]", "mod"] && window[9] == ";"
            };
            for window in rest.windows(10).filter(|window| declares_test(window)) {
                tests.push(join(&module, window[8]));
            }
            files.insert(module, File { path: &source.path, imports, rest });
        }
        files.retain(|module, _| !tests.contains(module));
        Self { files }
    }

    fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for (module, file) in &self.files {
            let mut needs = BTreeSet::new();
            for import in &file.imports {
                let used = import.name != "*" && file.rest.contains(&import.name.as_str());
                let whole = self.whole_module(module, &import.path);
                // What is only passed on is no need, and what is used of a module is found below.
                if (import.reach != Reach::File && !used) || whole && self.begins_path(file, &import.name) {
                    continue;
                }
                needs.extend(self.resolve(module, &import.path, 0));
            }
            for path in paths(&file.rest) {
                let path: Vec<String> = path.iter().map(|&part| part.to_owned()).collect();
                needs.extend(self.resolve(module, &path, 0));
            }
            needs.remove(module);
            edges.insert(module.clone(), needs);
        }
        edges
    }

    /// Whether the path, seen from `module`, names a file and not one of its items.
    fn whole_module(&self, module: &str, path: &[String]) -> bool {
        let (start, parts) = self.start(module, path);
        start.is_some_and(|start| {
            let full = parts.iter().fold(start, |at, part| join(&at, part));
            !parts.is_empty() && self.files.contains_key(&full)
        })
    }

    fn begins_path(&self, file: &File<'_>, name: &str) -> bool {
        file.rest.windows(2).any(|pair| pair == [name, "::"])
    }

    /// The module from which the rest of a path is to be followed; none for a path to another crate.
    fn start<'p>(&self, module: &str, path: &'p [String]) -> (Option<String>, &'p [String]) {
        let mut at = module.to_owned();
        let mut i = 0;
        while let Some(part) = path.get(i) {
            match part.as_str() {
                "crate" => at.clear(),
                "super" => at = parent(&at).to_owned(),
                "self" => {}
                part if i > 0 || self.files.contains_key(&join(module, part)) => break,
                _ => return (None, path),
            }
            i += 1;
        }
        (Some(at), &path[i..])
    }

    /// The module whose file defines what `path` names in `module`.
    fn resolve(&self, module: &str, path: &[String], depth: usize) -> Option<String> {
        if depth > 8 {
            return None;
        }
        let (Some(mut at), parts) = self.start(module, path) else {
            // A name that this file imports.
            let import =
                self.files[module].imports.iter().find(|import| path.first() == Some(&import.name))?;
            if import.path == path {
                return None;
            }
            let path: Vec<String> = import.path.iter().chain(&path[1..]).cloned().collect();
            return self.resolve(module, &path, depth + 1);
        };
        for (i, part) in parts.iter().enumerate() {
            let below = join(&at, part);
            if self.files.contains_key(&below) {
                at = below;
            } else {
                return self.defined(&at, &parts[i..], depth);
            }
        }
        self.files.contains_key(&at).then_some(at)
    }

    /// Where the item at the head of `parts` is defined, if the file of `module` is where it is looked for.
    fn defined(&self, module: &str, parts: &[String], depth: usize) -> Option<String> {
        let file = self.files.get(module)?;
        let passed_on = |import: &&Import| import.name == parts[0] && import.name != "*";
        if let Some(import) = file.imports.iter().find(passed_on) {
            let path: Vec<String> = import.path.iter().chain(&parts[1..]).cloned().collect();
            if let Some(found) = self.resolve(module, &path, depth + 1) {
                return Some(found);
            }
        }
        for import in file.imports.iter().filter(|import| import.name == "*" && import.reach != Reach::File) {
            let from = self.resolve(module, &import.path[..import.path.len() - 1], depth + 1);
            if let Some(from) = from.filter(|from| from != module && defines(&self.files[from], &parts[0])) {
                return Some(from);
            }
        }
        Some(module.to_owned())
    }
}

/// Rewrites `super::` inside of `mod name { … }` as it would stand outside, because an inline module is part of its file.
fn without_inline_modules<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    let (mut out, mut depth, mut modules) = (Vec::new(), 0, Vec::new());
    let mut i = 0;
    while i < tokens.len() {
        match tokens[i] {
            "{" => {
                if i > 1 && tokens[i - 2] == "mod" {
                    modules.push(depth);
                }
                depth += 1;
            }
            "}" => {
                depth -= 1;
                if modules.last() == Some(&depth) {
                    modules.pop();
                }
            }
            "super" if !modules.is_empty() && tokens.get(i + 1) == Some(&"::") && tokens[i - 1] != "::" => {
                let begin = i;
                while i < begin + 2 * modules.len() && tokens[i] == "super" {
                    i += 2;
                }
                if tokens.get(i) != Some(&"super") {
                    out.extend(["self", "::"]);
                }
                continue;
            }
            _ => {}
        }
        out.push(tokens[i]);
        i += 1;
    }
    out
}

/// `crates/x/src/a/b.rs` is `a::b`, a root is empty; what lies outside `src` is no module.
fn module_path(path: &str) -> Option<String> {
    let inside = path.split_once("src/")?.1.strip_suffix(".rs")?;
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    Some(if ["lib", "main"].contains(&inside) { String::new() } else { inside.replace('/', "::") })
}

fn join(module: &str, part: &str) -> String {
    if module.is_empty() { part.to_owned() } else { format!("{module}::{part}") }
}

fn parent(module: &str) -> &str {
    module.rsplit_once("::").map_or("", |(parent, _)| parent)
}

fn defines(file: &File<'_>, name: &str) -> bool {
    const KINDS: &[&str] = &["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "union"];
    file.rest.windows(2).any(|pair| pair[1] == name && KINDS.contains(&pair[0]))
}

/// The paths of at least two parts that stand in code.
fn paths<'a>(tokens: &[&'a str]) -> Vec<Vec<&'a str>> {
    let is_name = |token: &str| token.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let mut paths = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let before = i.checked_sub(1).map(|k| tokens[k]);
        let mut path = Vec::new();
        // `pub(in crate::a)` says who may use something, and `.a::<T>()` is a method.
        let begins = !matches!(before, Some("::" | "." | "in")) && is_name(tokens[i]);
        while begins && i < tokens.len() && is_name(tokens[i]) {
            path.push(tokens[i]);
            if tokens.get(i + 1) != Some(&"::") {
                break;
            }
            i += 2;
        }
        i += 1;
        if path.len() > 1 {
            paths.push(path);
        }
    }
    paths
}

/// The strongly connected components of more than one module.
fn components(edges: &Edges) -> Vec<BTreeSet<String>> {
    let reach: BTreeMap<&String, BTreeSet<String>> =
        edges.keys().map(|module| (module, reachable(edges, module))).collect();
    let mut components: Vec<BTreeSet<String>> = Vec::new();
    for module in edges.keys().filter(|module| reach[module].contains(*module)) {
        if !components.iter().any(|circle| circle.contains(module)) {
            let mutual = reach[module].iter().filter(|other| reach[other].contains(module));
            components.push(mutual.cloned().collect());
        }
    }
    components
}

/// Everything that can be reached from a module by at least one step.
fn reachable(edges: &Edges, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(module) = open.pop() {
        for next in &edges[&module] {
            if found.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    found
}

/// The shortest way from a module back to itself.
fn way_around(edges: &Edges, start: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in &edges[way.last()?] {
                if next == start {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    longer.push(way.iter().chain([next]).cloned().collect());
                }
            }
        }
        ways = longer;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = files
            .iter()
            .map(|(path, text)| Source::new("data", &format!("crates/data/src/{path}"), (*text).to_owned()))
            .collect();
        let modules = Modules::new(sources.iter());
        let edges = modules.edges();
        components(&edges).iter().map(|circle| violation(&modules, &edges, circle).to_string()).collect()
    }

    #[test]
    fn two_files_that_name_each_other_are_a_circle() {
        for (a, b) in [
            ("use crate::b::B;", "use super::a::A;"),
            ("fn f() { crate::b::f() }", "use crate::a; fn f() { a::f() }"),
            ("use crate::{b::{B as C}};", "use crate::a::*;"),
        ] {
            let found = check(&[("lib.rs", "mod a;\nmod b;"), ("a.rs", a), ("b.rs", b)]);
            assert_eq!(found.len(), 1, "{a} {b}");
            assert!(
                found[0].contains("2 files in a circle (a, b); the shortest is a → b → a"),
                "{}",
                found[0]
            );
        }
    }

    #[test]
    fn a_name_that_is_passed_on_belongs_to_the_file_that_defines_it() {
        let root = "mod a;\nmod b;\npub use a::A;\npub(crate) use b::*;";
        let b = "use crate::A;\npub(crate) struct B;";
        assert_eq!(check(&[("lib.rs", root), ("a.rs", "pub struct A;"), ("b.rs", b)]), [""; 0]);
        assert_eq!(check(&[("lib.rs", root), ("a.rs", "use crate::B;"), ("b.rs", b)]).len(), 1);
    }

    #[test]
    fn a_parent_that_uses_its_child_and_is_used_by_it_is_in_a_circle() {
        let child = ("m/child.rs", "use super::Shared;\npub fn f(_: Shared) {}");
        let passes_on = "mod child;\npub use child::f;\npub struct Shared;";
        assert_eq!(check(&[("lib.rs", "mod m;"), ("m/mod.rs", passes_on), child]), [""; 0]);
        for uses in ["fn g() { f(Shared) }", "fn g() { child::f(Shared) }"] {
            assert_eq!(check(&[("m/mod.rs", &format!("{passes_on}\n{uses}")), child]).len(), 1, "{uses}");
        }
    }

    #[test]
    fn tests_and_visibilities_make_no_circle() {
        let root = "mod a;\nmod b;\n#[cfg(test)]\nmod toy;";
        let a = "pub(in crate::b) fn f() {}\n#[cfg(test)]\nuse crate::b::B;\n#[cfg(test)]\nmod tests { use crate::b; }";
        let toy = ("toy.rs", "use crate::a::f;");
        let b = "use crate::a::f;\nuse std::fmt;\nfn g() { fmt::f(); x.a::<B>() }";
        assert_eq!(check(&[("lib.rs", root), ("a.rs", a), ("b.rs", b), toy]), [""; 0]);
    }

    #[test]
    fn an_inline_module_is_part_of_its_file() {
        let a = "mod fast {\n    use super::f;\n    use super::super::b::g;\n}\nfn f() {}";
        let root = "mod a;\nmod b;\nfn h() { a::f() }";
        assert_eq!(check(&[("lib.rs", root), ("a.rs", a), ("b.rs", "fn g() {}")]), [""; 0]);
        assert_eq!(check(&[("lib.rs", root), ("a.rs", a), ("b.rs", "use super::a::f;")]).len(), 1);
    }

    #[test]
    fn a_long_circle_is_told_by_its_shortest_way() {
        let files = [("a.rs", "use crate::b;"), ("b.rs", "use crate::c;"), ("c.rs", "use crate::{a, b};")];
        let found = check(&files);
        assert_eq!(
            found,
            [
                "crates/data/src/a.rs: is one of 3 files in a circle (a, b, c); the shortest is b → c → b; move what both \
                 need into a file of its own"
            ]
        );
    }
}
