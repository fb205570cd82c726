//! Inventory of unsafe code: every file with `unsafe` has a row in docs/unsafe.md with the numbers that it has.

use super::{Source, Text, Violation};

const INVENTORY: &str = "docs/unsafe.md";

/// How often `unsafe` stands in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    blocks: usize,
    functions: usize,
    impls: usize,
}

/// Finds files whose numbers differ from the inventory's, and rows of files that have no `unsafe`.
pub(crate) fn unsafe_inventory(sources: &[Source], documents: &[Text]) -> Vec<Violation> {
    let Some(inventory) = documents.iter().find(|document| document.path == INVENTORY) else {
        let message = "is missing; it lists what is `unsafe`, and why it is sound".to_owned();
        return vec![Violation { place: INVENTORY.into(), line: None, message }];
    };
    let rows: Vec<_> =
        inventory.text.lines().enumerate().filter_map(|(i, line)| Some((i + 1, row(line)?))).collect();
    let mut violations = Vec::new();
    for source in sources {
        let found = count(&source.code);
        let listed = rows
            .iter()
            .find(|(_, (path, _))| *path == source.path)
            .map_or_else(Counts::default, |(_, row)| row.1);
        if found != listed {
            let message = format!(
                "has {} unsafe blocks, {} functions and {} impls, and {INVENTORY} says {}, {} and {}; look at what is new and \
                 mend its row",
                found.blocks, found.functions, found.impls, listed.blocks, listed.functions, listed.impls
            );
            violations.push(Violation { place: source.path.clone(), line: None, message });
        }
    }
    for (line, (path, _)) in rows {
        if !sources.iter().any(|source| source.path == path) {
            let message = format!("lists {path}, which does not exist; drop the row");
            violations.push(Violation { place: INVENTORY.into(), line: Some(line), message });
        }
    }
    violations
}

/// The file and the numbers of a row `| path | blocks | functions | impls | … |`.
fn row(line: &str) -> Option<(&str, Counts)> {
    let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
    let path = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
    let mut number = || cells.next()?.parse().ok();
    Some((path, Counts { blocks: number()?, functions: number()?, impls: number()? }))
}

/// Counts in masked code.
fn count(code: &str) -> Counts {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut counts = Counts::default();
    for (start, word) in code.match_indices("unsafe") {
        let rest = &code[start + word.len()..];
        if code[..start].ends_with(part_of_name) || rest.starts_with(part_of_name) {
            continue;
        }
        let next = rest.trim_start();
        if next.starts_with('{') {
            counts.blocks += 1;
        } else if next.starts_with("impl") {
            counts.impls += 1;
        } else {
            counts.functions += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "unsafe impl Send for A {}\n/// unsafe\nunsafe fn f() {\n  // SAFETY: unsafe\n  unsafe { g() }\n}\n\
                        #![forbid(unsafe_code)]\nlet x = unsafe\n{ h() };\nunsafe extern \"C\" fn i() {}";

    fn found(table: Option<&str>) -> Vec<String> {
        let sources = [Source::new("tensor", "crates/tensor/src/cpu/a.rs", CODE.into())];
        let document = |text: &str| Text { path: INVENTORY.into(), text: text.into() };
        let documents: Vec<Text> = table.map(document).into_iter().collect();
        unsafe_inventory(&sources, &documents).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn blocks_functions_and_impls_are_counted_and_prose_is_not() {
        let code = &Source::new("tensor", "a.rs", CODE.into()).code;
        assert_eq!(count(code), Counts { blocks: 2, functions: 2, impls: 1 });
    }

    #[test]
    fn numbers_that_differ_and_missing_or_left_over_rows_are_found() {
        let right =
            "| file | blocks |\n|---|---|\n| `crates/tensor/src/cpu/a.rs` | 2 | 2 | 1 | because | so |\n";
        assert_eq!(found(Some(right)), [""; 0]);
        assert_eq!(found(None).len(), 1);
        assert_eq!(found(Some(&right.replace("| 2 | 2 |", "| 1 | 2 |"))).len(), 1);
        assert_eq!(found(Some("nothing")).len(), 1);
        let more = found(Some(&format!("{right}| `crates/gone.rs` | 1 | 0 | 0 | a | b |")));
        assert_eq!(more, ["docs/unsafe.md:4: lists crates/gone.rs, which does not exist; drop the row"]);
    }
}
