//! Each fault ends with one message that names file, cause and remedy, and nothing that is finished is lost.

use std::fs;

use crate::stripes::{self, FILES};
use crate::world::{World, ran};

/// File, what happens to its bytes, cause and remedy.
type Fault = (&'static str, fn(&mut Vec<u8>), &'static str, &'static str);

const PROFILE: &str = "experiments/profiles/tiny.toml";

#[test]
fn damaged_data_is_named_and_nothing_finished_is_lost() {
    let world = World::finished();
    let (kept, datasets) = (world.kept(), world.path("datasets"));
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1000);
    let cut_in_header = |bytes: &mut Vec<u8>| bytes.truncate(6);
    let magic = |bytes: &mut Vec<u8>| bytes[2] = 13;
    let label = |bytes: &mut Vec<u8>| bytes[8 + 17] = 4;
    let faults: [Fault; 5] = [
        (
            FILES[0],
            cut,
            "the file is cut off: 199704 bytes follow the header",
            "copy or download the file again",
        ),
        (FILES[2], cut_in_header, "the file ends inside its header", "copy or download the file again"),
        (FILES[0], magic, "the magic number is 3331, not 2051 (images)", "copy or download the file again"),
        (FILES[3], magic, "the magic number is 3329, not 2049 (labels)", "copy or download the file again"),
        (
            FILES[1],
            label,
            "label 4 of image 17 is out of range, there are 4 classes",
            "check that file and class names",
        ),
    ];
    for (file, damage, cause, remedy) in faults {
        let path = datasets.join("stripes").join(file);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        // With the digest of the damaged file it is its content that betrays it.
        stripes::USUAL.describe(&datasets);
        let place = format!("{}: ", path.display());
        let failed = world.run(&[]).failed(&["job failed: data stripes", &place, cause, remedy]);
        assert!(!failed.stderr.contains("done: "), "{}", failed.stderr);
        assert_eq!(world.kept(), kept);
        fs::write(&path, whole).unwrap();
        stripes::USUAL.describe(&datasets);
    }
    world.run(&[]).ran_nothing();
}

#[test]
fn data_that_differs_from_its_digest_is_refused() {
    let world = World::finished();
    let kept = world.kept();
    let path = world.path("datasets/stripes").join(FILES[0]);
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[5000] ^= 1;
    fs::write(&path, bytes).unwrap();
    // The data was found sound once; the damage has to be seen by the job that reads it next.
    let place = format!("dataset stripes: {}: its content has SHA-256 ", path.display());
    let parts = ["job failed: pretrain plain, seed 1", &place, "remove it and get it again"];
    world.run(&["--seeds", "2"]).failed(&parts);
    assert_eq!(world.kept(), kept);
    fs::write(&path, whole).unwrap();
    world.run(&[]).ran_nothing();
}

#[test]
fn an_unknown_key_of_a_method_is_answered_with_its_neighbor() {
    let world = World::finished();
    let kept = world.kept();
    let method = "experiments/methods/tarr.toml";
    world.edit(method, "weight = 3.0", "wieght = 3.0");
    let place = format!("{}:8: ", world.path(method).display());
    let failed = world.run(&[]).failed(&[&place, "unknown key `wieght`; did you mean `weight`?"]);
    assert_eq!(failed.stderr.lines().count(), 1, "{}", failed.stderr);
    assert_eq!(world.kept(), kept);
    world.edit(method, "wieght = 3.0", "weight = 3.0");
    world.run(&[]).ran_nothing();
}

#[test]
fn methods_that_start_from_each_other_or_from_none_are_refused_by_name() {
    let world = World::new();
    let [plain, tarr] = ["plain", "tarr"].map(|name| format!("experiments/methods/{name}.toml"));
    world.edit(&plain, "views", "start = \"tarr\"\nviews");
    world.run(&["--dry-run"]).succeeded();
    world.edit(&tarr, "views", "start = \"plain\"\nviews");
    let cycle =
        "no method can be trained first: plain needs the encoder of tarr, tarr needs the encoder of plain";
    world.run(&[]).failed(&[cycle, "name another `teacher` or `start`"]);
    world.edit(&tarr, "start = \"plain\"", "start = \"absent\"");
    world.run(&[]).failed(&["the teacher or start of tarr", "methods/absent.toml"]);
    world.edit(&tarr, "start = \"absent\"", "start = \"tarr\"");
    world.run(&[]).failed(&["tarr needs the encoder of tarr"]);
}

#[test]
fn an_unwritable_folder_of_runs_is_refused_before_any_work() {
    let world = World::new();
    let file = world.path("file");
    fs::write(&file, "in the way").unwrap();
    let failed = ran(world.command(&file.join("runs")).output().unwrap());
    let place = format!("cannot write to {}; ", file.join("runs/tiny").display());
    let failed = failed.failed(&[
        &place,
        "choose a place whose parents are folders with --out DIR",
        "Not a directory",
    ]);
    assert_eq!(failed.stderr.lines().count(), 1, "{}", failed.stderr);
    assert_eq!(fs::read(&file).unwrap(), b"in the way");
}

#[test]
fn an_unwritable_report_is_refused_before_any_work() {
    let world = World::finished();
    let (kept, bits) = (world.kept(), world.bits());
    let report = world.path("runs/tiny/report");
    fs::remove_dir_all(&report).unwrap();
    fs::write(&report, "in the way").unwrap();
    let failed =
        world.run(&[]).failed(&[&report.display().to_string(), "choose a folder that you may write to"]);
    assert_eq!(failed.stderr.matches("Not a directory").count(), 1, "{}", failed.stderr);
    assert_eq!(failed.stderr.lines().count(), 1, "{}", failed.stderr);
    assert_eq!(world.kept(), kept);
    fs::remove_file(&report).unwrap();
    world.run(&[]).ran_nothing();
    assert_eq!(world.bits(), bits);
}

#[test]
fn a_training_that_diverges_says_so_and_costs_no_finished_job() {
    let world = World::finished();
    let kept = world.kept();
    // Weights grow by a factor of up to 1e8 in a step, and an epoch has steps enough for them to overflow.
    let (sane, absurd) = ("lr = 2e-3", "lr = 1e4, weight_decay = 1e4");
    let (few_steps, many_steps) = ("batch = 64", "batch = 8");
    world.edit(PROFILE, sane, absurd);
    world.edit(PROFILE, few_steps, many_steps);
    let place =
        format!("cause:  [pretrain] of {}: training diverged in step ", world.path(PROFILE).display());
    let failed = world.run(&[]).failed(&[
        "job failed: pretrain plain, seed 0\n",
        "job failed: pretrain tarr, seed 0\n",
        &place,
        "lower optimizer.lr or lengthen warmup_epochs",
        "not run, because they need it: ",
        "what is finished is kept (1 job)",
    ]);
    assert!(failed.stderr.contains("NaN") || failed.stderr.contains("inf"), "{}", failed.stderr);
    let now = world.kept();
    assert_eq!(now, kept, "a diverged training counts as finished, or a finished job was lost");
    world.edit(PROFILE, absurd, sane);
    world.edit(PROFILE, many_steps, few_steps);
    world.run(&[]).ran_nothing();
}
