//! The manifests and the embedded sample of this repository, as a user meets them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use tarrl_data::{Catalog, Check, Format, Task};

fn datasets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets")
}

fn catalog() -> Catalog {
    Catalog::new(datasets(), "a folder that does not exist")
}

#[test]
fn every_manifest_is_sound() {
    let manifests = catalog().list().unwrap();
    let names: Vec<&str> = manifests.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["cifar10", "cifar100", "fashion-mnist", "fashion-mnist-sample", "mnist"]);
    for m in &manifests {
        let distinct: HashSet<&String> = m.classes.iter().collect();
        assert_eq!(distinct.len(), m.classes.len(), "{}: a class comes twice", m.name);
        if m.format == Format::Idx {
            let pixels = (m.shape[0] * m.shape[1]) as u64;
            let (train, test) = (m.train as u64, m.test as u64);
            let sizes: Vec<u64> = m.files.iter().map(|f| f.size).collect();
            assert_eq!(sizes, [16 + train * pixels, 8 + train, 16 + test * pixels, 8 + test], "{}", m.name);
        }
    }
    assert_eq!(manifests[1].coarse.as_ref().unwrap().groups.len(), 20);
}

#[test]
fn the_sample_is_whole_balanced_and_small() {
    let found = catalog().verify("fashion-mnist-sample").unwrap();
    assert!(found.iter().all(|file| file.check == Check::Digest));
    let bytes: u64 = found.iter().map(|file| file.path.metadata().unwrap().len()).sum();
    assert!(bytes < 6_000_000, "{bytes} bytes");
    assert!(datasets().join("fashion-mnist-sample/LICENSE").is_file());

    let splits = catalog().load("fashion-mnist-sample").unwrap();
    assert_eq!(splits.train.counts(), [1000; 10]);
    assert_eq!(splits.test.counts(), [200; 10]);
    let images: HashSet<Vec<u8>> =
        splits.train.images.outer_iter().map(|image| image.iter().copied().collect()).collect();
    // The full set is known to hold a few identical pictures.
    assert!(images.len() > 9_990, "{} different training images", images.len());
}

#[test]
fn the_manifest_states_the_statistics_of_the_sample() {
    let manifest = catalog().manifest("fashion-mnist-sample").unwrap();
    let train = catalog().load("fashion-mnist-sample").unwrap().train;
    let (mean, std) = train.channel_statistics()[0];
    // Stated with four digits.
    assert!((mean - manifest.mean[0]).abs() <= 5.1e-5, "{mean}");
    assert!((std - manifest.std[0]).abs() <= 5.1e-5, "{std}");
}

#[test]
fn the_coarse_task_groups_the_classes_of_the_sample() {
    let manifest = catalog().manifest("fashion-mnist-sample").unwrap();
    let test = catalog().load("fashion-mnist-sample").unwrap().test;
    let coarse = manifest.coarse.unwrap().apply(&test);
    let count = |group: u16| coarse.labels.iter().filter(|&&label| label == group).count();
    assert_eq!([0, 1, 2, 3, 4].map(count), [800, 200, 200, 600, 200]);
    assert_eq!(Task::classes(&test).classes[9], "Ankle boot");
}
