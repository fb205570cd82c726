//! Image folders: one subfolder per class, PNG or JPEG files inside, of one size or brought to one.
//!
//! ## Which pixels are read
//!
//! The files are decoded by the `image` crate, and nothing is rotated or flattened, and resized only where a [`Resizing`]
//! says so. Against torchvision's
//! `ImageFolder`, which decodes with Pillow and libjpeg:
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
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{ColorType, DynamicImage, ImageFormat, ImageReader, Limits};
use ndarray::Array3;

use crate::dataset::Dataset;
use crate::error::{Result, io_error, malformed};
use crate::files::read_at_most;
use crate::jpeg;
use crate::resize::{self, Resizing, Stack};

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
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| io_error(path, "read the file", e))?;
    let decoded = if reader.format() == Some(ImageFormat::Jpeg) {
        let Some(end) = jpeg::end_of_image(bytes) else {
            return Err(malformed(path, "it is cut off", "copy or save the image again or remove it"));
        };
        jpeg::decode(bytes, end, LONGEST_SIDE)
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
    if let Some((x, y)) = transparent_pixel(&image) {
        let cause = format!("it is transparent, first at row {y}, column {x}");
        return Err(malformed(path, cause, "drop the alpha channel or flatten it onto a background color"));
    }
    let (height, width) = (image.height() as usize, image.width() as usize);
    let (channels, pixels) = match image.color() {
        ColorType::L8 | ColorType::L16 | ColorType::La8 | ColorType::La16 => {
            (1, image.into_luma8().into_raw())
        }
        _ => (3, image.into_rgb8().into_raw()),
    };
    Ok(Array3::from_shape_vec((height, width, channels), pixels).expect("a decoder gives all pixels"))
}

/// Column and row of the first pixel that is not opaque.
fn transparent_pixel(image: &DynamicImage) -> Option<(u32, u32)> {
    if !image.color().has_alpha() {
        return None;
    }
    // In 16 bits a channel nothing of the alpha is rounded away.
    let pixels = image.to_rgba16();
    pixels.enumerate_pixels().find(|(_, _, pixel)| pixel.0[3] != u16::MAX).map(|(x, y, _)| (x, y))
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

    /// An opaque alpha channel says nothing, and one level less does.
    #[test]
    fn an_opaque_alpha_channel_is_dropped() {
        let root = animals();
        let path = root.path().join("dog/c.png");
        let gray = |alpha: u8| image::ImageBuffer::from_pixel(3, 2, image::LumaA([77u8, alpha]));
        gray(255).save(&path).unwrap();
        let d = read("animals", root.path()).unwrap();
        assert_eq!((d.shape(), d.images[[3, 1, 2, 0]]), ((2, 3, 1), 77));
        let color = |alpha: u8| {
            let mut picture = RgbaImage::from_pixel(3, 2, image::Rgba([10, 20, 30, 255]));
            picture.get_pixel_mut(2, 1).0[3] = alpha;
            picture
        };
        color(255).save(&path).unwrap();
        let d = read("animals", root.path()).unwrap();
        assert_eq!([0, 1, 2].map(|c| d.images[[3, 1, 2, c]]), [10, 20, 30]);
        let sixteen = image::ImageBuffer::from_pixel(3, 2, image::Rgba([0u16, 257, 65535, 65535]));
        sixteen.save(&path).unwrap();
        let d = read("animals", root.path()).unwrap();
        assert_eq!([0, 1, 2].map(|c| d.images[[3, 1, 2, c]]), [0, 1, 255]);
        gray(254).save(&path).unwrap();
        let message = read("animals", root.path()).unwrap_err().to_string();
        assert!(message.contains("dog/c.png: it is transparent, first at row 0, column 0"), "{message}");
        color(254).save(&path).unwrap();
        let message = read("animals", root.path()).unwrap_err().to_string();
        assert!(message.contains("row 1, column 2"), "{message}");
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
