//! Sources of images: a dataset of the catalog, or files and folders of other programs, recognized by their content.

mod described;
mod layout;
mod options;
mod part;
mod split;

use std::path::{Path, PathBuf};

use crate::catalog::Catalog;
use crate::dataset::Dataset;
use crate::error::{Error, Result, io_error, setting};
use crate::files;
use crate::name::is_plain_name;

pub use self::options::SourceOptions;

use self::layout::recognize;
use self::part::Part;
use self::split::Split;

/// Labeled images in one or more splits, such as `train` and `test`, each of which is read when it is asked for.
#[derive(Clone, Debug)]
pub struct Source {
    /// What it was opened by.
    dataset: String,
    name: String,
    origin: Origin,
    options: SourceOptions,
}

#[derive(Clone, Debug)]
enum Origin {
    /// A dataset with a manifest.
    Catalog(Catalog),
    /// Files at `root`.
    Files { root: PathBuf, format: &'static str, splits: Vec<Split> },
}

/// Names of splits to report on, best first.
const TEST: [&str; 3] = ["test", "val", "validation"];

impl Source {
    /// The dataset of that name in the catalog, or imported below its data folder; if there is none, the file or folder at that
    /// path.
    ///
    /// # Errors
    /// If there is neither, or the file or folder is of no known format.
    pub fn open(dataset: &str, catalog: &Catalog, options: SourceOptions) -> Result<Source> {
        let unknown = match catalog.manifest(dataset) {
            Ok(_) => {
                let origin = Origin::Catalog(catalog.clone());
                let dataset = dataset.to_owned();
                return Source { name: dataset.clone(), dataset, origin, options }.checked();
            }
            Err(error @ Error::UnknownDataset { .. }) => error,
            // The folder of manifests need not exist for a path.
            Err(error) if !Path::new(dataset).exists() => return Err(error),
            Err(error) => error,
        };
        let imported = catalog.data.join(dataset);
        let root =
            if is_plain_name(dataset) && imported.is_dir() { imported } else { PathBuf::from(dataset) };
        if !root.exists() {
            return Err(match unknown {
                Error::UnknownDataset { name, folder, known } => setting(
                    format!("dataset '{name}'"),
                    format!(
                        "there is neither a manifest of this name in {} nor a file or folder",
                        folder.display()
                    ),
                    format!("known names: {known}"),
                ),
                error => error,
            });
        }
        let (format, splits) = recognize(&root)?;
        let name =
            root.file_stem().map_or_else(|| dataset.to_owned(), |stem| stem.to_string_lossy().into_owned());
        let name = if root.is_dir() { crate::folder::file_name(&root) } else { name };
        let name = if name.is_empty() { "images".to_owned() } else { name };
        let origin = Origin::Files { root, format, splits };
        Source { dataset: dataset.to_owned(), name, origin, options }.checked()
    }

    fn checked(self) -> Result<Source> {
        let Some(severity) = self.options.severity else { return Ok(self) };
        let takes = match &self.origin {
            Origin::Catalog(_) => false,
            Origin::Files { splits, .. } => splits.iter().any(|split| matches!(split.part, Part::Npy { .. })),
        };
        if (1..=5).contains(&severity) && takes {
            return Ok(self);
        }
        let cause = if takes { "severities are 1 to 5" } else { "only arrays of NumPy have severities" };
        Err(setting(
            format!("severity {severity}"),
            cause,
            "leave it out, or name a file such as CIFAR-10-C/fog.npy",
        ))
    }

    /// What to call it in tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The format, in words.
    pub fn format(&self) -> &'static str {
        match &self.origin {
            Origin::Catalog(_) => "a dataset with a manifest",
            Origin::Files { format, .. } => format,
        }
    }

    /// Whether the classes have names; otherwise there are as many as the largest label says, which may be fewer than exist.
    pub fn has_class_names(&self) -> bool {
        match &self.origin {
            Origin::Catalog(_) => true,
            Origin::Files { splits, .. } => splits.iter().all(|split| split.part.has_class_names()),
        }
    }

    /// The names of the splits.
    pub fn splits(&self) -> Vec<&str> {
        match &self.origin {
            Origin::Catalog(_) => vec!["train", "test"],
            Origin::Files { splits, .. } => splits.iter().map(|split| split.name.as_str()).collect(),
        }
    }

