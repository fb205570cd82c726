//! Image folders: one subfolder per class, PNG or JPEG files of one size inside.
//!
//! ## Which pixels are read
//!
//! The files are decoded by the `image` crate, and nothing is resized, rotated or flattened. Against torchvision's
//! `ImageFolder`, which decodes with Pillow and libjpeg:
//!
//! - PNGs of 8 bits, gray or color, with or without palette, give the same bytes. Of 16 bits a channel the value is
//!   rounded to 8, where Pillow keeps the upper byte: one level in a quarter of the values.
//! - JPEGs of full chroma differ by up to 3 levels in color and 1 in gray. Where chroma is halved, as most programs
//!   save, the columns and rows of an edge without a neighbor differ more: by 13 to 25 levels in the last column of
//!   images of 28×28. JPEGs in CMYK are within one level. Convert to PNG where pixels must be those of another program.
//! - An alpha channel, or a transparent color of a PNG, is refused; `ImageFolder` drops it without a word, whatever
//!   color lies beneath. Drop it or flatten it onto a background before.
//! - The orientation in EXIF is not applied, as in `ImageFolder`: a picture lies as its pixels are stored.
//!
//! To bring pictures to one size, resize them once, from the originals, with a filter that averages over all source
//! pixels of a result (Pillow's `resize` with `BILINEAR` or `BICUBIC`, torchvision's `Resize` with `antialias=True`), and
//! name it with the results: filters without averaging, and Pillow's `thumbnail` of a JPEG, which decodes it shrunken,
//! are up to 50 and 8 levels away, and nearest-neighbor filters choose other pixels in each library. Write perturbed
//! pictures as PNG: JPEG loses a perturbation of a few levels at any quality, and halves the chroma even at 100 by
//! default. Round to the nearest level before, and measure the perturbation on the bytes that were written.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{ColorType, DynamicImage, ImageFormat, ImageReader, Limits};
use ndarray::Array4;

use crate::dataset::{Dataset, Splits};
use crate::error::{Result, io_error, malformed};
use crate::files::read_at_most;
use crate::jpeg;

/// No side of an image may be longer: small images are what the encoders are for, and the bound
/// keeps a header from asking for all memory.
const LONGEST_SIDE: u32 = 4096;
/// The longest file that is read: more than the longest image takes unpacked, in 16 bits a channel.
const MOST_BYTES: u64 = 1 << 28;
/// The most memory that a decoder may ask for: what the longest image takes, in 16 bits a channel, twice.
const MOST_MEMORY: u64 = 1 << 28;

