//! CIFAR readers: the official binary distribution of CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), as the archive or
//! as the folder that it unpacks to.
//!
//! A record is one label byte (CIFAR-10) or a coarse and a fine label byte (CIFAR-100), then 1,024
//! red, 1,024 green and 1,024 blue bytes, each plane row by row.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ndarray::Array4;

use crate::dataset::{Dataset, Splits};
use crate::error::{Result, io_error, malformed};
use crate::files;
use crate::task::Grouping;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const PIXELS: usize = 3 * PLANE;
const AGAIN: &str = "copy or download it again";

/// Which of the two datasets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ten classes; five training files and one test file of 10,000 records.
    Cifar10,
    /// A hundred classes in twenty groups; a training file of 50,000 records, a test file of 10,000.
    Cifar100,
}

/// What a file of records holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// Pixels `(n, 32, 32, 3)`.
    pub images: Array4<u8>,
    /// Class of each image `(n)`.
    pub labels: Vec<u16>,
    /// Group of each image `(n)`, for CIFAR-100 only.
    pub coarse: Option<Vec<u16>>,
}

/// Names for the labels of a dataset.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// What to call the dataset.
    pub dataset: &'a str,
    /// The classes in order of their label.
    pub classes: &'a [String],
    /// The coarse groups that the coarse labels of CIFAR-100 must agree with.
    pub coarse: Option<&'a Grouping>,
}

impl Kind {
    /// The folder inside the official archive.
    pub const fn folder(self) -> &'static str {
        match self {
            Kind::Cifar10 => "cifar-10-batches-bin",
            Kind::Cifar100 => "cifar-100-binary",
        }
    }

    /// The training files in order, then the test file, each with its number of records.
    pub const fn members(self) -> &'static [(&'static str, usize)] {
        match self {
            Kind::Cifar10 => &[
                ("data_batch_1.bin", 10_000),
                ("data_batch_2.bin", 10_000),
                ("data_batch_3.bin", 10_000),
                ("data_batch_4.bin", 10_000),
                ("data_batch_5.bin", 10_000),
                ("test_batch.bin", 10_000),
            ],
            Kind::Cifar100 => &[("train.bin", 50_000), ("test.bin", 10_000)],
        }
    }

    /// Bytes of one record.
    pub const fn record_bytes(self) -> usize {
        self.label_bytes() + PIXELS
    }

    const fn label_bytes(self) -> usize {
        match self {
            Kind::Cifar10 => 1,
            Kind::Cifar100 => 2,
        }
    }

    /// Number of classes, and of groups where records name them.
    const fn label_ranges(self) -> (u8, Option<u8>) {
        match self {
            Kind::Cifar10 => (10, None),
            Kind::Cifar100 => (100, Some(20)),
        }
    }
}

/// Reads both splits from the official archive, from the folder it unpacks to, or from the folder
/// above that.
///
/// # Errors
/// If a member is missing, comes twice, or is not exactly as long as its records; if a label is out
/// of range or the coarse labels contradict `names.coarse`.
///
/// # Panics
/// If `names.classes` are not as many as the dataset has.
pub fn read(kind: Kind, path: &Path, names: Names<'_>) -> Result<Splits> {
    assert_eq!(names.classes.len(), usize::from(kind.label_ranges().0), "cifar::read: names for {kind:?}");
    let mut contents = if path.is_dir() { from_folder(kind, path)? } else { from_archive(kind, path)? };
    let mut parts = Vec::new();
    for &(member, _) in kind.members() {
        let (file, bytes) = contents.remove(member).expect("both sources deliver every member");
        let records = parse(kind, &bytes, &file)?;
        check_coarse(&records, &file, names.coarse)?;
        parts.push(records);
    }
    let test = parts.pop().into_iter().collect();
    Ok(Splits { train: joined(parts, names), test: joined(test, names) })
}

