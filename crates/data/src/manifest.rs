//! Dataset manifests: one TOML file with its title, license, shape, classes, and the size and
//! SHA-256 of every file.

use std::path::Path;

use serde::Deserialize;

use crate::cifar;
use crate::error::{Result, io_error, malformed};
use crate::files::read_at_most;
use crate::name::is_plain_name;
use crate::task::Grouping;

/// The longest manifest that is read.
const MOST_BYTES: u64 = 1 << 24;

/// The description of a dataset, read from `<name>.toml`. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The file name without its ending.
    #[serde(skip)]
    pub name: String,
    /// The name for people.
    pub title: String,
    /// The license, or the custom where there is none.
    #[serde(alias = "licence")]
    pub license: String,
    /// Who made it and where it is published, in words.
    pub source: String,
    /// How its files are laid out.
    pub format: Format,
    /// Height, width, channels.
    pub shape: [usize; 3],
    /// Number of training images.
    pub train: usize,
    /// Number of test images.
    pub test: usize,
    /// The classes in order of their label.
    pub classes: Vec<String>,
    /// Mean of each channel over the training images, in units of [0, 1].
    pub mean: Vec<f64>,
    /// Standard deviation of each channel over the training images, in units of [0, 1].
    pub std: Vec<f64>,
    /// How to get the files by hand, as the end of a sentence that begins "or".
    #[serde(default)]
    pub by_hand: Option<String>,
    /// Folders where a package of the operating system installs the files.
    #[serde(default)]
    pub system: Vec<std::path::PathBuf>,
    /// A natural grouping of the classes.
    #[serde(default)]
    pub coarse: Option<Grouping>,
    /// The files, IDX in the order of [`Format::Idx`].
    pub files: Vec<Entry>,
}

/// How the files of a dataset are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Four IDX files: training images, training labels, test images, test labels.
    Idx,
    /// One archive of CIFAR-10's binary version, or the folder that it unpacks to.
    Cifar10,
    /// One archive of CIFAR-100's binary version, or the folder that it unpacks to.
    Cifar100,
    /// Files without a manifest, of any format that a [`Source`](crate::Source) reads.
    #[serde(skip)]
    Files,
}

/// One file of a dataset.
///
/// Size and digest are those of the content under this name. A copy named `<name>.gz` is unpacked
/// before it is compared, because every distributor compresses anew.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The file name.
    pub name: String,
    /// Bytes of content.
    pub size: u64,
    /// SHA-256 of the content in lower-case hexadecimal.
    pub sha256: String,
    /// Addresses that serve the file or its gzipped form, tried in order.
    #[serde(default)]
    pub urls: Vec<String>,
}

impl Format {
    /// The kind of CIFAR, if it is one.
    pub(crate) fn cifar(self) -> Option<cifar::Kind> {
        match self {
            Format::Idx | Format::Files => None,
            Format::Cifar10 => Some(cifar::Kind::Cifar10),
            Format::Cifar100 => Some(cifar::Kind::Cifar100),
        }
    }
}

impl Manifest {
    /// Reads and checks one manifest.
    ///
    /// # Errors
    /// If the file cannot be read, is no TOML, has an unknown or missing key, or contradicts itself.
    pub fn read(path: &Path) -> Result<Manifest> {
        let bytes = read_at_most(path, MOST_BYTES).map_err(|e| io_error(path, "read the manifest", e))?;
        let text = String::from_utf8(bytes)
            .map_err(|e| malformed(path, format!("it is no text ({e})"), "correct the manifest"))?;
        let mut manifest: Manifest = toml::from_str(&text)
            .map_err(|e| malformed(path, e.to_string().trim_end().to_owned(), "correct the manifest"))?;
        manifest.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match manifest.contradiction() {
            Some(cause) => Err(malformed(path, cause, "correct the manifest")),
            None => Ok(manifest),
        }
    }

    /// What to put where by hand, for messages.
    pub(crate) fn by_hand(&self, folder: &Path) -> String {
        let files: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        let also = self.by_hand.as_ref().map(|hint| format!(", or {hint}")).unwrap_or_default();
        let form = if self.format == Format::Idx { ", plain or as .gz," } else { "" };
        format!("put {}{form} into {}{also}", files.join(", "), folder.display())
    }

