//! Image folders: one subfolder per class, PNG or JPEG files inside, of one size or brought to one.
//!
//! ## Which pixels are read
//!
//! The files are decoded by the crates `png` and `zune-jpeg`, as the `image` crate does, and nothing is rotated or
//! flattened, and resized only where a [`Resizing`] says so. Against torchvision's `ImageFolder`, which decodes with Pillow
//! and libjpeg:
//!
//! - PNGs of 8 bits, gray or color, with or without palette, give the same bytes. Of 16 bits a channel the value is
//!   rounded to 8, where Pillow keeps the upper byte: one level in a quarter of the values.
//! - JPEGs of full chroma differ by up to 3 levels in color and 1 in gray. Where chroma is halved, as most programs
//!   save, the columns and rows of an edge without a neighbor differ more: by 13 to 25 levels in the last column of
//!   images of 28×28. JPEGs in CMYK are within one level. Convert to PNG where pixels must be those of another program.
//! - An alpha channel that is opaque everywhere is dropped, which gives the bytes of `ImageFolder`. A picture with a
//!   transparent pixel is refused; `ImageFolder` drops its alpha too without a word, whatever color lies beneath. Drop it or
//!   flatten it onto a background before.
//! - The orientation in EXIF is not applied, as in `ImageFolder`: a picture lies as its pixels are stored.
//!
//! To bring pictures to one size, resize them once, from the originals, with a filter that averages over all source
//! pixels of a result (Pillow's `resize` with `BILINEAR` or `BICUBIC`, torchvision's `Resize` with `antialias=True`), and
//! name it with the results: filters without averaging, and Pillow's `thumbnail` of a JPEG, which decodes it shrunken,
//! are up to 50 and 8 levels away, and nearest-neighbor filters choose other pixels in each library. Write perturbed
//! pictures as PNG: JPEG loses a perturbation of a few levels at any quality, and halves the chroma even at 100 by
//! default. Round to the nearest level before, and measure the perturbation on the bytes that were written.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::Array3;

use crate::dataset::Dataset;
use crate::error::{Result, io_error, malformed};
use crate::files::read_at_most;
use crate::jpeg;
use crate::png::{self, Refusal};
use crate::resize::{self, Resizing, Stack};

/// No side of an image may be longer: small images are what the encoders are for, and the bound
/// keeps a header from asking for all memory.
const LONGEST_SIDE: u32 = 4096;
/// The longest file that is read: more than the longest image takes unpacked, in 16 bits a channel.
const MOST_BYTES: u64 = 1 << 28;
/// The most memory that a decoder may ask for: what the longest image takes, in 16 bits a channel, twice.
const MOST_MEMORY: usize = 1 << 28;

/// Reads `folder/<class>/<image>`; classes and images come in the order of their names.
///
/// Gray files give one channel; if any file is colored, all get three. Names that begin with a dot
/// and files beside the class folders are passed over.
///
/// # Errors
/// If there is no class or a class without image; if a file in a class folder is no PNG or JPEG, is
/// damaged or cut off, has a transparent pixel or another size than the first.
pub fn read(name: &str, folder: &Path) -> Result<Dataset> {
    read_classes(name, folder, &classes(folder)?, &Resizing::default())
}

/// The names of the class folders, sorted.
pub(crate) fn classes(folder: &Path) -> Result<Vec<String>> {
    let classes: Vec<String> =
        visible(folder)?.iter().filter(|path| path.is_dir()).map(|path| file_name(path)).collect();
    if classes.is_empty() {
        return Err(malformed(
            folder,
            "it holds no folder",
            "make one folder per class with its images inside",
        ));
    }
    if classes.len() > 1 << 16 {
        let cause = "there are more than 65,536 classes";
        return Err(malformed(folder, cause, "check that it is the right folder"));
    }
    Ok(classes)
}