/// Reads a whole number of records, at least one; `path` is for messages.
///
/// # Errors
/// If the length is not a multiple of the record's or a label is out of range.
pub fn parse(kind: Kind, bytes: &[u8], path: &Path) -> Result<Records> {
    let (step, head) = (kind.record_bytes(), kind.label_bytes());
    let (n, over) = (bytes.len() / step, bytes.len() % step);
    if n == 0 || over != 0 {
        let cause = format!("{} bytes are {n} records of {step} bytes and {over} more", bytes.len());
        return Err(malformed(path, cause, format!("the file is cut off or no file of {kind:?}: {AGAIN}")));
    }
    let (classes, groups) = kind.label_ranges();
    let (mut labels, mut coarse) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let mut pixels = vec![0; n * PIXELS];
    for (i, (record, out)) in bytes.chunks_exact(step).zip(pixels.chunks_exact_mut(PIXELS)).enumerate() {
        let (fine, group) = (record[head - 1], record[0]);
        for (what, label, range) in [("label", fine, Some(classes)), ("coarse label", group, groups)] {
            if range.is_some_and(|range| label >= range) {
                let cause =
                    format!("{what} {label} of record {i} is out of range, there are {}", range.unwrap_or(0));
                return Err(malformed(
                    path,
                    cause,
                    format!("the file is damaged or no file of {kind:?}: {AGAIN}"),
                ));
            }
        }
        labels.push(u16::from(fine));
        coarse.push(u16::from(group));
        let planes = &record[head..];
        for (p, pixel) in out.chunks_exact_mut(3).enumerate() {
            pixel.copy_from_slice(&[planes[p], planes[PLANE + p], planes[2 * PLANE + p]]);
        }
    }
    let images = Array4::from_shape_vec((n, SIDE, SIDE, 3), pixels).expect("n records were read");
    Ok(Records { images, labels, coarse: groups.map(|_| coarse) })
}

/// The bytes of every member with the name to use in messages.
type Contents = HashMap<&'static str, (PathBuf, Vec<u8>)>;

fn from_folder(kind: Kind, path: &Path) -> Result<Contents> {
    let inner = path.join(kind.folder());
    let folder = if inner.is_dir() { inner } else { path.to_owned() };
    let mut contents = Contents::new();
    for &(member, records) in kind.members() {
        let file = folder.join(member);
        let opened = File::open(&file).map_err(|e| io_error(&file, "open the file", e))?;
        contents.insert(member, (file.clone(), exactly(opened, records * kind.record_bytes(), &file)?));
    }
    Ok(contents)
}

fn from_archive(kind: Kind, path: &Path) -> Result<Contents> {
    let damaged = |e: io::Error| malformed(path, format!("the archive cannot be unpacked ({e})"), AGAIN);
    // Other members are passed over, but neither without end nor with names that fill the memory.
    let records: usize = kind.members().iter().map(|(_, records)| records * kind.record_bytes()).sum();
    let mut archive = tar::Archive::new(files::open(path)?.take(2 * records as u64));
    let mut contents = Contents::new();
    for entry in archive.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let inside = entry.path().map_err(damaged)?.into_owned();
        let Some(name) = inside.file_name() else { continue };
        let Some(&(member, records)) = kind.members().iter().find(|(member, _)| name == *member) else {
            continue;
        };
        let file = path.join(&inside);
        let bytes = exactly(entry, records * kind.record_bytes(), &file)?;
        if contents.insert(member, (file, bytes)).is_some() {
            return Err(malformed(path, format!("{member} comes twice in the archive"), AGAIN));
        }
    }
    match kind.members().iter().find(|(member, _)| !contents.contains_key(member)) {
        Some((member, _)) => Err(malformed(
            path,
            format!("{member} is not in the archive"),
            format!("give the archive of {kind:?}"),
        )),
        None => Ok(contents),
    }
}

