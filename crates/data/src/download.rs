//! Downloads and imports of a dataset's files.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::catalog::{Catalog, Check, Found, Verified, compare, find_in, names};
use crate::cifar;
use crate::error::{Error, Result, io_error, malformed};
use crate::files::{self, CopyError};
use crate::manifest::{Entry, Manifest};

/// How far a download is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The file that is being received.
    pub file: String,
    /// Bytes so far.
    pub received: u64,
    /// Bytes in all, if the server says so.
    pub total: Option<u64>,
}

/// What an address delivers.
pub struct Delivery {
    /// Bytes in all, if the server says so.
    pub total: Option<u64>,
    /// The bytes.
    pub body: Box<dyn Read>,
}

/// Asks an address for what lies there, or says why it does not deliver.
pub type Ask<'a> = dyn FnMut(&str) -> std::result::Result<Delivery, String> + 'a;

impl Catalog {
    /// Downloads what is missing of a dataset into the data folder, by the caller's HTTP client.
    ///
    /// Whatever `ask` delivers is checked here, up to the length of the manifest. A file that lies in one of the places of the search already is verified and left there. A new
    /// one goes to a temporary file, is compared with the manifest and only then gets its name.
    ///
    /// # Errors
    /// If no address delivers the right file; the message says what to put where by hand. If the
    /// data folder cannot be written. If a file that is there already differs from the manifest.
    pub fn fetch(
        &self,
        name: &str,
        ask: &mut Ask<'_>,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<Vec<Verified>> {
        let manifest = self.manifest(name)?;
        let fetch_one = |entry: &Entry| match self.verify_entry(&manifest, entry) {
            Err(Error::Missing { .. }) => {
                let path = self.download(&manifest, entry, ask, progress)?;
                Ok(Verified { path, check: Check::Digest })
            }
            found => found,
        };
        manifest.files.iter().map(fetch_one).collect()
    }

    /// Checks the files of a dataset in the folder `from` (or its subfolders `data` and `<name>`), or
    /// the one file `from` of a dataset that has one, and copies them into the data folder.
    ///
    /// # Errors
    /// If a file is not there, differs from the manifest, or cannot be written.
    pub fn import(&self, name: &str, from: &Path) -> Result<Vec<Verified>> {
        let manifest = self.manifest(name)?;
        let folders = [from.to_owned(), from.join("data"), from.join(name)];
        let mut found = Vec::new();
        for entry in &manifest.files {
            let single = from.is_file() && manifest.files.len() == 1;
            let place =
                if single { Some(Found::File(from.to_owned())) } else { find_in(&folders, &manifest, entry) };
            found.push((entry, place.ok_or_else(|| nothing_there(&manifest, entry, from))?));
        }
        found.into_iter().map(|(entry, place)| self.adopt(&manifest, entry, place)).collect()
    }

    fn adopt(&self, manifest: &Manifest, entry: &Entry, place: Found) -> Result<Verified> {
        let folder = self.data.join(&manifest.name);
        match place {
            Found::File(source) => {
                let mut from = File::open(&source).map_err(|e| io_error(&source, "open the file", e))?;
                let limit = longest(entry);
                let path = files::place(&folder, |file, temporary| {
                    copy(&mut from, file, limit, &folder, &mut |_| ()).map_err(|e| match e {
                        Stopped::Source(e) => io_error(&source, "read the file", e),
                        Stopped::Here(e) => e,
                    })?;
                    checked_name(temporary, &source, entry)
                })?;
                Ok(Verified { path, check: Check::Digest })
            }
            Found::Unpacked(source) => {
                let kind = manifest.format.cifar().expect("only archives are found unpacked");
                cifar::read(kind, &source, names(manifest))?;
                let target = folder.join(kind.folder());
                for &(member, records) in kind.members() {
                    let path = source.join(member);
                    let mut from = File::open(&path).map_err(|e| io_error(&path, "open the file", e))?;
                    let limit = (records * kind.record_bytes()) as u64;
                    files::place(&target, |file, _| {
                        copy(&mut from, file, limit, &target, &mut |_| ()).map_err(|e| match e {
                            Stopped::Source(e) => io_error(&path, "read the file", e),
                            Stopped::Here(e) => e,
                        })?;
                        Ok(member.to_owned())
                    })?;
                }
                Ok(Verified { path: target, check: Check::Structure })
            }
        }
    }

