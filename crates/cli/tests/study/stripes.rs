//! A dataset of our own: four kinds of patterns with noise, as IDX files with a manifest.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};
use tarrl_tensor::Key;

/// Names of the files in the order of the manifest: images and labels for training, then for testing.
pub(crate) const FILES: [&str; 4] = ["train-images", "train-labels", "test-images", "test-labels"];
pub(crate) const TRAIN: usize = 256;
pub(crate) const TEST: usize = 40;

const SIDE: usize = 28;
const CLASSES: usize = 4;

/// Writes the dataset `stripes` into a folder of manifests.
pub(crate) fn write(datasets: &Path) {
    let folder = datasets.join("stripes");
    fs::create_dir_all(&folder).unwrap();
    for (i, (split, n)) in [("train", TRAIN), ("test", TEST)].into_iter().enumerate() {
        fs::write(folder.join(FILES[2 * i]), images(split, n)).unwrap();
        fs::write(folder.join(FILES[2 * i + 1]), labels(n)).unwrap();
    }
    describe(datasets);
}

/// Writes the manifest of the files as they are now, so that size and digest always agree.
pub(crate) fn describe(datasets: &Path) {
    let mut text = format!(
        "title = \"Stripes\"\nlicense = \"MIT\"\nsource = \"made by a test\"\nformat = \"idx\"\n\
         shape = [{SIDE}, {SIDE}, 1]\ntrain = {TRAIN}\ntest = {TEST}\nclasses = [\"rows\", \"columns\", \"squares\", \"disc\"]\n\
         mean = [0.4]\nstd = [0.3]\n\
         [coarse]\nname = \"outline\"\ngroups = [\"straight\", \"round\"]\nof = [0, 0, 0, 1]\n"
    );
    for name in FILES {
        let bytes = fs::read(datasets.join("stripes").join(name)).unwrap();
        let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("[[files]]\nname = \"{name}\"\nsize = {}\nsha256 = \"{sha256}\"\n", bytes.len());
    }
    fs::write(datasets.join("stripes.toml"), text).unwrap();
}

fn images(split: &str, n: usize) -> Vec<u8> {
    let mut bytes = header(&[2051, n, SIDE, SIDE]);
    for i in 0..n {
        let mut noise = Key::new(0).fold(split).fold(i).stream();
        let shift = noise.below(SIDE);
        for (y, x) in (0..SIDE * SIDE).map(|p| (p / SIDE, p % SIDE)) {
            let bright = match i % CLASSES {
                0 => ((y + shift) / 3).is_multiple_of(2),
                1 => ((x + shift) / 3).is_multiple_of(2),
                2 => ((x + shift) / 7 + (y + shift) / 7).is_multiple_of(2),
                _ => x.abs_diff(14).pow(2) + y.abs_diff(14).pow(2) < 50 + shift,
            };
            let level = if bright { 0.7 } else { 0.1 };
            bytes.push((255.0 * (level + 0.3 * noise.unit())) as u8);
        }
    }
    bytes
}

fn labels(n: usize) -> Vec<u8> {
    let mut bytes = header(&[2049, n]);
    bytes.extend((0..n).map(|i| (i % CLASSES) as u8));
    bytes
}

fn header(words: &[usize]) -> Vec<u8> {
    words.iter().flat_map(|&word| u32::try_from(word).unwrap().to_be_bytes()).collect()
}
