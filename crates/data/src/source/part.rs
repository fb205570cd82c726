//! Parts of a source: the files of one split, and how they are read.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::arrays;
use crate::cifar;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::files;
use crate::zip::Archive;
use crate::{folder, idx, mat, npy, stl10};

use super::options::SourceOptions;

/// The files of one split.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Two arrays of NumPy.
    Npy { images: Place, labels: Place },
    /// Two IDX files.
    Idx { images: Place, labels: Place, variant: Variant },
    /// A file of images and one of labels; without one all images have the label 0.
    Stl10 { images: PathBuf, labels: Option<PathBuf> },
    /// MATLAB's matrices X and y.
    Mat(PathBuf),
    /// A folder of class folders.
    Folder(PathBuf),
    /// The official archive of CIFAR or what it unpacks to.
    Cifar { kind: cifar::Kind, path: PathBuf, is_test: bool },
    /// Tables of encoded pictures.
    Parquet(Vec<PathBuf>),
}

/// A file, or a member of an archive.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    File(PathBuf),
    Member(PathBuf, String),
}

/// What is peculiar to a set of IDX files.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Variant {
    /// Rows and columns are exchanged, as in EMNIST.
    pub(super) is_transposed: bool,
    /// Labels count from 1, as those of EMNIST's letters.
    pub(super) from_one: bool,
}

impl Place {
    /// For messages.
    fn path(&self) -> PathBuf {
        match self {
            Place::File(path) => path.clone(),
            Place::Member(path, member) => path.join(member),
        }
    }

    fn file(&self) -> PathBuf {
        match self {
            Place::File(path) | Place::Member(path, _) => path.clone(),
        }
    }

    /// The content; what is gzipped is unpacked.
    fn open(&self) -> Result<Box<dyn Read>> {
        match self {
            Place::File(path) => files::open(path),
            Place::Member(path, member) => {
                // An array of 64-bit numbers, with its header.
                let most = 8 * arrays::MOST_PIXELS + (1 << 17);
                let stream = Archive::open(path)?.stream(member, most)?;
                files::gunzipped(stream).map_err(|e| crate::error::io_error(path, "read the file", e))
            }
        }
    }
}

impl Part {
    pub(super) fn has_class_names(&self) -> bool {
        matches!(
            self,
            Part::Folder(_)
                | Part::Cifar { kind: cifar::Kind::Cifar10, .. }
                | Part::Stl10 { .. }
                | Part::Mat(_)
        )
    }

    pub(super) fn is_of_pictures(&self) -> bool {
        matches!(self, Part::Folder(_) | Part::Parquet(_))
    }

    pub(super) fn places(&self) -> Vec<PathBuf> {
        match self {
            Part::Npy { images, labels } | Part::Idx { images, labels, .. } => {
                vec![images.file(), labels.file()]
            }
            Part::Stl10 { images, labels } => labels.iter().chain([images]).cloned().collect(),
            Part::Mat(path) | Part::Folder(path) | Part::Cifar { path, .. } => vec![path.clone()],
            Part::Parquet(paths) => paths.clone(),
        }
    }