    /// Tries the addresses of an entry in order.
    fn download(
        &self,
        manifest: &Manifest,
        entry: &Entry,
        ask: &mut Ask<'_>,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<PathBuf> {
        let folder = self.data.join(&manifest.name);
        let mut failures = Vec::new();
        for url in &entry.urls {
            match receive(url, entry, &folder, ask, progress) {
                Ok(path) => return Ok(path),
                // What goes wrong in our own folder goes wrong again with the next address.
                Err(Attempt::Here(e)) => return Err(e),
                Err(Attempt::There(cause)) => failures.push(format!("{url}: {cause}")),
            }
        }
        let none = "the manifest states no address".to_owned();
        Err(Error::Download {
            name: manifest.name.clone(),
            file: entry.name.clone(),
            cause: if failures.is_empty() { none } else { failures.join("; ") },
            remedy: manifest.by_hand(&folder),
        })
    }
}

/// Why one address did not work.
enum Attempt {
    /// Our folder cannot be written.
    Here(Error),
    /// The address does not deliver the right file.
    There(String),
}

fn receive(
    url: &str,
    entry: &Entry,
    folder: &Path,
    ask: &mut Ask<'_>,
    progress: &mut dyn FnMut(&Progress),
) -> std::result::Result<PathBuf, Attempt> {
    let Delivery { total, mut body } = ask(url).map_err(Attempt::There)?;
    let mut there = None;
    let placed = files::place(folder, |file, temporary| {
        let step = &mut |received| progress(&Progress { file: entry.name.clone(), received, total });
        let checked = match copy(&mut body, file, longest(entry), folder, step) {
            Ok(()) => checked_name(temporary, Path::new(url), entry),
            Err(Stopped::Here(e)) => return Err(e),
            Err(Stopped::Source(e)) => Err(io_error(Path::new(url), "receive the file", e)),
        };
        checked.inspect_err(|e| there = Some(e.to_string()))
    });
    placed.map_err(|e| there.map_or_else(|| Attempt::Here(e), Attempt::There))
}

/// Compares the finished temporary file with its entry and says which name it shall have.
fn checked_name(temporary: &Path, shown: &Path, entry: &Entry) -> Result<String> {
    compare(temporary, shown, entry, &mut std::io::sink())?;
    let mut head = [0; 2];
    let packed = !entry.name.ends_with(".gz")
        && File::open(temporary).and_then(|mut file| file.read_exact(&mut head)).is_ok()
        && head == [0x1f, 0x8b];
    Ok(if packed { format!("{}.gz", entry.name) } else { entry.name.clone() })
}

/// The most bytes that a file of this entry can have: gzip adds little to what it cannot compress.
fn longest(entry: &Entry) -> u64 {
    entry.size.saturating_add(entry.size / 100 + 4096)
}

/// Which side of a copy stopped it.
enum Stopped {
    Source(std::io::Error),
    Here(Error),
}

fn copy(
    from: &mut dyn Read,
    to: &mut File,
    limit: u64,
    folder: &Path,
    step: &mut dyn FnMut(u64),
) -> std::result::Result<(), Stopped> {
    match files::copy_hashed(from, to, limit, step) {
        Ok(_) => Ok(()),
        Err(CopyError::Read(e)) => Err(Stopped::Source(e)),
        Err(CopyError::Write(e)) => Err(Stopped::Here(io_error(folder, "write into the folder", e))),
    }
}

