//! The IDX format of MNIST and its successors, plain or gzipped.
//!
//! An image file is a big-endian `u32` 2051, then n, rows, columns, then n·rows·columns bytes; a
//! label file is 2049, n, then n bytes.

use std::io::{self, Read, Write};
use std::path::Path;

use ndarray::{Array4, ArrayView4};

use crate::arrays;
use crate::dataset::Dataset;
use crate::error::{Result, io_error, malformed};
use crate::files;

const IMAGES: u32 = 2051;
const LABELS: u32 = 2049;
/// The most pixels that a header is believed to announce; a larger claim is damage or malice.
const MOST_BYTES: u64 = 1 << 32;
/// The most bytes of labels, those of the eight columns of QMNIST for each of the most images.
const MOST_LABEL_BYTES: u64 = 1 << 30;
const AGAIN: &str = "copy or download the file again";

/// Reads a pair of files into a dataset `(n, rows, columns, 1)`.
///
/// # Errors
/// If a file cannot be read, has a wrong magic number, is shorter or longer than its header says or
/// holds no image; if the two differ in n; if a label is not smaller than the number of classes.
pub fn read(name: &str, images: &Path, labels: &Path, classes: &[String]) -> Result<Dataset> {
    let pixels = parse_images(files::open(images)?, images)?;
    let numbers = parse_labels(files::open(labels)?, labels)?;
    join(name, (images, pixels), (labels, numbers), classes)
}

/// Images `(n, rows, columns, 1)` from an unpacked stream; `path` is for messages.
///
/// # Errors
/// As [`read`] about images.
pub fn parse_images(mut stream: impl Read, path: &Path) -> Result<Array4<u8>> {
    expect_magic(&mut stream, path, IMAGES)?;
    let [n, rows, columns] = [(); 3].map(|()| header_word(&mut stream, path));
    let (n, rows, columns) = (n?, rows?, columns?);
    let claim = u64::from(n).checked_mul(u64::from(rows)).and_then(|p| p.checked_mul(u64::from(columns)));
    let what = format!("{n} images of {rows}×{columns}");
    match claim {
        Some(0) => Err(malformed(path, format!("the header announces {what}: no pixel at all"), AGAIN)),
        Some(bytes) if bytes <= MOST_BYTES => {
            let pixels = payload(stream, path, bytes, &what)?;
            let shape = (n as usize, rows as usize, columns as usize, 1);
            Ok(Array4::from_shape_vec(shape, pixels).expect("the payload has the announced length"))
        }
        _ => Err(malformed(path, format!("the header announces {what}, more than 4 GiB"), AGAIN)),
    }
}

/// Labels `(n)` from an unpacked stream; `path` is for messages.
///
/// # Errors
/// As [`read`] about labels.
pub fn parse_labels(mut stream: impl Read, path: &Path) -> Result<Vec<u8>> {
    expect_magic(&mut stream, path, LABELS)?;
    let n = header_word(&mut stream, path)?;
    if n == 0 {
        return Err(malformed(path, "the header announces 0 labels", AGAIN));
    }
    payload(stream, path, u64::from(n), &format!("{n} labels"))
}

