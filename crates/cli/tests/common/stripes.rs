//! A dataset of our own: four kinds of patterns with noise, as IDX files with a manifest.
#![allow(dead_code, reason = "not every test file uses everything")]

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};
use tarrl_tensor::Key;

/// Names of the files in the order of the manifest: images and labels for training, then for testing.
pub(crate) const FILES: [&str; 4] = ["train-images", "train-labels", "test-images", "test-labels"];

const CLASSES: usize = 4;

/// The sizes of the images and of the patterns on them.
pub(crate) struct Stripes {
    pub(crate) train: usize,
    pub(crate) test: usize,
    pub(crate) side: usize,
    /// Of a row or a column, in pixels.
    pub(crate) width: usize,
    /// The side of a square.
    pub(crate) square: usize,
    /// The square of the disc's radius, to which up to a side is added.
    pub(crate) disc: usize,
}

/// The size of MNIST's images.
pub(crate) const USUAL: Stripes = Stripes { train: 256, test: 40, side: 28, width: 3, square: 7, disc: 50 };

/// For a study of a tenth of a second.
pub(crate) const TINY: Stripes = Stripes { train: 64, test: 16, side: 12, width: 2, square: 3, disc: 12 };

impl Stripes {
    /// Writes the dataset `stripes` into a folder of manifests.
    pub(crate) fn write(&self, datasets: &Path) {
        let folder = datasets.join("stripes");
        fs::create_dir_all(&folder).unwrap();
        for (i, (split, n)) in [("train", self.train), ("test", self.test)].into_iter().enumerate() {
            fs::write(folder.join(FILES[2 * i]), self.images(split, n)).unwrap();
            fs::write(folder.join(FILES[2 * i + 1]), labels(n)).unwrap();
        }
        self.describe(datasets);
    }

    /// Writes the manifest of the files as they are now, so that size and digest always agree.
    pub(crate) fn describe(&self, datasets: &Path) {
        let Stripes { train, test, side, .. } = self;
        let mut text = format!(
            "title = \"Stripes\"\nlicense = \"MIT\"\nsource = \"made by a test\"\nformat = \"idx\"\n\
             shape = [{side}, {side}, 1]\ntrain = {train}\ntest = {test}\n\
             classes = [\"rows\", \"columns\", \"squares\", \"disc\"]\nmean = [0.4]\nstd = [0.3]\n\
             [coarse]\nname = \"outline\"\ngroups = [\"straight\", \"round\"]\nof = [0, 0, 0, 1]\n"
        );
        for name in FILES {
            let bytes = fs::read(datasets.join("stripes").join(name)).unwrap();
            let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            let size = bytes.len();
            text += &format!("[[files]]\nname = \"{name}\"\nsize = {size}\nsha256 = \"{sha256}\"\n");
        }
        fs::write(datasets.join("stripes.toml"), text).unwrap();
    }

    fn images(&self, split: &str, n: usize) -> Vec<u8> {
        let Stripes { side, width, square, disc, .. } = *self;
        let mut bytes = header(&[2051, n, side, side]);
        for i in 0..n {
            let mut noise = Key::new(0).fold(split).fold(i).stream();
            let shift = noise.below(side);
            for (y, x) in (0..side * side).map(|p| (p / side, p % side)) {
                let bright = match i % CLASSES {
                    0 => ((y + shift) / width).is_multiple_of(2),
                    1 => ((x + shift) / width).is_multiple_of(2),
                    2 => ((x + shift) / square + (y + shift) / square).is_multiple_of(2),
                    _ => x.abs_diff(side / 2).pow(2) + y.abs_diff(side / 2).pow(2) < disc + shift,
                };
                let level = if bright { 0.7 } else { 0.1 };
                bytes.push((255.0 * (level + 0.3 * noise.unit())) as u8);
            }
        }
        bytes
    }
}

fn labels(n: usize) -> Vec<u8> {
    let mut bytes = header(&[2049, n]);
    bytes.extend((0..n).map(|i| (i % CLASSES) as u8));
    bytes
}

fn header(words: &[usize]) -> Vec<u8> {
    words.iter().flat_map(|&word| u32::try_from(word).unwrap().to_be_bytes()).collect()
}