/// Reads the folders of these classes, with images in a new size.
pub(crate) fn read_classes(
    name: &str,
    folder: &Path,
    classes: &[String],
    resizing: &Resizing,
) -> Result<Dataset> {
    let (mut images, mut labels) = (Stack::default(), Vec::new());
    for (label, class) in classes.iter().enumerate() {
        let class = folder.join(class);
        let files = visible(&class)?;
        if files.is_empty() {
            return Err(malformed(
                &class,
                "the class holds no image",
                "put its images there or remove the folder",
            ));
        }
        for file in files {
            let image = resizing.apply(decode(&file)?.view());
            let image = image.map_err(|cause| malformed(&file, cause, resize::REMEDY))?;
            images.push(&image, &file)?;
            labels.push(label as u16);
        }
    }
    Ok(Dataset::new(name, images.finish(), labels, classes.to_vec()))
}

/// The entries of a folder by name, without the hidden ones.
pub(crate) fn visible(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|e| io_error(folder, "list the folder", e))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| io_error(folder, "list the folder", e))?.path();
        if !file_name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether a file is a picture by its name.
pub(crate) fn is_picture(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    ["png", "jpg", "jpeg"].contains(&extension.as_str())
}

fn decode(path: &Path) -> Result<Array3<u8>> {
    if !is_picture(path) {
        return Err(malformed(path, "it is no PNG or JPEG", "convert it or move it out of the class folder"));
    }
    let bytes = read_at_most(path, MOST_BYTES).map_err(|e| io_error(path, "read the file", e))?;
    picture(&bytes, path)
}

