//! The catalog: datasets found, verified and loaded by name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cifar;
use crate::dataset::{Dataset, Splits};
use crate::error::{Error, Result, io_error, malformed};
use crate::files::{self, CopyError};
use crate::idx;
use crate::manifest::{Entry, Format, Manifest};

/// The datasets that a folder of manifests describes, and the folder where their files are kept.
///
/// The files of dataset `x` are looked for in `<data>/x`, then in `<manifests>/x` (where the
/// embedded sample lies), then where the manifest says that a system package puts them.
#[derive(Clone, Debug)]
pub struct Catalog {
    pub(crate) manifests: PathBuf,
    pub(crate) data: PathBuf,
}

/// A file that was found and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Where it is.
    pub path: PathBuf,
    /// How much is known about it.
    pub check: Check,
}

/// How a file was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Size and SHA-256 of the content are those of the manifest.
    Digest,
    /// Lengths and labels are right; the manifest knows no digest of files unpacked by hand.
    Structure,
}

/// Where a manifest's entry was found.
pub(crate) enum Found {
    /// The file itself, or its gzipped form.
    File(PathBuf),
    /// The folder that the archive unpacks to.
    Unpacked(PathBuf),
}

impl Catalog {
    /// Uses the manifests `<manifests>/*.toml` and keeps files below `data`, which need not exist.
    pub fn new(manifests: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Catalog {
        Catalog { manifests: manifests.into(), data: data.into() }
    }

    /// All manifests by name.
    ///
    /// # Errors
    /// If the folder cannot be listed or a manifest is faulty.
    pub fn list(&self) -> Result<Vec<Manifest>> {
        self.names()?.into_iter().map(|name| self.manifest(&name)).collect()
    }

    /// The manifest of one dataset.
    ///
    /// # Errors
    /// If there is none of this name, or it is faulty.
    pub fn manifest(&self, name: &str) -> Result<Manifest> {
        let names = self.names()?;
        if !names.iter().any(|known| known == name) {
            let (folder, known) = (self.manifests.clone(), names.join(", "));
            return Err(Error::UnknownDataset { name: name.to_owned(), folder, known });
        }
        Manifest::read(&self.manifests.join(format!("{name}.toml")))
    }

    /// Finds every file of a dataset and compares it with the manifest.
    ///
    /// # Errors
    /// If a file is missing, cannot be read, or differs.
    pub fn verify(&self, name: &str) -> Result<Vec<Verified>> {
        let manifest = self.manifest(name)?;
        manifest.files.iter().map(|entry| self.verify_entry(&manifest, entry)).collect()
    }

    /// Loads both splits of a dataset; the files are verified on the way.
    ///
    /// # Errors
    /// As [`Catalog::verify`], and if the content is not what the manifest says.
    pub fn load(&self, name: &str) -> Result<Splits> {
        let manifest = self.manifest(name)?;
        let splits = match manifest.format.cifar() {
            Some(kind) => {
                let entry = &manifest.files[0];
                let path = match self.find(&manifest, entry)? {
                    Found::File(path) => compare(&path, &path, entry, &mut io::sink()).map(|()| path)?,
                    // The reader checks everything that is known about unpacked files.
                    Found::Unpacked(path) => path,
                };
                cifar::read(kind, &path, names(&manifest))?
            }
            None => {
                let paths = manifest.files.iter().map(|entry| self.find_file(&manifest, entry));
                let paths = paths.collect::<Result<Vec<_>>>()?;
                let part = |k: usize| -> Result<Dataset> {
                    let (images, labels) = (&paths[k], &paths[k + 1]);
                    let pixels = idx::parse_images(&content(images, &manifest.files[k])?[..], images)?;
                    let numbers = idx::parse_labels(&content(labels, &manifest.files[k + 1])?[..], labels)?;
                    idx::join(name, (images, pixels), (labels, numbers), &manifest.classes)
                };
                Splits { train: part(0)?, test: part(2)? }
            }
        };
        self.agree(&manifest, &splits)?;
        Ok(splits)
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries =
            fs::read_dir(&self.manifests).map_err(|e| io_error(&self.manifests, "list the manifests", e))?;
        let mut names = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| io_error(&self.manifests, "list the manifests", e))?.path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Where the files of a dataset may be, in the order of search.
    fn places(&self, manifest: &Manifest) -> Vec<PathBuf> {
        let own = [self.data.join(&manifest.name), self.manifests.join(&manifest.name)];
        own.into_iter().chain(manifest.system.iter().cloned()).collect()
    }

    fn find(&self, manifest: &Manifest, entry: &Entry) -> Result<Found> {
        let looked = self.places(manifest);
        find_in(&looked, manifest, entry).ok_or_else(|| Error::Missing {
            name: manifest.name.clone(),
            file: entry.name.clone(),
            looked,
            remedy: format!("fetch it, or {}", manifest.by_hand(&self.data.join(&manifest.name))),
        })
    }

    fn find_file(&self, manifest: &Manifest, entry: &Entry) -> Result<PathBuf> {
        match self.find(manifest, entry)? {
            Found::File(path) | Found::Unpacked(path) => Ok(path),
        }
    }

    pub(crate) fn verify_entry(&self, manifest: &Manifest, entry: &Entry) -> Result<Verified> {
        match self.find(manifest, entry)? {
            Found::File(path) => {
                compare(&path, &path, entry, &mut io::sink())?;
                Ok(Verified { path, check: Check::Digest })
            }
            Found::Unpacked(path) => {
                let kind = manifest.format.cifar().expect("only archives are found unpacked");
                cifar::read(kind, &path, names(manifest))?;
                Ok(Verified { path, check: Check::Structure })
            }
        }
    }

    fn agree(&self, manifest: &Manifest, splits: &Splits) -> Result<()> {
        for (data, want) in [(&splits.train, manifest.train), (&splits.test, manifest.test)] {
            let [h, w, c] = manifest.shape;
            if data.len() != want || data.shape() != (h, w, c) {
                let found = format!("the files hold {} images of {:?}", data.len(), data.shape());
                let path = self.manifests.join(format!("{}.toml", manifest.name));
                let cause = format!("it says {want} images of {:?}, {found}", (h, w, c));
                return Err(malformed(&path, cause, "correct the manifest"));
            }
        }
        Ok(())
    }
}

/// The first of `folders` that holds the entry, gzipped or not, or the folder of an archive.
pub(crate) fn find_in(folders: &[PathBuf], manifest: &Manifest, entry: &Entry) -> Option<Found> {
    folders.iter().find_map(|folder| {
        let forms = [folder.join(&entry.name), folder.join(format!("{}.gz", entry.name))];
        if let Some(file) = forms.into_iter().find(|path| path.is_file()) {
            return Some(Found::File(file));
        }
        let kind = manifest.format.cifar()?;
        let first = kind.members()[0].0;
        let forms = [folder.join(kind.folder()), folder.clone()];
        forms.into_iter().find(|path| path.join(first).is_file()).map(Found::Unpacked)
    })
}

/// The labels' names for the CIFAR reader.
pub(crate) fn names(manifest: &Manifest) -> cifar::Names<'_> {
    let coarse = manifest.coarse.as_ref().filter(|_| manifest.format == Format::Cifar100);
    cifar::Names { dataset: &manifest.name, classes: &manifest.classes, coarse }
}