/// Reads a member that must have this length; a longer one is not read to its end.
fn exactly(stream: impl Read, length: usize, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = length as u64 + 1;
    stream.take(limit).read_to_end(&mut bytes).map_err(|e| io_error(path, "read the data", e))?;
    if bytes.len() == length {
        return Ok(bytes);
    }
    let fault =
        if bytes.len() < length { format!("cut off after {}", bytes.len()) } else { "longer".to_owned() };
    Err(malformed(path, format!("the file must be {length} bytes long and is {fault}"), AGAIN))
}

fn check_coarse(records: &Records, path: &Path, table: Option<&Grouping>) -> Result<()> {
    let (Some(coarse), Some(table)) = (&records.coarse, table) else { return Ok(()) };
    let agrees = |i: &usize| table.of.get(usize::from(records.labels[*i])) == Some(&coarse[*i]);
    match (0..coarse.len()).find(|i| !agrees(i)) {
        None => Ok(()),
        Some(i) => {
            let cause = format!("record {i} puts class {} into group {}", records.labels[i], coarse[i]);
            Err(malformed(path, format!("{cause}, against the table '{}'", table.name), AGAIN))
        }
    }
}

fn joined(parts: Vec<Records>, names: Names<'_>) -> Dataset {
    let labels: Vec<u16> = parts.iter().flat_map(|p| p.labels.iter().copied()).collect();
    let mut pixels = Vec::with_capacity(labels.len() * PIXELS);
    for part in parts {
        pixels.extend_from_slice(part.images.as_slice().expect("parse builds standard layout"));
    }
    let images = Array4::from_shape_vec((labels.len(), SIDE, SIDE, 3), pixels).expect("one image per label");
    Dataset::new(names.dataset, images, labels, names.classes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    /// Records whose pixel (p, plane) of record i is a known function.
    fn records(kind: Kind, n: usize) -> Vec<u8> {
        let (classes, groups) = kind.label_ranges();
        let mut bytes = Vec::with_capacity(n * kind.record_bytes());
        for i in 0..n {
            let fine = (i % usize::from(classes)) as u8;
            if let Some(groups) = groups {
                bytes.push(fine % groups);
            }
            bytes.push(fine);
            bytes.extend((0..PIXELS).map(|p| (i + p / PLANE * 50 + p % 7) as u8));
        }
        bytes
    }

    fn table() -> Grouping {
        let groups = (0..20).map(|g| g.to_string()).collect();
        Grouping { name: "coarse".into(), groups, of: (0..100).map(|c| c % 20).collect() }
    }

    fn classes(kind: Kind) -> Vec<String> {
        (0..kind.label_ranges().0).map(|c| c.to_string()).collect()
    }

    fn archive(kind: Kind, members: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gz);
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            let inside = format!("{}/{name}", kind.folder());
            tar.append_data(&mut header, inside, &bytes[..]).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn members(kind: Kind) -> Vec<(&'static str, Vec<u8>)> {
        kind.members().iter().map(|&(name, n)| (name, records(kind, n))).collect()
    }

    #[test]
    fn planes_become_pixels() {
        for kind in [Kind::Cifar10, Kind::Cifar100] {
            let found = parse(kind, &records(kind, 12), Path::new("x")).unwrap();
            assert_eq!(found.images.dim(), (12, 32, 32, 3));
            // Row 1, column 1 is byte 33 of its plane; 33, 1057 and 2081 are 5, 0 and 2 modulo 7.
            assert_eq!([0, 1, 2].map(|c| found.images[[11, 1, 1, c]]), [11 + 5, 11 + 50, 11 + 100 + 2]);
            assert_eq!(found.labels[11], if kind == Kind::Cifar10 { 1 } else { 11 });
        }
    }

    #[test]
    fn the_archive_and_the_folder_give_the_same() {
        let kind = Kind::Cifar10;
        let (folder, classes) = (tempfile::tempdir().unwrap(), classes(kind));
        let names = Names { dataset: "cifar10", classes: &classes, coarse: None };
        let packed = folder.path().join("cifar-10-binary.tar.gz");
        std::fs::write(&packed, archive(kind, &members(kind))).unwrap();
        let inner = folder.path().join(kind.folder());
        std::fs::create_dir(&inner).unwrap();
        for (name, bytes) in members(kind) {
            std::fs::write(inner.join(name), bytes).unwrap();
        }
        let splits = read(kind, &packed, names).unwrap();
        assert_eq!((splits.train.len(), splits.test.len()), (50_000, 10_000));
        assert_eq!(splits, read(kind, &inner, names).unwrap());
        assert_eq!(splits.test, read(kind, folder.path(), names).unwrap().test);

        let last = inner.join("data_batch_5.bin");
        File::options().append(true).open(&last).unwrap().write_all(&[0]).unwrap();
        let message = read(kind, &inner, names).unwrap_err().to_string();
        assert!(message.contains("data_batch_5.bin") && message.contains("longer"), "{message}");
        std::fs::remove_file(&last).unwrap();
        let message = read(kind, &inner, names).unwrap_err().to_string();
        assert!(message.contains("data_batch_5.bin") && message.contains("check the path"), "{message}");
    }

    #[test]
    fn damaged_files_are_refused_with_file_and_cause() {
        let path = Path::new("some.bin");
        let good = records(Kind::Cifar100, 2);
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        for (bytes, cause) in [
            (good[..good.len() - 1].to_vec(), "1 records of 3074 bytes and 3073 more"),
            (Vec::new(), "0 records"),
            (with(1, 100), "label 100 of record 0 is out of range, there are 100"),
            (with(3074, 20), "coarse label 20 of record 1 is out of range, there are 20"),
        ] {
            let message = parse(Kind::Cifar100, &bytes, path).unwrap_err().to_string();
            assert!(
                message.contains(cause) && message.starts_with("some.bin") && message.contains("again"),
                "{message}"
            );
        }
        let records = parse(Kind::Cifar100, &with(0, 7), path).unwrap();
        let message = check_coarse(&records, path, Some(&table())).unwrap_err().to_string();
        assert!(message.contains("class 0 into group 7"), "{message}");
    }

    #[test]
    fn archives_without_or_with_too_much_are_refused() {
        let kind = Kind::Cifar100;
        let (folder, classes, table) = (tempfile::tempdir().unwrap(), classes(kind), table());
        let names = Names { dataset: "cifar100", classes: &classes, coarse: Some(&table) };
        let test = ("test.bin", records(kind, 10_000));
        let whole = archive(kind, std::slice::from_ref(&test));
        let cases: [(Vec<u8>, &str); 4] = [
            (whole.clone(), "train.bin is not in the archive"),
            (archive(kind, &[test.clone(), test.clone()]), "test.bin comes twice"),
            (archive(kind, &[("test.bin", test.1[1..].to_vec())]), "cut off after 30739999"),
            (whole[..whole.len() / 2].to_vec(), "test.bin: cannot read the data"),
        ];
        for (bytes, cause) in cases {
            let path = folder.path().join("archive");
            std::fs::write(&path, bytes).unwrap();
            let message = read(kind, &path, names).unwrap_err().to_string();
            assert!(message.contains(cause) && message.contains("archive"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn mutations_never_panic(
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            length in 0usize..7000,
            fine: bool,
        ) {
            let kind = if fine { Kind::Cifar100 } else { Kind::Cifar10 };
            let mut bytes = records(kind, 3);
            bytes.truncate(length);
            if !bytes.is_empty() {
                edits.iter().for_each(|(at, value)| { let i = at.index(bytes.len()); bytes[i] = *value; });
            }
            if let Ok(found) = parse(kind, &bytes, Path::new("fuzz")) {
                prop_assert_eq!(found.images.dim().0 * kind.record_bytes(), length);
            }
            if let Ok(stream) = files::gunzipped(io::Cursor::new(bytes)) {
                let _ = tar::Archive::new(stream).entries().map(|entries| entries.count());
            }
        }
    }
}