/// The pixels `(h, w, c)` of an encoded picture; `path` is for messages.
pub(crate) fn picture(bytes: &[u8], path: &Path) -> Result<Array3<u8>> {
    let decoded = if jpeg::begins(bytes) {
        let Some(end) = jpeg::end_of_image(bytes) else {
            return Err(malformed(path, "it is cut off", "copy or save the image again or remove it"));
        };
        jpeg::decode(bytes, end, LONGEST_SIDE).map_err(Refusal::Undecodable)
    } else {
        png::decode(bytes, LONGEST_SIDE, MOST_MEMORY)
    };
    decoded.map_err(|refusal| match refusal {
        Refusal::Undecodable(cause) => {
            malformed(path, format!("it cannot be decoded ({cause})"), "save the image again or remove it")
        }
        Refusal::Transparent { row, column } => {
            let cause = format!("it is transparent, first at row {row}, column {column}");
            malformed(path, cause, "drop the alpha channel or flatten it onto a background color")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::png::tests::encoded;
    use proptest::prelude::*;
    use tempfile::TempDir;

    /// A gray PNG of 2 rows and 3 columns.
    fn gray(value: u8) -> Vec<u8> {
        encoded([2, 3, 1], &[value; 6])
    }

    /// JPEGs that Pillow wrote: a gray one and a color one of 2 rows and 3 columns, of the values 7 and 200, and the noise
    /// of [`noise`].
    const GRAY_JPEG: &[u8] = include_bytes!("../tests/pictures/gray.jpg");
    const FLAT_JPEG: &[u8] = include_bytes!("../tests/pictures/flat.jpg");
    const NOISE_JPEG: &[u8] = include_bytes!("../tests/pictures/noise.jpg");

    /// Detail enough that a scan is long: 28 rows and columns in color. The JPEG is, in Python:
    ///
    /// ```text
    /// noise = lambda x, y: (x * 37 + y * 101) * 7919 % 251
    /// image = PIL.Image.new("RGB", (28, 28))
    /// image.putdata([(noise(x, y), noise(y, x), noise(x + y, 3)) for y in range(28) for x in range(28)])
    /// image.save("noise.jpg")
    /// ```
    fn noise() -> Vec<u8> {
        let noise = |x: usize, y: usize| ((x * 37 + y * 101) * 7919 % 251) as u8;
        let places = (0..28 * 28).map(|i| (i % 28, i / 28));
        places.flat_map(|(x, y)| [noise(x, y), noise(y, x), noise(x + y, 3)]).collect()
    }

    /// Two classes, the second with two images.
    fn animals() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, value) in [("dog/b.png", 3), ("dog/a.png", 2), ("cat/x.PNG", 1)] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, gray(value)).unwrap();
        }
        fs::write(root.path().join("notes.txt"), "beside the classes").unwrap();
        fs::write(root.path().join("dog/.hidden"), "passed over").unwrap();
        root
    }

    #[test]
    fn classes_and_images_come_by_name() {
        let root = animals();
        let d = read("animals", root.path()).unwrap();
        assert_eq!(
            (d.classes.join(" "), d.labels.clone(), d.shape()),
            ("cat dog".into(), vec![0, 1, 1], (2, 3, 1))
        );
        assert_eq!([0, 1, 2].map(|i| d.images[[i, 1, 2, 0]]), [1, 2, 3]);
    }

    #[test]
    fn one_color_image_makes_all_three_channeled() {
        let root = animals();
        let color: Vec<u8> = (0..6).flat_map(|i| [i % 3, i / 3, 9]).collect();
        fs::write(root.path().join("dog/c.png"), encoded([2, 3, 3], &color)).unwrap();
        fs::write(root.path().join("dog/d.jpg"), FLAT_JPEG).unwrap();
        let d = read("animals", root.path()).unwrap();
        assert_eq!(d.shape(), (2, 3, 3));
        assert_eq!([0, 1, 2].map(|c| d.images[[3, 1, 2, c]]), [2, 1, 9]);
        assert_eq!([0, 1, 2].map(|c| d.images[[0, 1, 2, c]]), [1; 3]);
        assert!(d.images[[4, 0, 0, 1]].abs_diff(200) <= 2, "JPEG is lossy, but not that much");
    }

    /// An opaque alpha channel says nothing, and one level less does.
    #[test]
    fn an_opaque_alpha_channel_is_dropped() {
        let root = animals();
        let path = root.path().join("dog/c.png");
        let gray = |alpha: u8| encoded([2, 3, 2], &[77, alpha].repeat(6));
        fs::write(&path, gray(255)).unwrap();
        let d = read("animals", root.path()).unwrap();
        assert_eq!((d.shape(), d.images[[3, 1, 2, 0]]), ((2, 3, 1), 77));
        let color = |alpha: u8| {
            let mut pixels = [10, 20, 30, 255].repeat(6);
            pixels[4 * 5 + 3] = alpha;
            encoded([2, 3, 4], &pixels)
        };
        fs::write(&path, color(255)).unwrap();
        let d = read("animals", root.path()).unwrap();
        assert_eq!([0, 1, 2].map(|c| d.images[[3, 1, 2, c]]), [10, 20, 30]);
        fs::write(&path, gray(254)).unwrap();
        let message = read("animals", root.path()).unwrap_err().to_string();
        assert!(message.contains("dog/c.png: it is transparent, first at row 0, column 0"), "{message}");
        fs::write(&path, color(254)).unwrap();
        let message = read("animals", root.path()).unwrap_err().to_string();
        assert!(message.contains("row 1, column 2"), "{message}");
    }

    #[test]
    fn unfit_files_are_refused_by_name() {
        type Spoil = fn(&Path);
        let cases: [(Spoil, &str, &str); 7] = [
            (
                |p| fs::write(p.join("dog/z.png"), encoded([4, 4, 1], &[0; 16])).unwrap(),
                "dog/z.png: it is 4×4, the first image 2×3",
                "one size",
            ),
            (|p| fs::write(p.join("dog/z.bmp"), "BM").unwrap(), "dog/z.bmp: it is no PNG", "convert"),
            (
                |p| fs::write(p.join("dog/z.png"), "not a picture").unwrap(),
                "dog/z.png: it cannot be decoded",
                "again",
            ),
            (
                |p| fs::write(p.join("dog/z.png"), encoded([2, 3, 4], &[0; 24])).unwrap(),
                "dog/z.png: it is transparent, first at row 0, column 0",
                "flatten",
            ),
            (
                |p| fs::create_dir(p.join("eel")).unwrap(),
                "eel: the class holds no image",
                "remove the folder",
            ),
            (|p| fs::create_dir(p.join("dog/sub")).unwrap(), "dog/sub: it is no PNG", "move it out"),
            (
                |p| {
                    fs::remove_dir_all(p.join("dog")).unwrap();
                    fs::remove_dir_all(p.join("cat")).unwrap();
                },
                "it holds no folder",
                "one folder per class",
            ),
        ];
        for (spoil, cause, remedy) in cases {
            let root = animals();
            spoil(root.path());
            let message = read("animals", root.path()).unwrap_err().to_string();
            assert!(message.contains(cause) && message.contains(remedy), "{message}");
        }
        let message = read("x", Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(message.contains("/nonexistent: cannot list the folder"), "{message}");
    }

    #[test]
    fn truncated_files_are_refused_at_every_length() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("cat")).unwrap();
        for (name, bytes) in [("a.jpg", NOISE_JPEG.to_vec()), ("a.png", encoded([28, 28, 3], &noise()))] {
            let path = root.path().join("cat").join(name);
            fs::write(&path, &bytes).unwrap();
            assert_eq!(read("x", root.path()).unwrap().shape(), (28, 28, 3));
            for len in (1..bytes.len()).rev().step_by(7) {
                fs::write(&path, &bytes[..len]).unwrap();
                let message = match read("x", root.path()) {
                    // The last chunk of a PNG holds no pixel.
                    Ok(_) => {
                        assert!(
                            name == "a.png" && len + 16 > bytes.len(),
                            "{name}: {len} of {}",
                            bytes.len()
                        );
                        continue;
                    }
                    Err(error) => error.to_string(),
                };
                assert!(message.contains(name) && message.contains("again or remove it"), "{message}");
            }
            fs::remove_file(path).unwrap();
        }
    }

    /// A decoder that takes what it can get fills what is missing of a scan with gray.
    #[test]
    fn a_scan_that_breaks_off_before_the_end_marker_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("cat")).unwrap();
        let path = root.path().join("cat/a.jpg");
        let bytes = NOISE_JPEG;
        let scan = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap() + 14;
        let cuts: Vec<usize> = (scan..bytes.len() - 2).step_by(3).collect();
        let accepted = cuts.iter().filter(|&&len| {
            fs::write(&path, [&bytes[..len], &[0xff, 0xd9]].concat()).unwrap();
            let read = read("x", root.path()).map_err(|error| error.to_string());
            assert!(
                read.as_ref().err().is_none_or(|why| why.contains("a.jpg: it cannot be decoded")),
                "{read:?}"
            );
            read.is_ok()
        });
        // The last few bits may change no pixel.
        assert!(accepted.count() * 100 <= cuts.len(), "of {} cuts", cuts.len());
    }

    /// An end-of-image marker inside a segment, as that of a thumbnail, is not the end of the picture.
    #[test]
    fn the_end_of_a_thumbnail_is_not_that_of_the_image() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("cat/a.jpg");
        fs::create_dir(root.path().join("cat")).unwrap();
        let bytes = NOISE_JPEG;
        let comment = [&[0xff, 0xfe, 0, 6], &[0xff, 0xd9, 0xff, 0xd9][..]].concat();
        let whole = [&bytes[..2], &comment, &bytes[2..]].concat();
        fs::write(&path, &whole).unwrap();
        assert_eq!(read("x", root.path()).unwrap().len(), 1);
        fs::write(&path, &whole[..whole.len() - 100]).unwrap();
        let message = read("x", root.path()).unwrap_err().to_string();
        assert!(message.contains("cat/a.jpg: it is cut off"), "{message}");
        // Bytes after the end do no harm.
        fs::write(&path, [&whole[..], b"padding"].concat()).unwrap();
        assert_eq!(read("x", root.path()).unwrap().len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn mutations_never_panic(
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut: prop::sample::Index,
            jpeg: bool,
        ) {
            let root = animals();
            let path = root.path().join(if jpeg { "dog/z.jpg" } else { "dog/z.png" });
            let mut bytes = if jpeg { GRAY_JPEG.to_vec() } else { gray(7) };
            edits.iter().for_each(|(at, value)| { let i = at.index(bytes.len()); bytes[i] = *value; });
            bytes.truncate(bytes.len() - cut.index(bytes.len()) / 2);
            fs::write(&path, bytes).unwrap();
            if let Ok(d) = read("fuzz", root.path()) {
                prop_assert_eq!(d.len(), 4);
            }
        }
    }
}
