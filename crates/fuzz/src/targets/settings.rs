//! Targets of settings and records: methods, profiles, published figures, manifests of jobs.

use super::datasets::repository;
use crate::target::{Target, none};
use crate::{repair, scratch::Scratch};
use serde_json::json;
use tarrl_jobs::{FileRecord, Key, Manifest};
use tarrl_study::profile::Profile;
use tarrl_study::published;
use tarrl_train::Method;

pub(super) const JOB_MANIFEST: Target = Target {
    name: "job-manifest",
    seeds: job_manifests,
    words: &[
        "null",
        "key",
        "files",
        "path",
        "bytes",
        "../",
        "/dev/zero",
        "..",
        "checkpoint.bin",
        "output",
        "1e999",
    ],
    repair: repair::job_manifest,
    read: read_job_manifest,
};

pub(super) const METHOD: Target = Target {
    name: "method",
    seeds: || {
        let names =
            ["simclr", "tarr", "acl-air", "dynacl", "deacl", "advcl", "tarr-certified", "moco", "trades"];
        names.iter().map(|name| repository(&format!("experiments/methods/{name}.toml"))).collect()
    },
    words: &[
        "views",
        "strong",
        "weak",
        "objective",
        "kind",
        "nt-xent",
        "temperature",
        "regularizer",
        "adversary",
        "projector",
        "network",
        "inner",
        "pgd",
        "linf",
        "epsilon",
        "8/255",
        "1/0",
        "teacher",
        "clusters",
        "[",
        "]",
        "\n",
        "=",
        "steps",
    ],
    repair: none,
    read: read_method,
};

pub(super) const PROFILE: Target = Target {
    name: "profile",
    seeds: || {
        let names = ["smoke", "default", "certified", "cifar100"];
        names.iter().map(|name| repository(&format!("experiments/profiles/{name}.toml"))).collect()
    },
    words: &[
        "seeds",
        "methods",
        "tables",
        "subset",
        "encoder",
        "pretrain",
        "attack",
        "epsilons",
        "bound",
        "sweep",
        "weights",
        "adversary",
        "8/255",
        "255/8",
        "T1",
        "F2",
        "..",
        "a/b",
        "[",
        "]",
        "\n",
        "=",
        "optimizer",
        "adamw",
        "lars",
    ],
    repair: none,
    read: read_profile,
};

pub(super) const PUBLISHED: Target = Target {
    name: "published",
    seeds: || vec![repository("experiments/published.toml")],
    words: &[
        "[[figures]]",
        "method",
        "clean",
        "pgd",
        "autoattack",
        "source",
        "linear",
        "8/255",
        "nan",
        "\n",
        "=",
    ],
    repair: none,
    read: read_published,
};

pub(super) fn job_key() -> Key {
    Key::of(&json!("job"))
}

fn job_manifests() -> Vec<Vec<u8>> {
    let scratch = Scratch::new();
    let folder = scratch.file("checkpoint.bin", b"weights");
    let folder = folder.parent().expect("it lies in a folder");
    let manifest = Manifest {
        key: job_key(),
        name: "simclr, seed 0".into(),
        kind: "pretrain".into(),
        output: json!({"loss": 0.1, "rows": [1, 2]}),
        files: vec![FileRecord::take(folder, "checkpoint.bin").expect("the file is there")],
        scratch: Vec::new(),
        seconds: 0.5,
        resumed: false,
        peak_rss_bytes: Some(1 << 30),
        peak_device_bytes: None,
        finished_unix: 1_800_000_000,
        provenance: json!({"version": "0.1.0"}),
    };
    manifest.write(folder).expect("the folder is writable");
    vec![std::fs::read(folder.join(Manifest::FILE)).expect("it was written")]
}

fn read_job_manifest(bytes: &[u8], scratch: &Scratch) -> bool {
    let path = scratch.file(Manifest::FILE, bytes);
    let folder = path.parent().expect("it lies in a folder");
    if !folder.join("checkpoint.bin").exists() {
        scratch.file("checkpoint.bin", b"weights");
    }
    let Ok(found) = Manifest::read(folder, job_key()) else { return false };
    let found = found.expect("the file is there");
    found.write(folder).expect("the folder is writable");
    assert_eq!(Manifest::read(folder, job_key()), Ok(Some(found)));
    true
}

fn read_method(bytes: &[u8], scratch: &Scratch) -> bool {
    let Ok(method) = Method::read(&scratch.file("input.toml", bytes)) else { return false };
    let text = toml::to_string(&method).expect("a method is TOML");
    let again = Method::read(&scratch.file("again.toml", text.as_bytes()));
    assert_eq!(again.expect("what was written is read"), method);
    true
}

fn read_profile(bytes: &[u8], scratch: &Scratch) -> bool {
    let path = scratch.file("profiles/input.toml", bytes);
    let folder = path.parent().expect("it lies in a folder");
    let Ok(profile) = Profile::read(folder, "input") else { return false };
    let text = toml::to_string(&profile).expect("a profile is TOML");
    scratch.file("profiles/input.toml", text.as_bytes());
    assert_eq!(Profile::read(folder, "input").expect("what was written is read"), profile);
    true
}

fn read_published(bytes: &[u8], scratch: &Scratch) -> bool {
    let path = scratch.file("published/published.toml", bytes);
    let Ok(figures) = published::read(path.parent().expect("it lies in a folder")) else { return false };
    let accuracies = figures.iter().flat_map(|entry| [entry.clean, entry.pgd, entry.autoattack]).flatten();
    accuracies.for_each(|value| assert!((0.0..=100.0).contains(&value)));
    assert!(figures.iter().all(|entry| !entry.source.trim().is_empty()));
    true
}