/// Reads `folder/<class>/<image>`; classes and images come in the order of their names.
///
/// Gray files give one channel; if any file is colored, all get three. Names that begin with a dot
/// and files beside the class folders are passed over.
///
/// # Errors
/// If there is no class or a class without image; if a file in a class folder is no PNG or JPEG, is
/// damaged or cut off, has an alpha channel or another size than the first.
pub fn read(name: &str, folder: &Path) -> Result<Dataset> {
    let class_folders: Vec<PathBuf> = visible(folder)?.into_iter().filter(|p| p.is_dir()).collect();
    if class_folders.is_empty() {
        return Err(malformed(
            folder,
            "it holds no folder",
            "make one folder per class with its images inside",
        ));
    }
    let (mut images, mut labels, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    for class in class_folders {
        let files = visible(&class)?;
        if files.is_empty() {
            return Err(malformed(
                &class,
                "the class holds no image",
                "put its images there or remove the folder",
            ));
        }
        for file in files {
            let image = decode(&file, images.first())?;
            images.push(image);
            labels.push(u16::try_from(classes.len()).map_err(|_| {
                malformed(folder, "there are more than 65,536 classes", "check that it is the right folder")
            })?);
        }
        classes.push(file_name(&class));
    }
    Ok(Dataset::new(name, stack(images), labels, classes))
}

/// Reads `folder/train` and `folder/test`, each as [`read`] does.
///
/// # Errors
/// Those of [`read`], and if the two differ in classes, size or number of channels.
pub fn read_splits(name: &str, folder: &Path) -> Result<Splits> {
    let (train, test) = (read(name, &folder.join("train"))?, read(name, &folder.join("test"))?);
    let path = folder.join("test");
    if train.classes != test.classes {
        let cause = format!("its classes {:?} are not those of train, {:?}", test.classes, train.classes);
        return Err(malformed(&path, cause, "give both the same class folders"));
    }
    if train.shape() != test.shape() {
        let cause = format!("its images are {:?}, those of train {:?}", test.shape(), train.shape());
        return Err(malformed(&path, cause, "bring all images to one size and one number of channels"));
    }
    Ok(Splits { train, test })
}

/// The entries of a folder by name, without the hidden ones.
fn visible(folder: &Path) -> Result<Vec<PathBuf>> {
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

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn decode(path: &Path, first: Option<&DynamicImage>) -> Result<DynamicImage> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if !["png", "jpg", "jpeg"].contains(&extension.as_str()) {
        return Err(malformed(path, "it is no PNG or JPEG", "convert it or move it out of the class folder"));
    }
    let bytes = read_at_most(path, MOST_BYTES).map_err(|e| io_error(path, "read the file", e))?;
    let mut reader = ImageReader::new(Cursor::new(bytes.as_slice()))
        .with_guessed_format()
        .map_err(|e| io_error(path, "read the file", e))?;
    let decoded = if reader.format() == Some(ImageFormat::Jpeg) {
        let Some(end) = jpeg::end_of_image(&bytes) else {
            return Err(malformed(path, "it is cut off", "copy or save the image again or remove it"));
        };
        jpeg::decode(&bytes, end, LONGEST_SIDE)
    } else {
        let mut limits = Limits::default();
        limits.max_image_width = Some(LONGEST_SIDE);
        limits.max_image_height = Some(LONGEST_SIDE);
        limits.max_alloc = Some(MOST_MEMORY);
        reader.limits(limits);
        reader.decode().map_err(|e| e.to_string())
    };
    let image = decoded.map_err(|e| {
        malformed(path, format!("it cannot be decoded ({e})"), "save the image again or remove it")
    })?;
    if image.color().has_alpha() {
        let remedy = "drop it or flatten it onto a background color";
        return Err(malformed(path, "it has an alpha channel or a transparent color", remedy));
    }
    let size = (image.height(), image.width());
    match first.map(|f| (f.height(), f.width())) {
        Some(wanted) if wanted != size => {
            let cause = format!("it is {}×{}, the first image {}×{}", size.0, size.1, wanted.0, wanted.1);
            Err(malformed(path, cause, "bring all images to one size"))
        }
        _ => Ok(image),
    }
}

fn stack(images: Vec<DynamicImage>) -> Array4<u8> {
    let gray = |color: ColorType| matches!(color, ColorType::L8 | ColorType::L16);
    let channels = if images.iter().all(|image| gray(image.color())) { 1 } else { 3 };
    let shape = (images.len(), images[0].height() as usize, images[0].width() as usize, channels);
    let bytes = |image: DynamicImage| {
        if channels == 1 { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() }
    };
    let pixels = images.into_iter().flat_map(bytes).collect();
    Array4::from_shape_vec(shape, pixels).expect("every image was checked to have this size")
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma, Rgb, RgbImage, RgbaImage};
    use proptest::prelude::*;
    use tempfile::TempDir;

    fn gray(value: u8) -> DynamicImage {
        GrayImage::from_pixel(3, 2, Luma([value])).into()
    }

    /// Two classes, the second with two images.
    fn animals() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, value) in [("dog/b.png", 3), ("dog/a.png", 2), ("cat/x.PNG", 1)] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            gray(value).save(path).unwrap();
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
        RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8, y as u8, 9]))
            .save(root.path().join("dog/c.png"))
            .unwrap();
        RgbImage::from_pixel(3, 2, Rgb([200, 200, 200])).save(root.path().join("dog/d.jpg")).unwrap();
        let d = read("animals", root.path()).unwrap();
        assert_eq!(d.shape(), (2, 3, 3));
        assert_eq!([0, 1, 2].map(|c| d.images[[3, 1, 2, c]]), [2, 1, 9]);
        assert_eq!([0, 1, 2].map(|c| d.images[[0, 1, 2, c]]), [1; 3]);
        assert!(d.images[[4, 0, 0, 1]].abs_diff(200) <= 2, "JPEG is lossy, but not that much");
    }

    #[test]
    fn unfit_files_are_refused_by_name() {
        type Spoil = fn(&Path);
        let cases: [(Spoil, &str, &str); 7] = [
            (
                |p| gray(0).resize_exact(4, 4, image::imageops::Nearest).save(p.join("dog/z.png")).unwrap(),
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
                |p| RgbaImage::new(3, 2).save(p.join("dog/z.png")).unwrap(),
                "dog/z.png: it has an alpha",
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

    /// A picture with enough detail that its scan is long.
    fn write_noise(path: &Path) -> Vec<u8> {
        let noise = |x: u32, y: u32| ((x * 37 + y * 101) * 7919 % 251) as u8;
        RgbImage::from_fn(28, 28, |x, y| Rgb([noise(x, y), noise(y, x), noise(x + y, 3)]))
            .save(path)
            .unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn truncated_files_are_refused_at_every_length() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("cat")).unwrap();
        for name in ["a.jpg", "a.png"] {
            let path = root.path().join("cat").join(name);
            let bytes = write_noise(&path);
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
        let bytes = write_noise(&path);
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
        let bytes = write_noise(&path);
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

    #[test]
    fn splits_must_agree() {
        let root = tempfile::tempdir().unwrap();
        for split in ["train", "test"] {
            fs::rename(animals().keep(), root.path().join(split)).unwrap();
        }
        assert_eq!(read_splits("a", root.path()).unwrap().test.len(), 3);
        fs::rename(root.path().join("test/cat"), root.path().join("test/lynx")).unwrap();
        let message = read_splits("a", root.path()).unwrap_err().to_string();
        assert!(message.contains("\"lynx\"") && message.contains("same class folders"), "{message}");
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
            gray(7).save(&path).unwrap();
            let mut bytes = fs::read(&path).unwrap();
            edits.iter().for_each(|(at, value)| { let i = at.index(bytes.len()); bytes[i] = *value; });
            bytes.truncate(bytes.len() - cut.index(bytes.len()) / 2);
            fs::write(&path, bytes).unwrap();
            if let Ok(d) = read("fuzz", root.path()) {
                prop_assert_eq!(d.len(), 4);
            }
        }
    }
}
