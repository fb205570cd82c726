//! Targets of arrays and archives of other programs: npy, npz, MATLAB's matrices, STL-10, labels of IDX.

use crate::scratch::Scratch;
use crate::target::{Target, none};
use std::path::Path;
use tarrl_data::{Catalog, Source, SourceOptions, idx, mat, npy, stl10, write_zip};

pub(super) const NPY: Target = Target {
    name: "npy",
    seeds: npy_files,
    words: &[
        "'descr'",
        "'fortran_order'",
        "'shape'",
        "True",
        "False",
        "|u1",
        ">i8",
        "<f4",
        "|O",
        "(2, 2, 2)",
        "9999999999",
    ],
    repair: none,
    read: read_npy,
};

pub(super) const NPZ: Target = Target {
    name: "npz",
    seeds: npz_files,
    words: &[
        "PK\x01\x02",
        "PK\x03\x04",
        "PK\x05\x06",
        "PK\x06\x06",
        "images.npy",
        "labels.npy",
        "\x08\0",
        "\x01\0",
    ],
    repair: none,
    read: read_npz,
};

pub(super) const MAT: Target = Target {
    name: "mat",
    seeds: mat_files,
    words: &["\x0e\0\0\0", "\x0f\0\0\0", "\x05\0\0\0", "\x01\0\x01\0X", "\x01\0\x01\0y"],
    repair: none,
    read: read_mat,
};

pub(super) const STL10: Target = Target {
    name: "stl10-labels",
    seeds: || vec![vec![1, 10, 5]],
    words: &[],
    repair: none,
    read: read_stl10,
};

pub(super) const IDX_LABELS: Target = Target {
    name: "idx-labels",
    seeds: idx_label_files,
    words: &["\0\0\x08\x01", "\0\0\x0c\x02", "\0\0\0\x08"],
    repair: none,
    read: read_idx_labels,
};

fn npy_files() -> Vec<Vec<u8>> {
    let pixels: Vec<u8> = (0..24).collect();
    let levels: Vec<f32> = (0..8u8).map(|level| f32::from(level) / 255.0).collect();
    vec![
        npy::encode_u8(&[2, 2, 2, 3], &pixels),
        npy::encode_u8(&[3, 2, 4], &pixels),
        npy::encode_f32(&[2, 2, 2], &levels),
        npy::encode_u32(&[3], &[2, 0, 1]),
    ]
}

fn read_npy(bytes: &[u8], _: &Scratch) -> bool {
    let path = Path::new("input.npy");
    let images = npy::parse_images(bytes, path).map(|images| {
        let (n, h, w, c) = images.dim();
        assert!(n * h * w > 0 && [1, 3].contains(&c) && images.len() < bytes.len(), "{:?}", images.dim());
    });
    let labels = npy::parse_labels(bytes, path).map(|labels| assert!(labels.len() < bytes.len()));
    images.is_ok() || labels.is_ok()
}

fn npz_files() -> Vec<Vec<u8>> {
    let (images, labels) =
        (npy::encode_u8(&[2, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8]), npy::encode_u8(&[2, 1], &[1, 0]));
    let archive = |names: [&str; 2]| {
        let mut bytes = Vec::new();
        write_zip(&mut bytes, &[(names[0], &images), (names[1], &labels)]).expect("a vector takes all");
        bytes
    };
    vec![archive(["images.npy", "labels.npy"]), archive(["test_images.npy", "test_labels.npy"])]
}

fn read_npz(bytes: &[u8], scratch: &Scratch) -> bool {
    let path = scratch.file("npz/input.npz", bytes);
    let catalog = Catalog::new(scratch.path("manifests"), scratch.path("data"));
    let name = path.to_str().expect("a temporary folder has a plain name");
    let Ok(source) = Source::open(name, &catalog, SourceOptions::default()) else { return false };
    let read = |split: &&str| {
        source.read(split).map(|data| {
            assert!(data.labels.iter().all(|&label| usize::from(label) < data.classes.len()));
            assert_eq!(data.images.dim().0, data.labels.len());
        })
    };
    source.splits().iter().filter(|split| read(split).is_ok()).count() > 0
}

fn mat_files() -> Vec<Vec<u8>> {
    let element = |kind: u8, data: &[u8]| {
        let mut bytes = vec![kind, 0, 0, 0];
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let matrix = |sides: &[u32], name: u8, values: &[u8]| {
        let sides: Vec<u8> = sides.iter().flat_map(|side| side.to_le_bytes()).collect();
        let name = vec![1, 0, 1, 0, name, 0, 0, 0];
        element(
            14,
            &[element(6, &[9, 0, 0, 0, 0, 0, 0, 0]), element(5, &sides), name, element(2, values)].concat(),
        )
    };
    let pixels: Vec<u8> = (0..24).collect();
    let parts = [matrix(&[2, 2, 3, 2], b'X', &pixels), matrix(&[2, 1], b'y', &[10, 3])];
    let packed = parts.each_ref().map(|part| {
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut out, part).expect("a vector takes all");
        let data = out.finish().expect("a vector takes all");
        [&[15, 0, 0, 0][..], &(data.len() as u32).to_le_bytes(), &data].concat()
    });
    let header = [&[b' '; 124][..], &[0, 1, b'I', b'M']].concat();
    vec![[&header[..], &parts.concat()].concat(), [&header[..], &packed.concat()].concat()]
}

fn read_mat(bytes: &[u8], _: &Scratch) -> bool {
    let Ok((images, labels)) = mat::parse(bytes, Path::new("input.mat")) else { return false };
    assert!(
        images.dim().0 == labels.len() && images.dim().3 == 3 && !labels.contains(&10),
        "{:?}",
        images.dim()
    );
    true
}

fn read_stl10(bytes: &[u8], _: &Scratch) -> bool {
    let path = Path::new("train_X.bin");
    assert!(stl10::parse_images(bytes, path).is_err(), "{} bytes are no image", bytes.len());
    let labels = stl10::parse_labels(bytes, path);
    labels.is_ok_and(|labels| {
        assert!(labels.len() == bytes.len() && labels.iter().all(|&label| label < 10));
        true
    })
}

fn idx_label_files() -> Vec<Vec<u8>> {
    let mut narrow = Vec::new();
    idx::write_labels(&mut narrow, &[2, 0, 1]).expect("a vector takes all");
    let mut wide = vec![0, 0, 0x0c, 2, 0, 0, 0, 2, 0, 0, 0, 8];
    wide.extend([7i32, 4, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0].iter().flat_map(|v| v.to_be_bytes()));
    vec![narrow, wide]
}

fn read_idx_labels(bytes: &[u8], _: &Scratch) -> bool {
    let labels = idx::parse_any_labels(bytes, Path::new("input"));
    labels.is_ok_and(|labels| {
        assert!(!labels.is_empty() && labels.len() < bytes.len());
        true
    })
}