    /// The files and folders that are read, which no output may replace.
    pub fn places(&self) -> Vec<PathBuf> {
        match &self.origin {
            Origin::Catalog(catalog) => vec![catalog.manifests.clone(), catalog.data.join(&self.name)],
            Origin::Files { root, splits, .. } => {
                let mut places = vec![root.clone()];
                places.extend(splits.iter().flat_map(|split| split.part.places()));
                places
            }
        }
    }

    /// The split to report on: `test`, else `val` or `validation`, else the only one.
    ///
    /// # Errors
    /// If none is that.
    pub fn test_split(&self) -> Result<&str> {
        let splits = self.splits();
        let named = TEST.iter().find_map(|name| splits.iter().find(|split| split == &name).copied());
        match (named, &splits[..]) {
            (Some(split), _) => Ok(split),
            (None, [only]) => Ok(*only),
            _ => Err(self.no_split("a test split", &splits)),
        }
    }

    /// The split to learn from: `train`.
    ///
    /// # Errors
    /// If there is none.
    pub fn train_split(&self) -> Result<&str> {
        let splits = self.splits();
        let train = splits.iter().find(|split| **split == "train");
        train.copied().ok_or_else(|| self.no_split("a training split", &splits))
    }

    /// The images of a split.
    ///
    /// # Errors
    /// If there is no such split, or its files are missing, damaged, or too large for memory.
    pub fn read(&self, split: &str) -> Result<Dataset> {
        let mut data = match &self.origin {
            Origin::Catalog(catalog) => {
                let splits = catalog.load(&self.name)?;
                match split {
                    "train" => splits.train,
                    "test" => splits.test,
                    _ => return Err(self.no_split(&format!("a split {split}"), &self.splits())),
                }
            }
            Origin::Files { root, splits, .. } => {
                let found = splits.iter().find(|known| known.name == split);
                let found =
                    found.ok_or_else(|| self.no_split(&format!("a split {split}"), &self.splits()))?;
                let classes = self::split::classes(splits)?;
                let data = found.part.read(&self.name, classes, &self.options)?;
                // Pictures were resized one by one.
                if found.part.is_of_pictures() {
                    return Ok(data);
                }
                Dataset { images: self.options.resizing.apply_all(data.images, root)?, ..data }
            }
        };
        if let Origin::Catalog(catalog) = &self.origin {
            let place = catalog.data.join(&self.name);
            data.images = self.options.resizing.apply_all(data.images, &place)?;
        }
        Ok(data)
    }

    /// Copies the files below the data folder of a catalog, where [`Source::open`] finds them by this name.
    ///
    /// # Errors
    /// If the name is not a plain one or is taken, a split cannot be read, or a file cannot be copied.
    pub fn import(&self, catalog: &Catalog, name: &str) -> Result<PathBuf> {
        let what = format!("the name '{name}' of a dataset");
        if !is_plain_name(name) {
            return Err(setting(what, "it is no plain name", "take letters and digits"));
        }
        let target = catalog.data.join(name);
        if target.exists() {
            return Err(setting(
                what,
                format!("{} exists", target.display()),
                "remove it or take another name",
            ));
        }
        let Origin::Files { root, .. } = &self.origin else {
            return Err(setting(what, "the dataset has a name already", "use that"));
        };
        for split in self.splits() {
            self.read(split)?;
        }
        let mut files = Vec::new();
        if root.is_dir() {
            files_below(root, &mut files)?;
        } else {
            files = self.places();
            files.sort();
            files.dedup();
        }
        let above = if root.is_dir() { root.as_path() } else { tarrl_files::folder(root) };
        for file in files {
            let inside = target.join(file.strip_prefix(above).unwrap_or(&file));
            let folder = inside.parent().unwrap_or(&target).to_owned();
            let name = crate::folder::file_name(&inside);
            files::place(&folder, |out, _| {
                let mut from = std::fs::File::open(&file).map_err(|e| io_error(&file, "open the file", e))?;
                std::io::copy(&mut from, out).map_err(|e| io_error(&file, "copy the file", e))?;
                Ok(name)
            })?;
        }
        Ok(target)
    }

    fn no_split(&self, what: &str, splits: &[&str]) -> Error {
        setting(
            format!("dataset '{}'", self.name),
            format!("it has no {}; its splits are {}", what.trim_start_matches("a "), splits.join(", ")),
            "name one of them, or another dataset that has it",
        )
    }
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for path in crate::folder::visible(folder)? {
        if path.is_dir() {
            files_below(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
