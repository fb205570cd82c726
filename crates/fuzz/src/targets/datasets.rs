//! Targets of datasets: IDX, gzip, CIFAR records and archives, PNG, JPEG, manifests.

use crate::target::{Target, none};
use crate::{repair, scratch::Scratch};
use png::{BitDepth, ColorType};
use std::io::Write;
use std::path::Path;
use tarrl_data::cifar::{self, Kind};
use tarrl_data::{Manifest, folder, idx, is_plain_name};

pub(super) const IDX: Target = Target {
    name: "idx",
    seeds: idx_files,
    words: &["\0\0\x08\x03", "\0\0\x08\x01"],
    repair: none,
    read: read_idx,
};

pub(super) const GZIP: Target =
    Target { name: "gzip", seeds: gzip_files, words: &[], repair: repair::gzip, read: read_gzip };

pub(super) const CIFAR: Target =
    Target { name: "cifar", seeds: cifar_files, words: &[], repair: none, read: read_cifar };

pub(super) const ARCHIVE: Target = Target {
    name: "cifar-archive",
    seeds: archives,
    words: &["cifar-10-batches-bin/", "data_batch_1.bin", "train.bin", "../", "77777777777", "ustar"],
    repair: repair::tar,
    read: read_archive,
};

pub(super) const PNG: Target = Target {
    name: "png",
    seeds: png_files,
    words: &["IHDR", "PLTE", "tRNS", "IDAT", "IEND", "acTL", "fcTL", "iCCP", "zTXt"],
    repair: repair::png,
    read: |bytes, scratch| read_image(&scratch.file("png/class/image.png", bytes)),
};

pub(super) const JPEG: Target = Target {
    name: "jpeg",
    seeds: jpeg_files,
    words: &[],
    repair: none,
    read: |bytes, scratch| read_image(&scratch.file("jpeg/class/image.jpg", bytes)),
};

pub(super) const MANIFEST: Target = Target {
    name: "dataset-manifest",
    seeds: || {
        ["mnist", "cifar10", "cifar100"]
            .iter()
            .map(|name| repository(&format!("datasets/{name}.toml")))
            .collect()
    },
    words: &[
        "title",
        "format",
        "idx",
        "cifar10",
        "shape",
        "classes",
        "coarse",
        "[[files]]",
        "sha256",
        "..",
        "a/b",
    ],
    repair: none,
    read: read_manifest,
};

/// A file of the repository.
pub(super) fn repository(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn idx_files() -> Vec<Vec<u8>> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    let pixels = gray_images();
    idx::write_images(&mut images, pixels.view()).expect("a vector takes all");
    idx::write_labels(&mut labels, &[2, 0, 1]).expect("a vector takes all");
    vec![images, labels]
}

/// Gray images `(3, 2, 4, 1)`.
fn gray_images() -> ndarray::Array4<u8> {
    ndarray::Array4::from_shape_fn((3, 2, 4, 1), |(n, y, x, _)| (n * 8 + y * 4 + x) as u8)
}

fn read_idx(bytes: &[u8], _: &Scratch) -> bool {
    let path = Path::new("input");
    let images = idx::parse_images(bytes, path).map(|images| {
        let mut again = Vec::new();
        idx::write_images(&mut again, images.view()).expect("a vector takes all");
        assert!(again == bytes, "images are not those of the file");
    });
    let labels = idx::parse_labels(bytes, path).map(|labels| assert!(labels == bytes[8..]));
    images.is_ok() || labels.is_ok()
}

fn gzip_files() -> Vec<Vec<u8>> {
    let packed = |level: u32| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        out.write_all(&idx_files()[0]).expect("a vector takes all");
        out.finish().expect("a vector takes all")
    };
    vec![packed(0), packed(6)]
}

fn read_gzip(bytes: &[u8], scratch: &Scratch) -> bool {
    let images = scratch.file("images.gz", bytes);
    let labels = scratch.path("labels");
    if !labels.exists() {
        scratch.file("labels", &idx_files()[1]);
    }
    let classes = ["a", "b", "c"].map(String::from);
    idx::read("input", &images, &labels, &classes).map(|data| assert_eq!(data.len(), 3)).is_ok()
}

fn cifar_files() -> Vec<Vec<u8>> {
    let ten: Vec<u8> = (0..2 * 3073u32).map(|i| if i % 3073 == 0 { 9 } else { (i * 7) as u8 }).collect();
    let hundred: Vec<u8> = (0..2 * 3074u32).map(|i| if i % 3074 < 2 { 19 } else { (i * 5) as u8 }).collect();
    vec![ten, hundred]
}

