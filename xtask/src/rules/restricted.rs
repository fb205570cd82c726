//! Words of code that may stand in some places only, `#![forbid(unsafe_code)]`, and the length of files.

use super::{Crate, Source, Violation};

/// Words that may stand in some places only.
struct Rule {
    /// Pieces of code, each beginning at a word boundary.
    words: &'static [&'static str],
    /// Where they may stand.
    allowed: fn(&Source) -> bool,
    /// Whether tests are held to it too.
    tests_too: bool,
    /// Why not, and what instead.
    reason: &'static str,
}

/// The allocator of tests that count allocations.
const COUNTING_ALLOCATOR: &str = "crates/tensor/tests/counting_allocator/mod.rs";

const RULES: &[Rule] = &[
    Rule {
        words: &["unsafe"],
        allowed: |source| {
            source.krate == "cuda"
                // The functions of MPI are of C.
                || source.krate == "mpi"
                || source.path.starts_with("crates/tensor/src/cpu")
                // A counting allocator cannot be written without.
                || source.path == COUNTING_ALLOCATOR
        },
        tests_too: true,
        reason: "is for the kernels of the CPU backend, for cuda and for mpi alone; find a safe form, or move it there",
    },
    Rule {
        words: &["fs::", "File::", "OpenOptions"],
        allowed: |source| {
            ["files", "data", "report", "jobs", "study", "cli", "gpu-check", "fuzz", "benches", "xtask"]
                .contains(&source.krate.as_str())
                || source.krate == "interop"
                || source.path.starts_with("crates/encoders/src/checkpoint")
                || source.path.starts_with("crates/train/src/run")
                || source.path == "crates/train/src/config.rs"
                || ["kernels/cache", "libraries/locate"]
                    .iter()
                    .any(|name| source.path == format!("crates/cuda/src/{name}.rs"))
        },
        tests_too: false,
        reason: "touches the file system, which only files, data, interop, report, jobs, study, the programs, the checkpoints of encoders, the run \
                 folder and method files of train, and the libraries and the cache of cuda may do; take or return bytes instead",
    },
    Rule {
        words: &["env::var", "env::set_var", "env::remove_var"],
        allowed: |source| {
            ["cli", "gpu-check", "benches", "xtask"].contains(&source.krate.as_str())
                || source.path == "crates/cuda/src/libraries/locate.rs"
        },
        tests_too: true,
        reason: "uses the environment, which only the programs and the library loader of cuda may do; take a parameter",
    },
    Rule {
        words: &["static mut", "thread_local!"],
        // An allocator is called by everyone and handed to no one.
        allowed: |source| source.path == COUNTING_ALLOCATOR,
        tests_too: true,
        reason: "is hidden state; pass the value in",
    },
    Rule {
        words: &["thread_rng", "rand::rng", "from_entropy", "from_os_rng", "OsRng"],
        allowed: |_| false,
        tests_too: true,
        reason: "makes results that nobody can repeat; pass a key or a generator in",
    },
];

/// The longest file that is allowed, in lines.
const LONGEST: usize = 600;

/// From this length on a file is mentioned, in lines.
const LONG: usize = 400;

/// Finds words that may not stand where they stand. Comments and strings may say anything.
pub(crate) fn words(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for rule in RULES.iter().filter(|rule| !(rule.allowed)(source)) {
        if source.is_test() && !rule.tests_too {
            continue;
        }
        let code = if rule.tests_too { &source.code } else { source.library_code() };
        for (number, line) in code.lines().enumerate() {
            if let Some(word) = rule.words.iter().find(|word| contains_word(line, word)) {
                let message = format!("`{word}` {}", rule.reason);
                violations.push(Violation { place: source.path.clone(), line: Some(number + 1), message });
            }
        }
    }
    violations
}

/// Finds libraries and programs without `#![forbid(unsafe_code)]`; the backends need not have it.
pub(crate) fn forbid_unsafe(crates: &[Crate], sources: &[Source]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for krate in crates.iter().filter(|krate| !["tensor", "cuda", "mpi"].contains(&krate.name.as_str())) {
        for root in &krate.roots {
            let source =
                sources.iter().find(|source| source.krate == krate.name && root.ends_with(&source.path));
            if !source.is_some_and(|source| source.code.contains("#![forbid(unsafe_code)]")) {
                let place = source.map_or_else(|| root.display().to_string(), |source| source.path.clone());
                let message = "has no `#![forbid(unsafe_code)]`; add it below the first comment".to_owned();
                violations.push(Violation { place, line: None, message });
            }
        }
    }
    violations
}

/// Finds a file that is too long to be one idea.
pub(crate) fn length(source: &Source) -> Option<Violation> {
    let lines = source.text.lines().count();
    let message =
        format!("has {lines} lines, {} more than allowed; split it by ideas", lines.saturating_sub(LONGEST));
    (lines > LONGEST).then(|| Violation { place: source.path.clone(), line: None, message })
}

/// Mentions the files that are getting long, longest first.
pub(crate) fn long_files(sources: &[Source]) -> Vec<String> {
    let lengths = sources.iter().map(|source| (source.text.lines().count(), &source.path));
    let mut long: Vec<_> = lengths.filter(|(lines, _)| (LONG + 1..=LONGEST).contains(lines)).collect();
    long.sort_by(|a, b| b.cmp(a));
    long.iter()
        .map(|(lines, path)| format!("{path} has {lines} lines; think of splitting it at {LONG}"))
        .collect()
}

