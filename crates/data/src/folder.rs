//! Image folders: one subfolder per class, PNG or JPEG files of one size inside.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use image::{ColorType, DynamicImage, ImageReader, Limits};
use ndarray::Array4;

use crate::dataset::{Dataset, Splits};
use crate::error::{Result, io_error, malformed};

/// No side of an image may be longer: small images are what the encoders are for, and the bound
/// keeps a header from asking for all memory.
const LONGEST_SIDE: u32 = 4096;

/// Reads `folder/<class>/<image>`; classes and images come in the order of their names.
///
/// Gray files give one channel; if any file is colored, all get three. Names that begin with a dot
/// and files beside the class folders are passed over.
///
/// # Errors
/// If there is no class or a class without image; if a file in a class folder is no PNG or JPEG, is
/// damaged, has an alpha channel or another size than the first.
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
    let file = File::open(path).map_err(|e| io_error(path, "open the file", e))?;
    let mut reader = ImageReader::new(BufReader::new(file))
        .with_guessed_format()
        .map_err(|e| io_error(path, "read the file", e))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    reader.limits(limits);
    let image = reader.decode().map_err(|e| {
        malformed(path, format!("it cannot be decoded ({e})"), "save the image again or remove it")
    })?;
    if image.color().has_alpha() {
        return Err(malformed(path, "it has an alpha channel", "flatten it onto a background color"));
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