/// Labels `(n)` from an unpacked stream of one or two axes and any type of whole numbers; of two axes, as QMNIST has them, the
/// first column. `path` is for messages.
///
/// # Errors
/// If the stream is damaged, or its numbers are no labels.
pub fn parse_any_labels(mut stream: impl Read, path: &Path) -> Result<Vec<u16>> {
    let magic = header_word(&mut stream, path)?;
    let size = match (magic >> 8) as u8 {
        0x08 | 0x09 => 1,
        0x0b => 2,
        0x0c => 4,
        _ => 0,
    };
    let axes = magic & 0xff;
    if magic >> 16 != 0 || size == 0 || !(1..=2).contains(&axes) {
        let cause = format!("the magic number is {magic}, which is not one of labels");
        return Err(malformed(path, cause, AGAIN));
    }
    let n = header_word(&mut stream, path)?;
    let columns = if axes == 2 { header_word(&mut stream, path)? } else { 1 };
    let bytes = u64::from(n).saturating_mul(u64::from(columns) * size);
    if bytes == 0 || bytes > MOST_LABEL_BYTES {
        return Err(malformed(path, format!("the header announces {n} × {columns} labels"), AGAIN));
    }
    let data = payload(stream, path, bytes, &format!("{n} × {columns} labels"))?;
    let is_signed = magic >> 8 != 0x08;
    let number = |row: &[u8]| {
        let top = if is_signed && row[0] >= 0x80 { -1 } else { 0 };
        row[..size as usize].iter().fold(top, |value, &byte| value << 8 | i64::from(byte))
    };
    let numbers: Vec<i64> = data.chunks((u64::from(columns) * size) as usize).map(number).collect();
    arrays::labels(&[numbers.len()], &numbers, path)
}

/// Pairs images with labels after checking that they belong together.
pub(crate) fn join(
    name: &str,
    (images, pixels): (&Path, Array4<u8>),
    (labels, numbers): (&Path, Vec<u8>),
    classes: &[String],
) -> Result<Dataset> {
    let (n, m) = (pixels.dim().0, numbers.len());
    if n != m {
        let cause = format!("{m} labels for the {n} images of {}", images.display());
        return Err(malformed(labels, cause, "take both files from the same split of the same dataset"));
    }
    if let Some(i) = numbers.iter().position(|&label| usize::from(label) >= classes.len()) {
        let cause =
            format!("label {} of image {i} is out of range, there are {} classes", numbers[i], classes.len());
        return Err(malformed(labels, cause, "check that file and class names belong to the same dataset"));
    }
    Ok(Dataset::new(name, pixels, numbers.into_iter().map(u16::from).collect(), classes.to_vec()))
}

/// Writes gray images `(n, rows, columns, 1)`.
///
/// # Errors
/// Those of the writer.
///
/// # Panics
/// If there is more than one channel.
pub fn write_images(out: &mut dyn Write, images: ArrayView4<'_, u8>) -> io::Result<()> {
    let (n, rows, columns, channels) = images.dim();
    assert_eq!(channels, 1, "idx::write_images: images {:?} are not gray", images.dim());
    for word in [IMAGES as usize, n, rows, columns] {
        out.write_all(&be_word(word)?)?;
    }
    out.write_all(images.as_standard_layout().as_slice().expect("standard layout is contiguous"))
}

/// Writes labels `(n)`.
///
/// # Errors
/// Those of the writer, and `InvalidInput` for a label above 255.
pub fn write_labels(out: &mut dyn Write, labels: &[u16]) -> io::Result<()> {
    let bytes: Option<Vec<u8>> = labels.iter().map(|&label| u8::try_from(label).ok()).collect();
    let bytes = bytes.ok_or(io::ErrorKind::InvalidInput)?;
    out.write_all(&be_word(LABELS as usize)?)?;
    out.write_all(&be_word(labels.len())?)?;
    out.write_all(&bytes)
}

fn be_word(value: usize) -> io::Result<[u8; 4]> {
    Ok(u32::try_from(value).map_err(|_| io::ErrorKind::InvalidInput)?.to_be_bytes())
}

fn expect_magic(stream: &mut impl Read, path: &Path, want: u32) -> Result<()> {
    let found = header_word(stream, path)?;
    if found == want {
        return Ok(());
    }
    let kind = |magic| if magic == IMAGES { "images" } else { "labels" };
    let remedy = if found == IMAGES || found == LABELS {
        format!("this file holds {}: give the files in the order images, labels", kind(found))
    } else {
        format!("this is no IDX file of {}: {AGAIN}", kind(want))
    };
    Err(malformed(path, format!("the magic number is {found}, not {want} ({})", kind(want)), remedy))
}

