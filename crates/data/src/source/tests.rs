use super::*;
use crate::npy::{encode_f32, encode_u8, encode_u32};
use crate::resize::Resizing;
use crate::write_zip;
use std::fs;
use tempfile::TempDir;

fn catalog(root: &Path) -> Catalog {
    fs::create_dir_all(root.join("manifests")).unwrap();
    Catalog::new(root.join("manifests"), root.join("data"))
}

fn open_with(root: &TempDir, name: &str, options: SourceOptions) -> Result<Source> {
    let path = root.path().join(name);
    Source::open(path.to_str().unwrap(), &catalog(root.path()), options)
}

fn open(root: &TempDir, name: &str) -> Source {
    open_with(root, name, SourceOptions::default()).unwrap()
}

fn refused(root: &TempDir, name: &str) -> String {
    match open_with(root, name, SourceOptions::default()) {
        Ok(source) => source.read(source.test_split().unwrap()).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

fn write(root: &TempDir, name: &str, bytes: &[u8]) {
    let path = root.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Images of 4 × 4 of which each is filled with its number, counted from `first`.
fn numbered(n: u8, first: u8) -> Vec<u8> {
    encode_u8(&[n.into(), 4, 4], &(0..n).flat_map(|i| [first + i; 16]).collect::<Vec<u8>>())
}

fn first_pixels(data: &Dataset) -> Vec<u8> {
    data.images.outer_iter().map(|image| image[[0, 0, 0]]).collect()
}

fn npz(root: &TempDir, name: &str, members: &[(&str, Vec<u8>)]) {
    let members: Vec<(&str, &[u8])> = members.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    let mut bytes = Vec::new();
    write_zip(&mut bytes, &members).unwrap();
    write(root, name, &bytes);
}

#[test]
fn an_archive_of_medmnist_has_three_splits_and_columns_of_labels() {
    let root = tempfile::tempdir().unwrap();
    let labels = |of: &[u8]| encode_u8(&[of.len(), 1], of);
    npz(
        &root,
        "bloodmnist.npz",
        &[
            ("train_images.npy", numbered(3, 0)),
            ("val_images.npy", numbered(1, 10)),
            ("test_images.npy", numbered(2, 20)),
            ("train_labels.npy", labels(&[0, 1, 2])),
            ("val_labels.npy", labels(&[1])),
            ("test_labels.npy", labels(&[1, 0])),
        ],
    );
    let source = open(&root, "bloodmnist.npz");
    assert_eq!(
        (source.name(), source.format(), source.splits()),
        ("bloodmnist", "npz", vec!["train", "val", "test"])
    );
    assert_eq!((source.train_split().unwrap(), source.test_split().unwrap()), ("train", "test"));
    let test = source.read("test").unwrap();
    assert_eq!((first_pixels(&test), test.labels.clone()), (vec![20, 21], vec![1, 0]));
    // The largest label is in another split.
    assert_eq!((test.classes.join(" "), source.has_class_names()), ("0 1 2".to_owned(), false));
    assert_eq!(first_pixels(&source.read("val").unwrap()), [10]);
    let message = source.read("dev").unwrap_err().to_string();
    assert!(message.contains("no split dev; its splits are train, val, test"), "{message}");
}

#[test]
fn an_archive_of_images_and_labels_has_one_split() {
    let root = tempfile::tempdir().unwrap();
    npz(&root, "free.npz", &[("labels.npy", encode_u32(&[2], &[1, 0])), ("images.npy", numbered(2, 5))]);
    let source = open(&root, "free.npz");
    assert_eq!((source.splits(), source.test_split().unwrap()), (vec!["all"], "all"));
    assert_eq!(first_pixels(&source.read("all").unwrap()), [5, 6]);
    let message = source.train_split().unwrap_err().to_string();
    assert!(message.contains("it has no training split; its splits are all"), "{message}");

    npz(
        &root,
        "keras.npz",
        &[
            ("x_test.npy", numbered(1, 1)),
            ("x_train.npy", numbered(2, 2)),
            ("y_test.npy", encode_u8(&[1], &[0])),
            ("y_train.npy", encode_u8(&[2], &[0, 1])),
        ],
    );
    assert_eq!(open(&root, "keras.npz").splits(), ["test", "train"]);
}

#[test]
fn archives_that_are_no_dataset_are_refused() {
    let root = tempfile::tempdir().unwrap();
    npz(&root, "multi.npz", &[("images.npy", numbered(2, 0)), ("labels.npy", encode_u8(&[2, 14], &[0; 28]))]);
    assert!(refused(&root, "multi.npz").contains("14 labels"));
    npz(
        &root,
        "volume.npz",
        &[("images.npy", encode_u8(&[1, 4, 4, 4], &[0; 64])), ("labels.npy", encode_u8(&[1], &[0]))],
    );
    assert!(refused(&root, "volume.npz").contains("not one of gray or color images"));
    npz(&root, "short.npz", &[("images.npy", numbered(2, 0)), ("labels.npy", encode_u8(&[1], &[0]))]);
    assert!(refused(&root, "short.npz").contains("1 labels for 2 images"));
    npz(&root, "features.npz", &[("features.npy", encode_f32(&[1, 1], &[0.0]))]);
    assert!(refused(&root, "features.npz").contains("features.npy, none of which are images with labels"));
    write(&root, "text.txt", b"hello");
    assert!(refused(&root, "text.txt").contains("known are npz, npy"));
    assert!(refused(&root, "nothing").contains("neither a manifest of this name"));
}

#[test]
fn a_corruption_is_read_at_one_severity() {
    let root = tempfile::tempdir().unwrap();
    write(&root, "CIFAR-10-C/fog.npy", &numbered(10, 0));
    write(&root, "CIFAR-10-C/snow.npy", &numbered(10, 100));
    write(&root, "CIFAR-10-C/labels.npy", &encode_u8(&[10], &[1, 0].repeat(5)));
    let third = SourceOptions { severity: Some(3), ..SourceOptions::default() };
    let data = open_with(&root, "CIFAR-10-C/fog.npy", third).unwrap().read("all").unwrap();
    assert_eq!((first_pixels(&data), data.labels), (vec![4, 5], vec![1, 0]));
    assert_eq!(open(&root, "CIFAR-10-C/fog.npy").read("all").unwrap().len(), 10);
    let folder = open(&root, "CIFAR-10-C");
    assert_eq!(folder.splits(), ["fog", "snow"]);
    assert!(folder.test_split().unwrap_err().to_string().contains("its splits are fog, snow"));
    let sixth = SourceOptions { severity: Some(6), ..third };
    assert!(
        open_with(&root, "CIFAR-10-C/fog.npy", sixth)
            .unwrap_err()
            .to_string()
            .contains("severities are 1 to 5")
    );
    write(&root, "CIFAR-10-C/labels.npy", &encode_u8(&[10], &[0, 1, 1, 0, 0, 0, 0, 0, 0, 0]));
    let message = open_with(&root, "CIFAR-10-C/fog.npy", third).unwrap().read("all").unwrap_err().to_string();
    assert!(message.contains("do not repeat five times"), "{message}");
}

#[test]
fn arrays_find_their_labels_by_name() {
    let root = tempfile::tempdir().unwrap();
    write(&root, "cifar10.1_v6_data.npy", &numbered(2, 3));
    write(&root, "cifar10.1_v6_labels.npy", &encode_u32(&[2], &[7, 9]));
    let data = open(&root, "cifar10.1_v6_data.npy").read("all").unwrap();
    assert_eq!((first_pixels(&data), data.labels, data.classes.len()), (vec![3, 4], vec![7, 9], 10));
    write(&root, "alone/x.npy", &numbered(1, 0));
    assert!(refused(&root, "alone/x.npy").contains("no array of labels beside it"));
}

fn idx(n: u8, first: u8) -> Vec<u8> {
    let images = ndarray::Array4::from_shape_fn((n.into(), 2, 3, 1), |(i, y, x, _)| {
        first + 10 * i as u8 + 3 * y as u8 + x as u8
    });
    let mut bytes = Vec::new();
    crate::idx::write_images(&mut bytes, images.view()).unwrap();
    bytes
}

fn idx_labels(of: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    crate::idx::write_labels(&mut bytes, of).unwrap();
    bytes
}

#[test]
fn the_names_of_mnist_are_known_and_emnist_is_transposed() {
    let root = tempfile::tempdir().unwrap();
    write(&root, "kmnist/train-images-idx3-ubyte.gz", &crate::catalog::tests::gzip(&idx(2, 0)));
    write(&root, "kmnist/train-labels-idx1-ubyte.gz", &crate::catalog::tests::gzip(&idx_labels(&[4, 0])));
    write(&root, "kmnist/t10k-images-idx3-ubyte", &idx(1, 50));
    write(&root, "kmnist/t10k-labels-idx1-ubyte", &idx_labels(&[9]));
    let source = open(&root, "kmnist");
    assert_eq!((source.format(), source.splits()), ("IDX", vec!["test", "train"]));
    let train = source.read("train").unwrap();
    assert_eq!((train.shape(), train.images[[1, 1, 2, 0]], train.labels), ((2, 3, 1), 15, vec![4, 0]));
    let test = open(&root, "kmnist/t10k-images-idx3-ubyte");
    assert_eq!((test.splits(), test.read("test").unwrap().labels), (vec!["test"], vec![9]));

    for part in ["letters", "digits"] {
        write(&root, &format!("emnist/emnist-{part}-test-images-idx3-ubyte"), &idx(2, 0));
        write(&root, &format!("emnist/emnist-{part}-test-labels-idx1-ubyte"), &idx_labels(&[1, 26]));
    }
    let source = open(&root, "emnist");
    assert_eq!(source.splits(), ["emnist-digits-test", "emnist-letters-test"]);
    let letters = source.read("emnist-letters-test").unwrap();
    // Labels of letters count from 1.
    assert_eq!((letters.shape(), letters.images[[1, 2, 1, 0]], letters.labels), ((3, 2, 1), 15, vec![0, 25]));
    assert_eq!(source.read("emnist-digits-test").unwrap().labels, [1, 26]);
}

#[test]
fn the_wide_labels_of_qmnist_are_read() {
    let root = tempfile::tempdir().unwrap();
    let mut labels = vec![0, 0, 0x0c, 2, 0, 0, 0, 1, 0, 0, 0, 8];
    labels.extend([6i32, 4, 0, 0, 0, 0, 0, 0].iter().flat_map(|v| v.to_be_bytes()));
    write(&root, "qmnist-test-images-idx3-ubyte", &idx(1, 0));
    write(&root, "qmnist-test-labels-idx2-int", &labels);
    assert_eq!(open(&root, "qmnist-test-images-idx3-ubyte").read("test").unwrap().labels, [6]);
}

#[test]
fn an_archive_of_idx_files_is_read() {
    let root = tempfile::tempdir().unwrap();
    npz(
        &root,
        "gzip.zip",
        &[
            ("gzip/emnist-mnist-test-images-idx3-ubyte.gz", crate::catalog::tests::gzip(&idx(1, 0))),
            ("gzip/emnist-mnist-test-labels-idx1-ubyte.gz", crate::catalog::tests::gzip(&idx_labels(&[3]))),
        ],
    );
    let source = open(&root, "gzip.zip");
    let data = source.read(source.test_split().unwrap()).unwrap();
    assert_eq!((data.shape(), data.labels), ((3, 2, 1), vec![3]));
}

#[test]
fn stl_10_is_recognized_by_its_files() {
    let root = tempfile::tempdir().unwrap();
    let bytes = vec![7; 2 * stl_bytes()];
    write(&root, "stl/train_X.bin", &bytes);
    write(&root, "stl/train_y.bin", &[10, 1]);
    write(&root, "stl/unlabeled_X.bin", &bytes[..stl_bytes()]);
    let source = open(&root, "stl");
    assert_eq!((source.format(), source.splits()), ("STL-10", vec!["train", "unlabeled"]));
    let train = source.read("train").unwrap();
    assert_eq!(
        (train.shape(), train.labels.clone(), train.classes[9].as_str()),
        ((96, 96, 3), vec![9, 0], "truck")
    );
    assert_eq!(source.read("unlabeled").unwrap().labels, [0]);
    let small = SourceOptions {
        resizing: Resizing { shorter_side: Some(32), crop: None },
        ..SourceOptions::default()
    };
    assert_eq!(open_with(&root, "stl", small).unwrap().read("train").unwrap().shape(), (32, 32, 3));
}

fn stl_bytes() -> usize {
    crate::stl10::IMAGE_BYTES as usize
}

fn picture(root: &TempDir, name: &str, width: usize, height: usize, value: u8) {
    let path = root.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pixels = vec![value; height * width * 3];
    fs::write(path, crate::png::tests::encoded([height, width, 3], &pixels)).unwrap();
}

#[test]
fn pictures_of_any_size_are_brought_to_one() {
    let root = tempfile::tempdir().unwrap();
    picture(&root, "animals/train/cat/a.png", 9, 6, 10);
    picture(&root, "animals/train/dog/b.png", 5, 12, 20);
    picture(&root, "animals/val/dog/c.png", 8, 8, 30);
    let resizing = Resizing { shorter_side: Some(4), crop: Some(4) };
    let options = SourceOptions { resizing, ..SourceOptions::default() };
    let source = open_with(&root, "animals", options).unwrap();
    assert_eq!((source.splits(), source.has_class_names()), (vec!["train", "val"], true));
    assert_eq!(source.read("train").unwrap().shape(), (4, 4, 3));
    // A class that a split lacks keeps its number.
    let val = source.read(source.test_split().unwrap()).unwrap();
    assert_eq!((val.labels, val.classes.join(" ")), (vec![1], "cat dog".to_owned()));
    let message = open(&root, "animals").read("train").unwrap_err().to_string();
    assert!(
        message.contains("dog/b.png: it is 12×5, the first image 6×9") && message.contains("resize"),
        "{message}"
    );
    picture(&root, "animals/val/eel/d.png", 8, 8, 1);
    let message = source.read("val").unwrap_err().to_string();
    assert!(message.contains("its class eel is none of the training images"), "{message}");
    // Classes without splits above them.
    assert_eq!(open_with(&root, "animals/train", options).unwrap().splits(), ["all"]);
}

#[test]
fn a_name_of_the_catalog_comes_first_and_an_imported_folder_second() {
    let manifests = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets"));
    let root = tempfile::tempdir().unwrap();
    let catalog = Catalog::new(manifests, root.path().join("data"));
    let source = Source::open("fashion-mnist-sample", &catalog, SourceOptions::default()).unwrap();
    assert_eq!((source.splits(), source.has_class_names()), (vec!["train", "test"], true));
    assert_eq!(source.read("test").unwrap().shape(), (28, 28, 1));
    let small = SourceOptions {
        resizing: Resizing { shorter_side: None, crop: Some(20) },
        ..SourceOptions::default()
    };
    let cut = Source::open("fashion-mnist-sample", &catalog, small).unwrap();
    assert_eq!(cut.read("test").unwrap().shape(), (20, 20, 1));
    npz(
        &root,
        "data/mine/images.npz",
        &[("labels.npy", encode_u32(&[1], &[0])), ("images.npy", numbered(1, 5))],
    );
    let source = Source::open("mine", &catalog, SourceOptions::default()).unwrap();
    assert_eq!((source.name(), source.read("all").unwrap().len()), ("mine", 1));
    let severe = SourceOptions { severity: Some(2), ..SourceOptions::default() };
    assert!(
        Source::open("fashion-mnist-sample", &catalog, severe)
            .unwrap_err()
            .to_string()
            .contains("only arrays")
    );
}

#[test]
fn an_import_keeps_what_belongs_together() {
    let root = tempfile::tempdir().unwrap();
    let catalog = catalog(root.path());
    write(&root, "c/fog.npy", &numbered(5, 0));
    write(&root, "c/snow.npy", &numbered(5, 9));
    write(&root, "c/labels.npy", &encode_u8(&[5], &[0, 1, 0, 1, 0]));
    let fog = open(&root, "c/fog.npy");
    let folder = fog.import(&catalog, "foggy").unwrap();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    let found = Source::open("foggy", &catalog, SourceOptions::default()).unwrap();
    assert_eq!(found.read(found.test_split().unwrap()).unwrap().labels, [0, 1, 0, 1, 0]);
    assert!(fog.import(&catalog, "foggy").unwrap_err().to_string().contains("take another name"));
    assert!(fog.import(&catalog, "../foggy").unwrap_err().to_string().contains("no plain name"));

    picture(&root, "animals/cat/a.png", 3, 3, 1);
    picture(&root, "animals/dog/b.png", 3, 3, 2);
    open(&root, "animals").import(&catalog, "pets").unwrap();
    let pets = Source::open("pets", &catalog, SourceOptions::default()).unwrap();
    assert_eq!(pets.read("all").unwrap().classes, ["cat", "dog"]);
    // A file that is damaged is not taken.
    write(&root, "bad/images.npy", &numbered(2, 0)[..140]);
    write(&root, "bad/labels.npy", &encode_u8(&[2], &[0, 1]));
    assert!(open(&root, "bad").import(&catalog, "bad").unwrap_err().to_string().contains("cut off"));
    assert!(!root.path().join("data/bad").exists());
}

/// Files without a manifest get one from their content, whose digests tell images, labels and classes apart.
#[test]
fn a_manifest_is_made_of_files() {
    let root = tempfile::tempdir().unwrap();
    let archive = |labels: &[u8], first: u8| {
        let members = [
            ("train_images.npy", numbered(3, first)),
            ("train_labels.npy", encode_u8(&[3], labels)),
            ("test_images.npy", numbered(2, 7)),
            ("test_labels.npy", encode_u8(&[2], &[1, 0])),
        ];
        npz(&root, "mine.npz", &members);
        open(&root, "mine.npz")
    };
    let source = archive(&[0, 1, 1], 50);
    let manifest = source.manifest().unwrap();
    assert_eq!((manifest.train, manifest.test, manifest.shape), (3, 2, [4, 4, 1]));
    assert_eq!((manifest.classes.join(" "), manifest.title.as_str()), ("0 1".into(), "mine"));
    assert_eq!(manifest.name, root.path().join("mine.npz").to_str().unwrap());
    // Levels 50, 51 and 52 in equal parts.
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
    near(manifest.mean[0], 51.0 / 255.0);
    near(manifest.std[0], (2.0f64 / 3.0).sqrt() / 255.0);
    let splits = source.load().unwrap();
    assert_eq!((splits.train.labels, first_pixels(&splits.test)), (vec![0, 1, 1], vec![7, 8]));
    source.verify().unwrap();
    let digests = |source: &Source| -> Vec<String> {
        source.manifest().unwrap().files.into_iter().map(|entry| entry.sha256).collect()
    };
    let first = digests(&source);
    let (labels, pixels) = (digests(&archive(&[1, 1, 0], 50)), digests(&archive(&[0, 1, 1], 51)));
    assert!(first[0] != labels[0] && first[0] != pixels[0] && labels[0] != pixels[0]);
    assert_eq!((&first[1], &first[1]), (&labels[1], &pixels[1]));

    npz(&root, "free.npz", &[("images.npy", numbered(2, 0)), ("labels.npy", encode_u8(&[2], &[0, 1]))]);
    let message = open(&root, "free.npz").manifest().unwrap_err().to_string();
    assert!(message.contains("it has no training split; its splits are all"), "{message}");
}