    fn contradiction(&self) -> Option<String> {
        let [h, w, c] = self.shape;
        let files = if self.format == Format::Idx { 4 } else { 1 };
        let digest = |entry: &&Entry| {
            entry.sha256.len() != 64 || !entry.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let unsafe_name = |entry: &&Entry| !is_plain_name(&entry.name);
        if !is_plain_name(&self.name) {
            Some(format!("its name gives the dataset the name '{}', which is no plain name", self.name))
        } else if [h, w, c].contains(&0) || self.classes.is_empty() || self.train == 0 || self.test == 0 {
            Some("shape, classes, train and test must not be empty".into())
        } else if let Some(twice) = self.classes.iter().enumerate().find_map(|(i, class)| {
            (class.trim().is_empty() || self.classes[..i].contains(class)).then_some(class)
        }) {
            Some(format!("the class '{twice}' is there twice or has no name; results name their classes"))
        } else if self.mean.len() != c || self.std.len() != c {
            Some(format!("mean and std need one number for each of the {c} channels"))
        } else if !self.mean.iter().chain(&self.std).all(|v| v.is_finite())
            || self.std.iter().any(|&v| v <= 0.0)
        {
            Some("mean and std have to be finite, and std positive".into())
        } else if self.files.len() != files {
            Some(format!("the format needs {files} [[files]], there are {}", self.files.len()))
        } else if let Some(entry) = self.files.iter().find(digest) {
            Some(format!("the sha256 of {} is not 64 lower-case hexadecimal digits", entry.name))
        } else if let Some(entry) = self.files.iter().find(unsafe_name) {
            Some(format!("'{}' is not a plain file name", entry.name))
        } else {
            self.coarse.as_ref().and_then(|g| g.check(self.classes.len()).err()).map(|e| e.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        let files: String = ["a", "b", "c", "d"]
            .map(|name| format!("[[files]]\nname = '{name}'\nsize = 1\nsha256 = '{}'\n", "0".repeat(64)))
            .concat();
        format!(
            "title = 'T'\nlicense = 'L'\nsource = 'S'\nformat = 'idx'\nshape = [2, 2, 1]\ntrain = 1\ntest = 1\n\
             classes = ['x', 'y']\nmean = [0.5]\nstd = [0.5]\n{files}"
        )
    }

    fn read(text: &str) -> Result<Manifest> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.toml");
        std::fs::write(&path, text).unwrap();
        Manifest::read(&path)
    }

    #[test]
    fn the_name_is_that_of_the_file() {
        assert_eq!(read(&text()).unwrap().name, "tiny");
    }

    #[test]
    fn a_dataset_is_not_called_like_the_folder_above() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("...toml");
        std::fs::write(&path, text()).unwrap();
        let message = Manifest::read(&path).unwrap_err().to_string();
        assert!(message.contains("the name '..', which is no plain name"), "{message}");
    }

    #[test]
    fn sides_whose_product_wraps_are_not_empty() {
        let huge = text().replacen("shape = [2, 2, 1]", "shape = [4294967296, 4294967296, 1]", 1);
        assert_eq!(read(&huge).unwrap().shape, [1 << 32, 1 << 32, 1]);
    }

    #[test]
    fn faults_name_file_and_key() {
        for (from, to, cause) in [
            ("title", "titel", "unknown field `titel`"),
            ("mean = [0.5]", "mean = []", "one number for each of the 1 channels"),
            ("['x', 'y']", "['x', 'x']", "the class 'x' is there twice"),
            ("['x', 'y']", "['x', ' ']", "the class ' ' is there twice or has no name"),
            ("name = 'b'", "name = '../b'", "'../b' is not a plain file name"),
            ("name = 'b'", "name = '..'", "'..' is not a plain file name"),
            ("std = [0.5]", "std = [0.0]", "std positive"),
            ("mean = [0.5]", "mean = [nan]", "have to be finite"),
            ("shape = [2, 2, 1]", "shape = [4294967296, 4294967296, 0]", "must not be empty"),
            ("'idx'", "'cifar10'", "needs 1 [[files]], there are 4"),
            ("'idx'", "'npz'", "unknown variant `npz`"),
            ("'0000", "'000G", "not 64 lower-case"),
            ("train = 1", "train = 0", "must not be empty"),
            ("mean =", "coarse = { name = 'c', groups = ['g'], of = [0] }\nmean =", "maps 1 classes"),
        ] {
            let message = read(&text().replacen(from, to, 1)).unwrap_err().to_string();
            assert!(message.contains(cause) && message.contains("tiny.toml"), "{message}");
        }
    }
}