fn nothing_there(manifest: &Manifest, entry: &Entry, from: &Path) -> Error {
    if fs::metadata(from).is_err() {
        return malformed(from, "it does not exist", "check the path");
    }
    let forms = format!("no {} or {}.gz is there", entry.name, entry.name);
    let files: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    malformed(from, forms, format!("give a folder that holds {}", files.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::{Fixture, gzip};
    use std::collections::HashMap;
    use std::io::{self, Cursor};

    /// What an address answers: a body and how long it is said to be, or a refusal.
    type Page = std::result::Result<(Vec<u8>, usize), &'static str>;

    /// A server in memory with a page for each file.
    fn serve(
        f: &Fixture,
        page: impl Fn(&str, &[u8]) -> Page,
    ) -> impl FnMut(&str) -> std::result::Result<Delivery, String> {
        let pages: HashMap<String, Page> =
            f.files.iter().map(|(name, bytes)| (address(name), page(name, bytes))).collect();
        move |url: &str| {
            let (body, total) = pages[url].clone()?;
            let cut = total > body.len();
            let body = Cursor::new(body).chain(Ending { cut });
            Ok(Delivery { total: Some(total as u64), body: Box::new(body) })
        }
    }

    fn whole(bytes: &[u8]) -> Page {
        Ok((bytes.to_vec(), bytes.len()))
    }

    fn address(file: &str) -> String {
        format!("https://example.org/{file}")
    }

    /// What follows the last byte: an error if the connection broke.
    struct Ending {
        cut: bool,
    }

    impl Read for Ending {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            if self.cut { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(0) }
        }
    }

    fn left_behind(f: &Fixture) -> Vec<String> {
        let folder = f.root.path().join("data/tiny");
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn fetching_brings_plain_and_packed_files_with_progress() {
        let f = Fixture::new(address);
        let mut ask = serve(&f, |name, bytes| {
            let bytes = if name.starts_with("train") { gzip(bytes) } else { bytes.to_vec() };
            whole(&bytes)
        });
        let mut heard = Vec::new();
        let found = f.catalog().fetch("tiny", &mut ask, &mut |p| heard.push(p.clone())).unwrap();
        assert!(found.iter().all(|v| v.check == Check::Digest));
        let mut names = left_behind(&f);
        names.sort();
        assert_eq!(names, ["test-x", "test-y", "train-x.gz", "train-y.gz"]);
        let last = heard.iter().rfind(|p| p.file == "test-x").unwrap();
        assert_eq!((last.received, last.total), (48, Some(48)));
        assert_eq!(f.catalog().load("tiny").unwrap().train.len(), 3);
        // What is there is not fetched again.
        f.catalog().fetch("tiny", &mut |url| panic!("asks for {url}"), &mut |_| ()).unwrap();
    }

    #[test]
    fn what_the_network_spoils_is_refused_and_leaves_nothing() {
        type Spoil = fn(&[u8]) -> Page;
        let cases: [(Spoil, &str); 5] = [
            (|b| whole(&b.iter().map(|x| x ^ 1).collect::<Vec<u8>>()), "has SHA-256"),
            (|b| whole(&b[..b.len() / 2]), "cut off: 32 bytes"),
            (|b| Ok((b[..b.len() / 2].to_vec(), b.len())), "cannot receive the file"),
            (|_| whole(&vec![0; 1 << 20]), "longer than the 64 bytes"),
            (|_| Err("no such page"), "no such page"),
        ];
        for (spoil, cause) in cases {
            let f = Fixture::new(address);
            let mut ask = serve(&f, |_, bytes| spoil(bytes));
            let message = f.catalog().fetch("tiny", &mut ask, &mut |_| ()).unwrap_err().to_string();
            for part in
                [cause, "https://example.org/train-x: ", "downloading train-x failed", "put train-x, train-y"]
            {
                assert!(message.contains(part), "{part} is not in: {message}");
            }
            assert!(left_behind(&f).is_empty(), "{:?}", left_behind(&f));
        }
    }

    #[test]
    fn without_network_it_says_what_to_put_where() {
        let f = Fixture::new(address);
        let mut ask = |_: &str| Err("no network".to_owned());
        let message = f.catalog().fetch("tiny", &mut ask, &mut |_| ()).unwrap_err().to_string();
        for part in ["no network", "downloading train-x failed", "data/tiny"] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
        let f = Fixture::new(|_| String::new());
        let path = f.root.path().join("datasets/tiny.toml");
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("urls = ['']", "urls = []")).unwrap();
        let message = f.catalog().fetch("tiny", &mut ask, &mut |_| ()).unwrap_err().to_string();
        assert!(message.contains("states no address"), "{message}");
    }

    #[test]
    fn importing_checks_and_copies() {
        let f = Fixture::new(|_| String::new());
        for (folder, packed) in [("elsewhere", false), ("package/data", true), ("all/tiny", false)] {
            let from = f.put(folder, packed);
            let from = if folder == "elsewhere" { from } else { from.parent().unwrap().to_owned() };
            f.catalog().import("tiny", &from).unwrap();
            assert_eq!(left_behind(&f).len(), 4);
            assert_eq!(f.catalog().load("tiny").unwrap().test.labels, [1, 0]);
            fs::remove_dir_all(f.root.path().join("data")).unwrap();
        }
        let from = f.put("elsewhere", false);
        fs::write(from.join("train-y"), "spoiled").unwrap();
        let message = f.catalog().import("tiny", &from).unwrap_err().to_string();
        assert!(message.contains("elsewhere/train-y") && message.contains("cut off"), "{message}");
        fs::remove_file(from.join("test-y")).unwrap();
        let message = f.catalog().import("tiny", &from).unwrap_err().to_string();
        assert!(
            message.contains("no test-y or test-y.gz") && message.contains("holds train-x, train-y"),
            "{message}"
        );
        let message = f.catalog().import("tiny", Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(message.contains("/nonexistent: it does not exist"), "{message}");
    }

    #[test]
    fn a_data_folder_that_cannot_be_written_is_named() {
        let f = Fixture::new(address);
        let mut ask = serve(&f, |_, bytes| whole(bytes));
        fs::write(f.root.path().join("data"), "a file in the way").unwrap();
        let from = f.put("elsewhere", false);
        for error in [f.catalog().fetch("tiny", &mut ask, &mut |_| ()), f.catalog().import("tiny", &from)] {
            let message = error.unwrap_err().to_string();
            assert!(message.contains("data/tiny: cannot create the folder"), "{message}");
        }
    }

    #[test]
    fn an_unpacked_archive_is_imported_by_its_structure() {
        let f = Fixture::new(|_| String::new());
        let text = format!(
            "title = 'C'\nlicense = 'L'\nsource = 'S'\nformat = 'cifar10'\nshape = [32, 32, 3]\ntrain = 50000\ntest = 10000\n\
             classes = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n\
             [[files]]\nname = 'c.tar.gz'\nsize = 1\nsha256 = '{}'\n",
            "0".repeat(64)
        );
        fs::write(f.root.path().join("datasets/c.toml"), text).unwrap();
        let kind = cifar::Kind::Cifar10;
        let from = f.root.path().join("downloads").join(kind.folder());
        fs::create_dir_all(&from).unwrap();
        for &(member, records) in kind.members() {
            fs::write(from.join(member), vec![3; records * kind.record_bytes()]).unwrap();
        }
        let found = f.catalog().import("c", from.parent().unwrap()).unwrap();
        assert_eq!(found[0].check, Check::Structure);
        assert!(found[0].path.starts_with(f.root.path().join("data/c")));
        fs::remove_dir_all(&from).unwrap();
        assert_eq!(f.catalog().load("c").unwrap().test.labels, vec![3; 10_000]);
        // An archive is compared as it is, without unpacking.
        let archive = f.root.path().join("wrong.tar.gz");
        fs::write(&archive, [0]).unwrap();
        let message = f.catalog().import("c", &archive).unwrap_err().to_string();
        assert!(message.contains("wrong.tar.gz") && message.contains("has SHA-256"), "{message}");
    }
}