    /// The names of the classes, where the files have some.
    pub(super) fn class_names(&self) -> Result<Option<Vec<String>>> {
        let named = |names: &[&str]| Ok(Some(names.iter().map(|name| (*name).to_owned()).collect()));
        match self {
            Part::Stl10 { labels: Some(_), .. } => named(&stl10::CLASSES),
            Part::Stl10 { labels: None, .. } | Part::Npy { .. } | Part::Idx { .. } => Ok(None),
            Part::Mat(_) => named(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]),
            Part::Folder(path) => folder::classes(path).map(Some),
            Part::Cifar { kind: cifar::Kind::Cifar10, .. } => named(&CIFAR_10),
            Part::Cifar { kind: cifar::Kind::Cifar100, .. } => {
                Ok(Some((0..100).map(|class| class.to_string()).collect()))
            }
            Part::Parquet(paths) => parquet_classes(paths),
        }
    }

    /// The labels, of parts whose classes have no names.
    pub(super) fn labels(&self) -> Result<Vec<u16>> {
        match self {
            Part::Npy { labels, .. } => npy::parse_labels(labels.open()?, &labels.path()),
            Part::Idx { labels, variant, .. } => {
                let numbers = idx::parse_any_labels(labels.open()?, &labels.path())?;
                Ok(if variant.from_one {
                    numbers.iter().map(|label| label.saturating_sub(1)).collect()
                } else {
                    numbers
                })
            }
            Part::Stl10 { labels: Some(path), .. } => stl10::parse_labels(files::open(path)?, path),
            Part::Parquet(paths) => parquet_labels(paths),
            Part::Stl10 { labels: None, .. } | Part::Mat(_) | Part::Folder(_) | Part::Cifar { .. } => {
                Ok(Vec::new())
            }
        }
    }

    /// The images, with these classes.
    pub(super) fn read(&self, name: &str, classes: Vec<String>, options: &SourceOptions) -> Result<Dataset> {
        let (images, labels, path) = match self {
            Part::Npy { images, labels: place } => {
                let (path, mut labels) = (images.path(), self.labels()?);
                let pixels = npy::parse_severity(images.open()?, &path, options.severity)?;
                if let Some(severity) = options.severity {
                    labels = block(&labels, severity, &place.path())?;
                }
                (pixels, labels, place.path())
            }
            Part::Idx { images, labels, variant } => {
                let pixels = idx::parse_images(images.open()?, &images.path())?;
                let pixels = if variant.is_transposed {
                    pixels.permuted_axes([0, 2, 1, 3]).as_standard_layout().into_owned()
                } else {
                    pixels
                };
                (pixels, self.labels()?, labels.path())
            }
            Part::Stl10 { images, labels } => {
                let pixels = stl10::parse_images(files::open(images)?, images)?;
                let numbers = match labels {
                    Some(_) => self.labels()?,
                    None => vec![0; pixels.dim().0],
                };
                (pixels, numbers, labels.as_ref().unwrap_or(images).clone())
            }
            Part::Mat(path) => {
                let (pixels, labels) = mat::parse(files::open(path)?, path)?;
                (pixels, labels, path.clone())
            }
            Part::Folder(path) => {
                let own = folder::classes(path)?;
                if let Some(other) = own.iter().find(|class| !classes.contains(class)) {
                    let cause =
                        format!("its class {other} is none of the training images: {}", classes.join(", "));
                    return Err(crate::error::malformed(
                        path,
                        cause,
                        "give all splits the same class folders",
                    ));
                }
                let data = folder::read_classes(name, path, &own, &options.resizing)?;
                let place =
                    |class: &String| classes.iter().position(|known| known == class).unwrap_or(0) as u16;
                let places: Vec<u16> = own.iter().map(place).collect();
                let labels = data.labels.iter().map(|&label| places[usize::from(label)]).collect();
                return Ok(Dataset { labels, classes, ..data });
            }
            Part::Cifar { kind, path, is_test } => {
                let names = cifar::Names { dataset: name, classes: &classes, coarse: None };
                let splits = cifar::read(*kind, path, names)?;
                return Ok(if *is_test { splits.test } else { splits.train });
            }
            Part::Parquet(paths) => return read_parquet(name, paths, classes, &options.resizing),
        };
        arrays::check_pair(images.dim().0, labels.len(), &path)?;
        Ok(Dataset::new(name, images, labels, classes))
    }
}

/// The labels of one block, after a check that all five blocks have the same ones.
fn block(labels: &[u16], severity: u8, path: &Path) -> Result<Vec<u16>> {
    let length = npy::fifth(labels.len(), path)?;
    let first = &labels[..length];
    if labels.chunks(length).any(|block| block != first) {
        let cause =
            "its labels do not repeat five times, so that the images are not those of five severities";
        return Err(crate::error::malformed(path, cause, "leave out the severity"));
    }
    Ok(labels[length * usize::from(severity - 1)..][..length].to_vec())
}

const CIFAR_10: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

#[cfg(feature = "parquet")]
use crate::parquet::{classes as parquet_classes, labels as parquet_labels, read as read_parquet};

#[cfg(not(feature = "parquet"))]
mod without_parquet {
    use super::*;
    use crate::error::{Error, malformed};
    use crate::resize::Resizing;

    fn missing(paths: &[PathBuf]) -> Error {
        let path = paths.first().map_or(Path::new("table.parquet"), PathBuf::as_path);
        malformed(
            path,
            "this program was built without its reader of parquet",
            "build it with the feature: cargo install --path crates/cli --features parquet",
        )
    }

    pub(super) fn classes(paths: &[PathBuf]) -> Result<Option<Vec<String>>> {
        Err(missing(paths))
    }

    pub(super) fn labels(paths: &[PathBuf]) -> Result<Vec<u16>> {
        Err(missing(paths))
    }

    pub(super) fn read(_: &str, paths: &[PathBuf], _: Vec<String>, _: &Resizing) -> Result<Dataset> {
        Err(missing(paths))
    }
}

#[cfg(not(feature = "parquet"))]
use without_parquet::{classes as parquet_classes, labels as parquet_labels, read as read_parquet};
