//! What a manifest says, of any source: for files without one it is made from their content.

use std::io;

use super::{Origin, Source};
use crate::dataset::{Dataset, Splits};
use crate::error::{Result, setting};
use crate::files::{CopyError, copy_hashed};
use crate::manifest::{Entry, Format, Manifest};

impl Source {
    /// The manifest, or one made from the images, whose `files` are the splits `train` and `test` with digests of their content.
    ///
    /// # Errors
    /// If there are not two splits of one shape, or they cannot be read.
    pub fn manifest(&self) -> Result<Manifest> {
        if let Origin::Catalog(catalog) = &self.origin {
            return catalog.manifest(&self.dataset);
        }
        let Splits { train, test } = self.load()?;
        let (h, w, c) = train.shape();
        let (mean, std) = moments(&train);
        Ok(Manifest {
            name: self.dataset.clone(),
            title: self.name.clone(),
            license: "that of its files".to_owned(),
            source: format!("{} ({})", self.dataset, self.format()),
            format: Format::Files,
            shape: [h, w, c],
            train: train.len(),
            test: test.len(),
            classes: train.classes.clone(),
            mean,
            std,
            by_hand: None,
            system: Vec::new(),
            coarse: None,
            files: vec![entry("train", &train), entry("test", &test)],
        })
    }

    /// The split to learn from and the one to report on.
    ///
    /// # Errors
    /// If there are not both, of one shape, or they cannot be read.
    pub fn load(&self) -> Result<Splits> {
        if let Origin::Catalog(catalog) = &self.origin {
            return catalog.load(&self.dataset);
        }
        let (train, test) = (self.read(self.train_split()?)?, self.read(self.test_split()?)?);
        if train.shape() != test.shape() {
            return Err(setting(
                format!("dataset '{}'", self.dataset),
                format!("its training images are {:?}, its test images {:?}", train.shape(), test.shape()),
                "bring all images to one size",
            ));
        }
        Ok(Splits { train, test })
    }

    /// Whether everything is there: files with a manifest are compared with it, others are read.
    ///
    /// # Errors
    /// What is missing or damaged.
    pub fn verify(&self) -> Result<()> {
        match &self.origin {
            Origin::Catalog(catalog) => catalog.verify(&self.dataset).map(drop),
            Origin::Files { .. } => self.load().map(drop),
        }
    }
}

/// Mean and standard deviation of each channel, in units of [0, 1].
fn moments(data: &Dataset) -> (Vec<f64>, Vec<f64>) {
    let c = data.shape().2;
    // Whole numbers, whose sums are exact.
    let mut sums = vec![[0u64; 2]; c];
    for (i, &level) in data.images.iter().enumerate() {
        let level = u64::from(level);
        sums[i % c][0] += level;
        sums[i % c][1] += level * level;
    }
    let n = (data.images.len() / c) as f64;
    let of = |[sum, squares]: [u64; 2]| {
        let mean = sum as f64 / n / 255.0;
        let variance = squares as f64 / n / (255.0 * 255.0) - mean * mean;
        // Images of one color have no deviation to divide by.
        (mean, if variance > 1e-12 { variance.sqrt() } else { 1.0 })
    };
    sums.into_iter().map(of).unzip()
}

/// A split as a file: the bytes of its shape, classes, labels and pixels.
fn entry(name: &str, data: &Dataset) -> Entry {
    let head = format!("{:?}\n{}\n", data.images.dim(), data.classes.join("\n"));
    let labels: Vec<u8> = data.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
    let pixels = data.images.as_slice().expect("images are in the order of their axes");
    let mut content = io::Read::chain(io::Read::chain(head.as_bytes(), &labels[..]), pixels);
    let size = (head.len() + labels.len() + pixels.len()) as u64;
    let (size, sha256) = copy_hashed(&mut content, &mut io::sink(), size, &mut |_| ())
        .unwrap_or_else(|error: CopyError| unreachable!("memory can be read: {error:?}"));
    Entry { name: name.to_owned(), size, sha256, urls: Vec::new() }
}
