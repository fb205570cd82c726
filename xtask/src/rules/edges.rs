//! Which crate may depend on which.

use anyhow::Context;
use serde_json::Value;

use super::Violation;

/// Everything of ours, and for each crate what it may depend on. Nothing else is allowed; a new line or name here is a
/// decision about the whole workspace and belongs into ARCHITECTURE.md too.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tensor", &[]),
    ("files", &[]),
    ("report", &["files"]),
    ("data", &["tensor", "files"]),
    // Differentiable sums over the shards of a batch.
    ("parallel", &["tensor"]),
    // Ranks over NCCL.
    ("cuda", &["tensor", "files", "parallel"]),
    ("mpi", &["parallel"]),
    ("encoders", &["tensor", "files", "parallel"]),
    ("objectives", &["tensor"]),
    ("attacks", &["tensor"]),
    ("nearest", &["tensor", "attacks"]),
    ("bound", &["tensor", "attacks"]),
    ("certify", &["tensor", "attacks", "bound"]),
    ("interop", &["tensor", "encoders", "files"]),
    // A query is decided by an attack or a certificate.
    ("vnnlib", &["tensor", "interop", "attacks", "certify"]),
    ("jobs", &["tensor", "data", "files"]),
    ("train", &["tensor", "data", "encoders", "objectives", "attacks", "bound", "parallel"]),
    ("eval", &["tensor", "data", "encoders", "attacks", "nearest", "bound", "certify"]),
    (
        "study",
        &[
            "tensor", "data", "encoders", "attacks", "nearest", "bound", "certify", "train", "eval",
            "report", "files", "jobs",
        ],
    ),
    ("xtask", &[]),
];

/// The programs at the top, and what only they use, may depend on every crate.
const PROGRAMS: &[&str] = &["cli", "gpu-check", "fuzz", "benches", "examples"];

/// A crate of the workspace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Crate {
    /// Its name without `tarrl-`.
    pub(crate) name: String,
    /// Its folder.
    pub(crate) folder: std::path::PathBuf,
    /// The root files of its library and programs.
    pub(crate) roots: Vec<std::path::PathBuf>,
    /// Those of our crates that it needs to be built; what only its tests need is not counted.
    pub(crate) needs: Vec<String>,
}

/// Reads the workspace's crates from the JSON of `cargo metadata --no-deps`.
///
/// # Errors
/// Fails if the JSON is not of that form.
pub(crate) fn crates(metadata: &Value) -> anyhow::Result<Vec<Crate>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    packages
        .iter()
        .map(|package| read(package, &names).context("cargo metadata has an unexpected form"))
        .collect()
}

/// Finds every edge that is not allowed, and every crate that nobody has placed.
pub(crate) fn edges(crates: &[Crate]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for krate in crates.iter().filter(|krate| !PROGRAMS.contains(&krate.name.as_str())) {
        let violation = |message| Violation { place: format!("crate {}", krate.name), line: None, message };
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == krate.name) else {
            violations
                .push(violation("has no place in the table of edges in xtask/src/rules/edges.rs".to_owned()));
            continue;
        };
        for need in krate.needs.iter().filter(|need| !allowed.contains(&need.as_str())) {
            let allowed = if allowed.is_empty() { "none of ours".to_owned() } else { allowed.join(", ") };
            violations.push(violation(format!("depends on {need}, but may only depend on {allowed}")));
        }
    }
    violations
}

fn read(package: &Value, ours: &[&str]) -> Option<Crate> {
    let short = |name: &str| name.strip_prefix("tarrl-").unwrap_or(name).to_owned();
    let is_root = |target: &&Value| {
        let kinds = target["kind"].as_array();
        kinds.is_some_and(|kinds| {
            kinds.iter().any(|kind| ["lib", "bin", "proc-macro"].iter().any(|k| kind == k))
        })
    };
    // A build dependency is as much of an edge as a normal one; for both nothing is missing from the JSON but `dev`.
    let is_edge = |dependency: &&Value| dependency["kind"] != "dev" && !dependency["path"].is_null();
    let roots = package["targets"].as_array()?.iter().filter(is_root);
    let needs = package["dependencies"].as_array()?.iter().filter(is_edge).filter_map(|d| d["name"].as_str());
    Some(Crate {
        name: short(package["name"].as_str()?),
        folder: std::path::Path::new(package["manifest_path"].as_str()?).parent()?.to_path_buf(),
        roots: roots.map(|target| target["src_path"].as_str().map(Into::into)).collect::<Option<_>>()?,
        needs: needs.filter(|name| ours.contains(name)).map(short).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, needs: &[(&str, Option<&str>)]) -> Value {
        let needs: Vec<_> =
            needs.iter().map(|(name, kind)| json!({"name": name, "kind": kind, "path": "/w"})).collect();
        json!({
            "name": name,
            "manifest_path": format!("/w/{name}/Cargo.toml"),
            "targets": [
                {"kind": ["lib"], "src_path": format!("/w/{name}/src/lib.rs")},
                {"kind": ["test"], "src_path": format!("/w/{name}/tests/t.rs")},
            ],
            "dependencies": needs,
        })
    }

    fn check(packages: &[Value]) -> Vec<String> {
        edges(&crates(&json!({"packages": packages})).unwrap()).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn allowed_edges_pass_and_tests_may_use_anything() {
        let bound = package(
            "tarrl-bound",
            &[("tarrl-attacks", None), ("tarrl-report", Some("dev")), ("serde", None)],
        );
        let cli = package("tarrl-cli", &[("tarrl-bound", None), ("tarrl-report", None)]);
        let rest = ["tarrl-attacks", "tarrl-report"].map(|name| package(name, &[]));
        assert_eq!(check(&[&[bound, cli], &rest[..]].concat()), [""; 0]);
    }

    #[test]
    fn a_forbidden_edge_is_named_with_what_is_allowed() {
        let report = package("tarrl-report", &[("tarrl-tensor", None)]);
        let bound = package("tarrl-bound", &[("tarrl-report", Some("build"))]);
        assert_eq!(
            check(&[report, bound, package("tarrl-tensor", &[])]),
            [
                "crate report: depends on tensor, but may only depend on files",
                "crate bound: depends on report, but may only depend on tensor, attacks",
            ]
        );
    }

    #[test]
    fn no_library_may_depend_on_a_program() {
        let data = package("tarrl-data", &[("xtask", None)]);
        assert_eq!(check(&[data, package("xtask", &[])]).len(), 1);
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        let found = check(&[package("tarrl-extra", &[])]);
        assert_eq!(found, ["crate extra: has no place in the table of edges in xtask/src/rules/edges.rs"]);
    }

    #[test]
    fn the_table_has_no_cycle() {
        for (place, (name, needs)) in ALLOWED.iter().enumerate() {
            for need in *needs {
                assert!(ALLOWED[..place].iter().any(|(earlier, _)| earlier == need), "{name} before {need}");
            }
        }
    }

    #[test]
    fn roots_are_those_of_libraries_and_programs() {
        let crates = crates(&json!({"packages": [package("tarrl-data", &[])]})).unwrap();
        assert_eq!(crates[0].name, "data");
        assert_eq!(crates[0].roots, [std::path::Path::new("/w/tarrl-data/src/lib.rs")]);
    }
}