fn read_cifar(bytes: &[u8], _: &Scratch) -> bool {
    let accepted =
        [(Kind::Cifar10, 10, None), (Kind::Cifar100, 100, Some(20))].map(|(kind, classes, groups)| {
            let Ok(records) = cifar::parse(kind, bytes, Path::new("input")) else { return false };
            let n = records.labels.len();
            assert_eq!(records.images.dim(), (n, 32, 32, 3));
            assert!(
                n * kind.record_bytes() == bytes.len() && records.labels.iter().all(|&label| label < classes)
            );
            let coarse = records.coarse.unwrap_or_default();
            assert!(coarse.iter().all(|&group| group < groups.unwrap_or(0)));
            true
        });
    accepted.contains(&true)
}

/// Archives that are too short to be CIFAR, packed and not.
fn archives() -> Vec<Vec<u8>> {
    let archive = |kind: Kind| {
        let mut archive = tar::Builder::new(Vec::new());
        for (member, _) in kind.members() {
            let mut header = tar::Header::new_ustar();
            header.set_size(600);
            header.set_mode(0o644);
            let name = format!("{}/{member}", kind.folder());
            archive.append_data(&mut header, name, &[3; 600][..]).expect("a vector takes all");
        }
        archive.into_inner().expect("a vector takes all")
    };
    vec![archive(Kind::Cifar10), archive(Kind::Cifar100)]
}

fn read_archive(bytes: &[u8], scratch: &Scratch) -> bool {
    let path = scratch.file("archive.tar", bytes);
    let classes: Vec<String> = (0..100).map(|class| class.to_string()).collect();
    for (kind, classes) in [(Kind::Cifar10, &classes[..10]), (Kind::Cifar100, &classes[..])] {
        let read = cifar::read(kind, &path, cifar::Names { dataset: "input", classes, coarse: None });
        assert!(read.is_err(), "an archive of {} bytes does not hold {kind:?}", bytes.len());
    }
    false
}

/// Pictures of 9 × 7 pixels with some detail: gray, in color, and in color with 16 bits a channel.
fn png_files() -> Vec<Vec<u8>> {
    let value = |x: usize, y: usize| ((x * 37 + y * 101) * 79 % 251) as u8;
    let places = || (0..9 * 7).map(|i| (i % 9, i / 9));
    let gray: Vec<u8> = places().map(|(x, y)| value(x, y)).collect();
    let color: Vec<u8> = places().flat_map(|(x, y)| [value(x, y), value(y, x), value(x + y, 3)]).collect();
    let deep: Vec<u8> = color.iter().flat_map(|&sample| [sample; 2]).collect();
    let encoded = |color, depth, samples: &[u8]| {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 9, 7);
        encoder.set_color(color);
        encoder.set_depth(depth);
        let writer = encoder.write_header();
        writer.and_then(|mut writer| writer.write_image_data(samples)).expect("a vector takes all");
        bytes
    };
    vec![
        encoded(ColorType::Grayscale, BitDepth::Eight, &gray),
        encoded(ColorType::Rgb, BitDepth::Eight, &color),
        encoded(ColorType::Rgb, BitDepth::Sixteen, &deep),
    ]
}

/// Gray and in color, written by Pillow.
fn jpeg_files() -> Vec<Vec<u8>> {
    ["gray", "noise"]
        .iter()
        .map(|name| repository(&format!("crates/data/tests/pictures/{name}.jpg")))
        .collect()
}

fn read_image(path: &Path) -> bool {
    let folder = path.ancestors().nth(2).expect("the image is in a class of a folder");
    let Ok(data) = folder::read("input", folder) else { return false };
    let (h, w, c) = data.shape();
    assert!(data.len() == 1 && h.max(w) <= 4096 && [1, 3].contains(&c), "{:?}", data.shape());
    true
}

fn read_manifest(bytes: &[u8], scratch: &Scratch) -> bool {
    let Ok(manifest) = Manifest::read(&scratch.file("input.toml", bytes)) else { return false };
    let [h, w, c] = manifest.shape;
    assert!(h.min(w).min(c) > 0 && manifest.mean.len() == c && manifest.std.len() == c);
    assert!(manifest.files.iter().all(|file| is_plain_name(&file.name) && file.sha256.len() == 64));
    assert!(manifest.mean.iter().chain(&manifest.std).all(|value| value.is_finite()), "{manifest:?}");
    assert!(manifest.std.iter().all(|&std| std > 0.0), "{manifest:?}");
    true
}
