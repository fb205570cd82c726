//! Work gate: what one step of training, attack, certificate and head costs in passes, kernels, multiply-adds and
//! allocations, compared with benches/work.toml. `cargo xtask work` prints the table, `cargo xtask work --update` rewrites
//! the file.

#[path = "../../../crates/tensor/tests/counting_allocator/mod.rs"]
mod counting_allocator;

mod cases;
mod counting_backend;
mod work;

use cases::{CASES, by_hand};
use counting_allocator::CountingAllocator;
use std::path::Path;
use std::process::ExitCode;
use work::{Table, render};

#[global_allocator]
static ALLOCATOR: CountingAllocator<{ usize::MAX }> = CountingAllocator;

/// The name of the one test, for filters and lists of tests.
const NAME: &str = "the_work_of_a_step_is_that_of_the_file";

/// The first lines of the file.
const HEAD: &str = "\
# What one step costs on one thread; `cargo xtask work --update` writes this file, and a test compares it.
# Passes are those of each image, of certificates also rows substituted back; multiply-adds those of convolutions, matrix
# products and their adjoints. All are exact but allocations, which may differ by a tenth.
";

/// A test without the usual harness, so that it is also the program that rewrites the file.
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        println!("{NAME}: test");
        return ExitCode::SUCCESS;
    }
    let mut filters = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    if has("--ignored") || (filters.peek().is_some() && !filters.any(|filter| NAME.contains(filter.as_str())))
    {
        return ExitCode::SUCCESS;
    }

    let found: Table = CASES.iter().map(|(name, count)| ((*name).to_owned(), count())).collect();
    print!("{}", render(&found));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("work.toml");
    if has("--update") {
        let text = HEAD.to_owned() + "\n" + &toml::to_string(&found).expect("a table of numbers");
        std::fs::write(&path, text).expect("the file can be written");
        return ExitCode::SUCCESS;
    }
    let expected: Table = toml::from_str(&std::fs::read_to_string(&path).expect("the file can be read"))
        .expect("it is a table of counts");
    let mut changes = changes(&found, &expected);
    for (name, expected) in by_hand() {
        let found = found[name].multiply_adds;
        if found != expected {
            changes.push(format!(
                "{name}: multiply_adds is {found}, but follows to be {expected} from the shapes"
            ));
        }
    }
    if changes.is_empty() {
        println!("test {NAME} ... ok");
        return ExitCode::SUCCESS;
    }
    for change in changes {
        eprintln!("{change}");
    }
    eprintln!("test {NAME} ... FAILED: where the change is meant, run `cargo xtask work --update`");
    ExitCode::FAILURE
}

/// How the counts differ, a line each, of cases on either side.
fn changes(found: &Table, expected: &Table) -> Vec<String> {
    let mut changes = Vec::new();
    for (name, work) in found {
        match expected.get(name) {
            Some(expected) => {
                changes.extend(work.changes(expected).iter().map(|change| format!("{name}: {change}")))
            }
            None => changes.push(format!("{name} is not in the file")),
        }
    }
    changes.extend(
        expected
            .keys()
            .filter(|name| !found.contains_key(*name))
            .map(|name| format!("{name} is not counted")),
    );
    changes
}