/// The content of a file, compared with the manifest.
fn content(path: &Path, entry: &Entry) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    compare(path, path, entry, &mut bytes)?;
    Ok(bytes)
}

/// Sends the content of `path` to `out` and compares size and digest with the entry; messages speak
/// of `shown`.
pub(crate) fn compare(path: &Path, shown: &Path, entry: &Entry, out: &mut dyn io::Write) -> Result<()> {
    let mut stream: Box<dyn io::Read> = if entry.name.ends_with(".gz") {
        Box::new(fs::File::open(path).map_err(|e| io_error(shown, "open the file", e))?)
    } else {
        files::open(path)?
    };
    let (size, digest) =
        files::copy_hashed(&mut stream, out, entry.size, &mut |_| ()).map_err(|e| match e {
            CopyError::Read(e) => io_error(shown, "read the file", e),
            CopyError::Write(e) => io_error(shown, "keep the content", e),
        })?;
    let cause = if size > entry.size {
        format!("its content is longer than the {} bytes of {}", entry.size, entry.name)
    } else if size < entry.size {
        format!("its content is cut off: {size} bytes, {} has {}", entry.name, entry.size)
    } else if digest != entry.sha256 {
        format!("its content has SHA-256 {digest}, {} has {}", entry.name, entry.sha256)
    } else {
        return Ok(());
    };
    Err(malformed(shown, cause, "remove it and get it again; it is damaged or another version"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    /// A catalog in a temporary folder with one tiny IDX dataset, `files` of which the caller places.
    pub(crate) struct Fixture {
        pub(crate) root: tempfile::TempDir,
        pub(crate) files: Vec<(&'static str, Vec<u8>)>,
    }

    impl Fixture {
        /// `url(file)` gives the address that the manifest states for a file.
        pub(crate) fn new(url: impl Fn(&str) -> String) -> Fixture {
            let images = |n: usize, value: u8| {
                let mut bytes = Vec::new();
                let pixels = ndarray::Array4::from_elem((n, 4, 4, 1), value);
                idx::write_images(&mut bytes, pixels.view()).unwrap();
                bytes
            };
            let labels = |of: &[u16]| {
                let mut bytes = Vec::new();
                idx::write_labels(&mut bytes, of).unwrap();
                bytes
            };
            let files = vec![
                ("train-x", images(3, 7)),
                ("train-y", labels(&[0, 1, 1])),
                ("test-x", images(2, 9)),
                ("test-y", labels(&[1, 0])),
            ];
            let root = tempfile::tempdir().unwrap();
            let mut text =
                "title = 'Tiny'\nlicense = 'MIT'\nsource = 'made up'\nformat = 'idx'\nshape = [4, 4, 1]\n\
                            train = 3\ntest = 2\nclasses = ['a', 'b']\nmean = [0.5]\nstd = [0.5]\n"
                    .to_owned();
            text += &format!("system = ['{}']\n", root.path().join("system").display());
            for (name, bytes) in &files {
                let (_, sha) =
                    files::copy_hashed(&mut &bytes[..], &mut io::sink(), 1 << 20, &mut |_| ()).unwrap();
                let (size, url) = (bytes.len(), url(name));
                text += &format!(
                    "[[files]]\nname = '{name}'\nsize = {size}\nsha256 = '{sha}'\nurls = ['{url}']\n"
                );
            }
            fs::create_dir(root.path().join("datasets")).unwrap();
            fs::write(root.path().join("datasets/tiny.toml"), text).unwrap();
            Fixture { root, files }
        }

        pub(crate) fn catalog(&self) -> Catalog {
            Catalog::new(self.root.path().join("datasets"), self.root.path().join("data"))
        }

        /// Puts the files into a folder, gzipped or not.
        pub(crate) fn put(&self, folder: &str, packed: bool) -> PathBuf {
            let folder = self.root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            for (name, bytes) in &self.files {
                let (name, bytes) = if packed {
                    (format!("{name}.gz"), gzip(bytes))
                } else {
                    (name.to_string(), bytes.clone())
                };
                fs::write(folder.join(name), bytes).unwrap();
            }
            folder
        }
    }

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn the_search_goes_data_then_bundled_then_system() {
        let f = Fixture::new(|_| String::new());
        for folder in ["system", "datasets/tiny", "data/tiny"] {
            let folder = f.put(folder, true);
            let found = f.catalog().verify("tiny").unwrap();
            assert!(
                found.iter().all(|v| v.path.starts_with(&folder) && v.check == Check::Digest),
                "{found:?}"
            );
        }
        let splits = f.catalog().load("tiny").unwrap();
        assert_eq!((splits.train.labels, splits.test.images[[1, 3, 3, 0]]), (vec![0, 1, 1], 9));
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_put_where() {
        let f = Fixture::new(|_| String::new());
        let message = f.catalog().load("tiny").unwrap_err().to_string();
        for part in [
            "no train-x in",
            "data/tiny",
            "system",
            "put train-x, train-y, test-x, test-y, plain or as .gz, into",
        ] {
            assert!(message.contains(part), "{message}");
        }
        let message = f.catalog().load("tyni").unwrap_err().to_string();
        assert!(message.contains("no dataset 'tyni'") && message.contains("known: tiny"), "{message}");
    }

    #[test]
    fn differing_files_are_refused() {
        let f = Fixture::new(|_| String::new());
        let folder = f.put("data/tiny", false);
        let good = f.files[0].1.clone();
        let mut changed = good.clone();
        changed[20] ^= 1;
        for (bytes, cause) in [
            (changed, "has SHA-256"),
            (good[..30].to_vec(), "cut off: 30 bytes"),
            ([&good[..], &[0]].concat(), "longer than the 64 bytes"),
            (gzip(&good)[..25].to_vec(), "cannot read the file"),
        ] {
            fs::write(folder.join("train-x"), bytes).unwrap();
            for message in [f.catalog().verify("tiny").unwrap_err(), f.catalog().load("tiny").unwrap_err()] {
                let message = message.to_string();
                assert!(message.contains(cause) && message.contains("data/tiny/train-x"), "{message}");
            }
        }
    }

    #[test]
    fn a_manifest_that_contradicts_its_files_is_refused() {
        let f = Fixture::new(|_| String::new());
        f.put("data/tiny", false);
        let path = f.root.path().join("datasets/tiny.toml");
        let text = fs::read_to_string(&path).unwrap().replace("train = 3", "train = 4");
        fs::write(&path, text).unwrap();
        let message = f.catalog().load("tiny").unwrap_err().to_string();
        assert!(message.contains("says 4 images") && message.contains("hold 3 images"), "{message}");
    }
}