/// Whether `word` stands in `line` and is not the tail or, if it ends in a letter, the head of a longer name.
/// The exception is a function's name: `env::var` also stands for `env::vars` and `env::var_os`.
fn contains_word(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        let open_end = word.contains("::") || !word.ends_with(part_of_name);
        !before.is_some_and(part_of_name) && (open_end || !after.is_some_and(part_of_name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        let krate = path.trim_start_matches("crates/").split('/').next().unwrap();
        Source::new(krate, path, text.into())
    }

    fn breaches(path: &str, text: &str) -> usize {
        words(&source(path, text)).len()
    }

    #[test]
    fn every_rule_fails_where_it_should_and_only_there() {
        for (text, wrong, right) in [
            ("unsafe { f() }", "crates/tensor/src/op.rs", "crates/tensor/src/cpu/gemm/kernel.rs"),
            ("unsafe { f() }", "crates/data/src/lib.rs", "crates/cuda/src/lib.rs"),
            ("use std::fs::read;", "crates/tensor/src/cpu/gemm.rs", "crates/data/src/idx.rs"),
            ("use std::{fs::File, io};", "crates/eval/src/lib.rs", "crates/report/src/lib.rs"),
            ("let f = File::open(p);", "crates/encoders/src/lib.rs", "crates/encoders/src/checkpoint.rs"),
            ("OpenOptions::new()", "crates/train/src/lib.rs", "crates/train/src/run_folder.rs"),
            ("fs::read(p)", "crates/cuda/src/gpu.rs", "crates/cuda/src/kernels/cache.rs"),
            ("std::env::var(\"X\")", "crates/tensor/src/lib.rs", "xtask/src/main.rs"),
            ("env::var_os(\"X\")", "crates/data/src/lib.rs", "crates/cuda/src/libraries/locate.rs"),
        ] {
            assert_eq!(breaches(wrong, text), 1, "{wrong}: {text}");
            assert_eq!(breaches(right, text), 0, "{right}: {text}");
        }
    }

    #[test]
    fn hidden_state_and_hidden_randomness_are_allowed_nowhere() {
        for text in ["static mut X: u8 = 0;", "thread_local! { }", "rand::thread_rng()", "rand::rng()"] {
            for path in ["crates/tensor/src/cpu/pool.rs", "xtask/src/main.rs", "crates/data/tests/all.rs"] {
                assert_eq!(breaches(path, text), 1, "{path}: {text}");
            }
        }
    }

    #[test]
    fn prose_and_longer_names_are_no_breach() {
        for text in [
            "// unsafe",
            "/* thread_rng */",
            "let why = \"unsafe\";",
            "#![forbid(unsafe_code)]",
            "#![deny(unsafe_op_in_unsafe_fn)]",
            "let file = MyFile::open(p); offs::f();",
            "fn my_thread_rng_free() {}",
            "static mutable: u8 = 0;",
            "env!(\"CARGO_MANIFEST_DIR\")",
        ] {
            assert_eq!(breaches("crates/train/src/lib.rs", text), 0, "{text}");
        }
    }

    #[test]
    fn tests_may_use_files_but_not_hidden_randomness() {
        let text =
            "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs::read;\n    use rand::thread_rng;\n}";
        let found = words(&source("crates/eval/src/lib.rs", text));
        assert_eq!(found.iter().map(|violation| violation.line).collect::<Vec<_>>(), [Some(5)]);
        assert_eq!(breaches("crates/eval/tests/all.rs", "use std::fs::read;"), 0);
        assert_eq!(breaches("crates/eval/tests/all.rs", "unsafe {}"), 1);
    }

    #[test]
    fn a_breach_is_told_with_its_line_and_a_remedy() {
        let found = words(&source("crates/eval/src/lib.rs", "//! Text.\n\nfn f() { std::env::var(\"A\"); }"));
        assert_eq!(
            found[0].to_string(),
            "crates/eval/src/lib.rs:3: `env::var` uses the environment, which only the programs and the library loader of \
             cuda may do; take a parameter"
        );
    }

    #[test]
    fn every_root_has_to_forbid_unsafe_code() {
        let krate = |name: &str| Crate {
            name: name.into(),
            folder: format!("/w/crates/{name}").into(),
            roots: vec![format!("/w/crates/{name}/src/lib.rs").into()],
            needs: vec![],
        };
        let check = |name: &str, text: &str| {
            forbid_unsafe(&[krate(name)], &[source(&format!("crates/{name}/src/lib.rs"), text)]).len()
        };
        assert_eq!(check("data", "//! Data.\n#![forbid(unsafe_code)]\n"), 0);
        assert_eq!(check("data", "//! #![forbid(unsafe_code)]\n"), 1);
        assert_eq!(check("tensor", "//! Tensors.\n"), 0);
        assert_eq!(forbid_unsafe(&[krate("data")], &[]).len(), 1);
    }

    #[test]
    fn the_limits_of_length_are_exact() {
        let lines = |n: usize| source("crates/data/src/lib.rs", &"x\n".repeat(n));
        assert_eq!((length(&lines(LONGEST)), length(&lines(LONGEST + 1)).is_some()), (None, true));
        let noted = |n| long_files(&[lines(n)]).len();
        assert_eq!([noted(LONG), noted(LONG + 1), noted(LONGEST), noted(LONGEST + 1)], [0, 1, 1, 0]);
    }
}