fn header_word(stream: &mut impl Read, path: &Path) -> Result<u32> {
    let mut word = [0; 4];
    stream.read_exact(&mut word).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => malformed(path, "the file ends inside its header", AGAIN),
        _ => io_error(path, "read the header", e),
    })?;
    Ok(u32::from_be_bytes(word))
}

/// The rest of the stream, which must be exactly `bytes` long. Memory grows with what is really
/// there, never with what the header claims.
fn payload(stream: impl Read, path: &Path, bytes: u64, what: &str) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    stream.take(bytes + 1).read_to_end(&mut data).map_err(|e| io_error(path, "read the data", e))?;
    match (data.len() as u64).cmp(&bytes) {
        std::cmp::Ordering::Equal => Ok(data),
        std::cmp::Ordering::Less => {
            let cause =
                format!("the file is cut off: {} bytes follow the header, {what} are {bytes}", data.len());
            Err(malformed(path, cause, AGAIN))
        }
        std::cmp::Ordering::Greater => {
            Err(malformed(path, format!("bytes follow after the {what} of the header"), AGAIN))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn classes() -> Vec<String> {
        ["a", "b", "c"].map(String::from).to_vec()
    }

    fn image_file() -> Vec<u8> {
        let mut bytes = Vec::new();
        let images = Array4::from_shape_fn((3, 2, 4, 1), |(n, y, x, _)| (n * 8 + y * 4 + x) as u8);
        write_images(&mut bytes, images.view()).unwrap();
        bytes
    }

    fn label_file(labels: &[u16]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_labels(&mut bytes, labels).unwrap();
        bytes
    }

    /// Reads both files from disk, as a user would.
    fn read_files(images: &[u8], labels: &[u8]) -> Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        let (i, l) = (folder.path().join("images"), folder.path().join("labels"));
        std::fs::write(&i, images).unwrap();
        std::fs::write(&l, labels).unwrap();
        read("test", &i, &l, &classes())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn a_handwritten_idx_file_is_read() {
        let mut images = vec![0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 4];
        images.extend(0..24);
        assert_eq!(images, image_file());
        assert_eq!(label_file(&[2, 0, 1]), [0, 0, 8, 1, 0, 0, 0, 3, 2, 0, 1]);
    }

    #[test]
    fn plain_and_gzipped_give_the_same() {
        let (images, labels) = (image_file(), label_file(&[2, 0, 1]));
        let plain = read_files(&images, &labels).unwrap();
        assert_eq!(plain, read_files(&gzip(&images), &gzip(&labels)).unwrap());
        assert_eq!((plain.images[[1, 1, 2, 0]], plain.labels), (14, vec![2, 0, 1]));
    }

    #[test]
    fn every_kind_of_damage_is_named() {
        let (images, labels) = (image_file(), label_file(&[2, 0, 1]));
        let with = |at: usize, value: u8| {
            let mut bytes = images.clone();
            bytes[at] = value;
            bytes
        };
        let longer = [&images[..], &[0]].concat();
        let whole_gzip = gzip(&images);
        let cut_gzip = &whole_gzip[..whole_gzip.len() - 4];
        // 131,072 images of 256 × 256: two bytes for each that is believed.
        let huge = [&images[..4], &[0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0]].concat();
        let cases: [(&[u8], &[u8], &str, &str); 13] = [
            (&huge, &labels, "more than 4 GiB", "again"),
            (&images[..30], &labels, "cut off: 14 bytes", "again"),
            (&images[..9], &labels, "inside its header", "again"),
            (&[], &labels, "inside its header", "again"),
            (&longer, &labels, "bytes follow after the 3 images of 2×4", "again"),
            (&labels, &labels, "magic number is 2049, not 2051", "in the order images, labels"),
            (&with(3, 99), &labels, "no IDX file of images", "again"),
            (&with(7, 0), &labels, "0 images", "again"),
            (&with(4, 1), &labels, "cut off", "again"),
            (&[&images[..4], &[255; 12]].concat(), &labels, "more than 4 GiB", "again"),
            (cut_gzip, &labels, "cannot read the data", "again"),
            (&images, &label_file(&[2, 0]), "2 labels for the 3 images", "same split"),
            (
                &images,
                &label_file(&[2, 3, 1]),
                "label 3 of image 1 is out of range, there are 3",
                "same dataset",
            ),
        ];
        for (images, labels, cause, remedy) in cases {
            let message = read_files(images, labels).unwrap_err().to_string();
            assert!(message.contains(cause) && message.contains(remedy), "{message}");
            assert!(message.contains("/images") || message.contains("/labels"), "no file named: {message}");
        }
    }

    #[test]
    fn labels_of_other_types_and_the_first_of_eight_columns_are_read() {
        let path = Path::new("labels");
        let mut qmnist = vec![0, 0, 0x0c, 2, 0, 0, 0, 2, 0, 0, 0, 8];
        for (label, rest) in [(7i32, 4i32), (300, -1)] {
            qmnist.extend(label.to_be_bytes());
            qmnist.extend([rest; 7].iter().flat_map(|v| v.to_be_bytes()));
        }
        assert_eq!(qmnist[..4], 3074u32.to_be_bytes());
        assert_eq!(parse_any_labels(&qmnist[..], path).unwrap(), [7, 300]);
        let short = [0, 0, 0x0b, 1, 0, 0, 0, 2, 1, 0, 0, 5];
        assert_eq!(parse_any_labels(&short[..], path).unwrap(), [256, 5]);
        assert_eq!(parse_any_labels(&label_file(&[2, 200])[..], path).unwrap(), [2, 200]);
        let negative = [0, 0, 9, 1, 0, 0, 0, 1, 255];
        let message = parse_any_labels(&negative[..], path).unwrap_err().to_string();
        assert!(message.contains("label 0 is -1"), "{message}");
        for (bytes, cause) in [
            (vec![0, 0, 0x0d, 1, 0, 0, 0, 1, 0, 0, 0, 0], "not one of labels"),
            (vec![0, 0, 8, 3, 0, 0, 0, 1], "not one of labels"),
            ([&[0, 0, 0x0c, 2][..], &[255; 8]].concat(), "announces 4294967295 × 4294967295"),
            (qmnist[..30].to_vec(), "cut off"),
        ] {
            let message = parse_any_labels(&bytes[..], path).unwrap_err().to_string();
            assert!(message.contains(cause), "{message}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let nowhere = Path::new("/nonexistent/train-images");
        let message = read("x", nowhere, nowhere, &classes()).unwrap_err().to_string();
        assert!(
            message.contains("/nonexistent/train-images") && message.contains("check the path"),
            "{message}"
        );
    }

    proptest! {
        /// Whatever is changed, cut or added: an error or a dataset of the announced shape, no panic.
        #[test]
        fn mutations_never_panic(
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in proptest::option::of(any::<prop::sample::Index>()),
            tail in proptest::collection::vec(any::<u8>(), 0..4),
            packed: bool,
        ) {
            let damage = |bytes: Vec<u8>| {
                let mut bytes = if packed { gzip(&bytes) } else { bytes };
                edits.iter().for_each(|(at, value)| { let i = at.index(bytes.len()); bytes[i] = *value; });
                bytes.truncate(cut.map_or(bytes.len(), |c| c.index(bytes.len())));
                bytes.extend(&tail);
                bytes
            };
            let unpack = |bytes: Vec<u8>| files::gunzipped(io::Cursor::new(bytes));
            let path = Path::new("fuzz");
            if let Ok(stream) = unpack(damage(image_file()))
                && let Ok(images) = parse_images(stream, path)
            {
                prop_assert!(!images.is_empty());
            }
            if let Ok(stream) = unpack(damage(label_file(&[2, 0, 1]))) {
                let _ = parse_labels(stream, path);
            }
        }
    }
}
