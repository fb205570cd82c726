//! Layouts: which format a file or folder has, and which of its files belong together.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::cifar;
use crate::error::{Result, io_error, malformed};
use crate::files;
use crate::folder::{file_name, is_picture, visible};
use crate::npy;
use crate::stl10;
use crate::zip::{self, Archive};

use super::part::{Part, Place, Variant};
use super::split::Split;

const FORMATS: &str =
    "known are npz, npy, IDX, STL-10, SVHN's .mat, CIFAR's binary version, parquet, and folders of classes";

/// The format in words, and the splits.
pub(super) fn recognize(root: &Path) -> Result<(&'static str, Vec<Split>)> {
    if root.is_dir() { of_folder(root) } else { of_file(root) }
}

/// The first bytes of a file, unpacked if it is gzipped.
fn beginning(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    files::open(path)?.take(160).read_to_end(&mut bytes).map_err(|e| io_error(path, "read the file", e))?;
    Ok(bytes)
}

fn of_file(path: &Path) -> Result<(&'static str, Vec<Split>)> {
    let start = beginning(path)?;
    let all = |part: Part| vec![Split { name: "all".to_owned(), part }];
    let folder = tarrl_files::folder(path);
    if start.starts_with(zip::MAGIC) {
        return of_archive(path);
    }
    if start.starts_with(npy::MAGIC) {
        let siblings: Vec<Place> = visible(folder)?.into_iter().map(Place::File).collect();
        let labels = labels_of(&Place::File(path.to_owned()), &siblings).ok_or_else(|| {
            let cause = "there is no array of labels beside it";
            malformed(
                path,
                cause,
                "put them there as labels.npy, or under its own name with labels instead of images or data",
            )
        })?;
        return Ok(("NumPy arrays", all(Part::Npy { images: Place::File(path.to_owned()), labels })));
    }
    if start.starts_with(b"PAR1") {
        return Ok(("parquet", all(Part::Parquet(vec![path.to_owned()]))));
    }
    if start.starts_with(b"MATLAB ") {
        return Ok(("MATLAB matrices", all(Part::Mat(path.to_owned()))));
    }
    if is_idx(&start) {
        let siblings: Vec<Place> = visible(folder)?.into_iter().map(Place::File).collect();
        let splits: Vec<Split> = idx_splits(siblings);
        let own = |split: &Split| matches!(&split.part, Part::Idx { images, .. } if *images == Place::File(path.to_owned()));
        let found: Vec<Split> = splits.into_iter().filter(own).collect();
        if found.is_empty() {
            let cause = "it is no IDX file of images with labels beside it";
            return Err(malformed(
                path,
                cause,
                "name the folder, or the file whose name has images where the other has labels",
            ));
        }
        return Ok(("IDX", found));
    }
    // A tar archive names its first member at its beginning.
    for kind in [cifar::Kind::Cifar10, cifar::Kind::Cifar100] {
        if start.starts_with(kind.folder().as_bytes()) {
            return Ok(("CIFAR's binary version", cifar_splits(kind, path)));
        }
    }
    Err(malformed(path, "it is a file of no known format of images", FORMATS))
}

fn of_archive(path: &Path) -> Result<(&'static str, Vec<Split>)> {
    let archive = Archive::open(path)?;
    let members: Vec<Place> =
        archive.names().map(|name| Place::Member(path.to_owned(), name.to_owned())).collect();
    let arrays: Vec<Place> =
        members.iter().filter(|place| name_of(place).ends_with(".npy")).cloned().collect();
    let pairs = pairs(&arrays);
    if !pairs.is_empty() {
        let split = |(name, images, labels)| Split { name, part: Part::Npy { images, labels } };
        return Ok(("npz", pairs.into_iter().map(split).collect()));
    }
    let splits = idx_splits(members);
    if !splits.is_empty() {
        return Ok(("an archive of IDX files", splits));
    }
    let names: Vec<&str> = archive.names().take(12).collect();
    let cause = format!("it is an archive with {}, none of which are images with labels", names.join(", "));
    Err(malformed(path, cause, "name arrays images and labels, or train_images and train_labels and so on"))
}

fn of_folder(folder: &Path) -> Result<(&'static str, Vec<Split>)> {
    let entries = visible(folder)?;
    let files: Vec<PathBuf> = entries.iter().filter(|path| path.is_file()).cloned().collect();
    let has = |name: &str| files.iter().any(|path| file_name(path) == name);
    for kind in [cifar::Kind::Cifar10, cifar::Kind::Cifar100] {
        let first = kind.members()[0].0;
        if has(first) || folder.join(kind.folder()).join(first).is_file() {
            return Ok(("CIFAR's binary version", cifar_splits(kind, folder)));
        }
    }
    let mut splits = stl10_splits(&files);
    if !splits.is_empty() {
        return Ok(("STL-10", splits));
    }
    for path in files.iter().filter(|path| file_name(path).ends_with(".mat")) {
        let name = file_name(path);
        let name = name.split(['_', '.']).next().unwrap_or("all").to_owned();
        splits.push(Split { name, part: Part::Mat(path.clone()) });
    }
    if !splits.is_empty() {
        return Ok(("MATLAB matrices", splits));
    }
    splits = parquet_splits(&files);
    if !splits.is_empty() {
        return Ok(("parquet", splits));
    }
    let places: Vec<Place> = files.iter().cloned().map(Place::File).collect();
    splits = idx_splits(places.clone());
    if !splits.is_empty() {
        return Ok(("IDX", splits));
    }
    let arrays: Vec<Place> =
        places.iter().filter(|place| name_of(place).ends_with(".npy")).cloned().collect();
    let pairs = pairs(&arrays);
    if !pairs.is_empty() {
        let split = |(name, images, labels)| Split { name, part: Part::Npy { images, labels } };
        return Ok(("NumPy arrays", pairs.into_iter().map(split).collect()));
    }
    if let [archive] = &files[..]
        && beginning(archive)?.starts_with(zip::MAGIC)
    {
        return of_archive(archive);
    }
    let folders: Vec<PathBuf> = entries.into_iter().filter(|path| path.is_dir()).collect();
    // Hugging Face keeps tables in a folder `data`.
    if let [data] = &folders[..]
        && file_name(data) == "data"
        && visible(data)?.iter().any(|path| file_name(path).ends_with(".parquet"))
    {
        return of_folder(data);
    }
    let holds_classes =
        |path: &Path| visible(path).is_ok_and(|inside| inside.iter().any(|path| path.is_dir()));
    let named = ["train", "test", "val", "validation"];
    let of_name = |name: &&str| folders.iter().find(|path| file_name(path) == **name && holds_classes(path));
    let split =
        |name: &str, path: &Path| Split { name: name.to_owned(), part: Part::Folder(path.to_owned()) };
    let splits: Vec<Split> =
        named.iter().filter_map(|name| of_name(name).map(|path| split(name, path))).collect();
    if !splits.is_empty() {
        return Ok(("an image folder", splits));
    }
    let has_pictures =
        |path: &PathBuf| visible(path).is_ok_and(|inside| inside.iter().any(|path| is_picture(path)));
    if folders.iter().any(has_pictures) {
        return Ok(("an image folder", vec![split("all", folder)]));
    }
    Err(malformed(folder, "it is a folder of no known format of images", FORMATS))
}

fn cifar_splits(kind: cifar::Kind, path: &Path) -> Vec<Split> {
    let split = |(name, is_test): (&str, bool)| Split {
        name: name.to_owned(),
        part: Part::Cifar { kind, path: path.to_owned(), is_test },
    };
    [("train", false), ("test", true)].map(split).to_vec()
}

fn stl10_splits(files: &[PathBuf]) -> Vec<Split> {
    let find = |name: String| files.iter().find(|path| file_name(path) == name).cloned();
    let fits = |path: &PathBuf| {
        File::open(path)
            .and_then(|file| file.metadata())
            .is_ok_and(|meta| meta.len().is_multiple_of(stl10::IMAGE_BYTES))
    };
    let split = |name: &str| {
        let images = find(format!("{name}_X.bin")).filter(fits)?;
        let labels = find(format!("{name}_y.bin"));
        // Only what is meant to be without labels is read without.
        (labels.is_some() || name == "unlabeled")
            .then(|| Split { name: name.to_owned(), part: Part::Stl10 { images, labels } })
    };
    ["train", "test", "unlabeled"].iter().filter_map(|name| split(name)).collect()
}

/// Tables of one split are numbered, as `train-00000-of-00002.parquet`.
fn parquet_splits(files: &[PathBuf]) -> Vec<Split> {
    let mut splits: Vec<Split> = Vec::new();
    for path in files {
        let name = file_name(path);
        let Some(stem) = name.strip_suffix(".parquet") else { continue };
        let split = stem.split_once("-0").map_or(stem, |(split, _)| split);
        match splits.iter_mut().find(|known| known.name == split) {
            Some(Split { part: Part::Parquet(paths), .. }) => paths.push(path.clone()),
            _ => splits.push(Split { name: split.to_owned(), part: Part::Parquet(vec![path.clone()]) }),
        }
    }
    splits
}

fn name_of(place: &Place) -> String {
    match place {
        Place::File(path) => file_name(path),
        Place::Member(_, member) => member.rsplit('/').next().unwrap_or_default().to_owned(),
    }
}

/// The words that a file of images has where that of its labels has the other.
const WORDS: [(&str, &str); 6] = [
    ("images", "labels"),
    ("imgs", "labels"),
    ("data", "labels"),
    ("image", "label"),
    ("x", "y"),
    ("X", "y"),
];

/// The file of labels that belongs to one of images: of its own name with another word, or `labels.npy`.
fn labels_of(images: &Place, among: &[Place]) -> Option<Place> {
    let name = name_of(images);
    let named =
        |wanted: &str| among.iter().find(|place| name_of(place) == wanted && *place != images).cloned();
    WORDS
        .iter()
        .find_map(|(images, labels)| exchanged(&name, images, labels).and_then(|name| named(&name)))
        .or_else(|| named("labels.npy"))
}

/// The name with one word exchanged, where it is a word by itself.
fn exchanged(name: &str, from: &str, to: &str) -> Option<String> {
    name.match_indices(from).find_map(|(at, _)| {
        let (before, after) = (&name[..at], &name[at + from.len()..]);
        let is_word = !before.ends_with(|c: char| c.is_alphanumeric())
            && !after.starts_with(|c: char| c.is_alphanumeric());
        is_word.then(|| format!("{before}{to}{after}"))
    })
}

/// Arrays of images with their labels, and the name of the split.
fn pairs(arrays: &[Place]) -> Vec<(String, Place, Place)> {
    let words = ["images", "imgs", "data", "image", "x", "X", "labels", "label", "y"];
    let is_labels =
        |name: &str| ["labels", "label", "y"].iter().any(|word| exchanged(name, word, "").is_some());
    let pair = |images: &Place| {
        let name = name_of(images);
        if is_labels(&name) {
            return None;
        }
        let labels = labels_of(images, arrays)?;
        let stem = name.trim_end_matches(".npy");
        let parts: Vec<&str> = stem.split(['_', '-']).filter(|part| !words.contains(part)).collect();
        let split = if parts.is_empty() { "all".to_owned() } else { parts.join("-") };
        Some((split, images.clone(), labels))
    };
    arrays.iter().filter_map(pair).collect()
}

fn is_idx(start: &[u8]) -> bool {
    matches!(start, [0, 0, 8 | 9 | 0x0b | 0x0c, 1..=4, ..])
}

/// IDX files of images with those of their labels. Splits are `train` and `test`, or, of several sets in one place, named after
/// their files.
fn idx_splits(places: Vec<Place>) -> Vec<Split> {
    let key = |name: &str, word: &str| {
        name.split_once(word).map(|(before, _)| before.trim_end_matches(['-', '_', '.']).to_owned())
    };
    let is_of_idx = |place: &Place| match place {
        Place::File(path) => beginning(path).is_ok_and(|start| is_idx(&start)),
        Place::Member(..) => name_of(place).contains("idx"),
    };
    let places: Vec<Place> = places
        .into_iter()
        .filter(|place| {
            ["images", "labels"].iter().any(|word| name_of(place).contains(word)) && is_of_idx(place)
        })
        .collect();
    let of_word = |word: &'static str| {
        places.iter().filter_map(move |place| key(&name_of(place), word).map(|key| (key, place.clone())))
    };
    let labels: Vec<(String, Place)> = of_word("labels").collect();
    let mut splits: Vec<Split> = of_word("images")
        .filter_map(|(name, images)| {
            let labels = labels.iter().find(|(key, _)| *key == name)?.1.clone();
            let is_transposed = name.starts_with("emnist");
            let variant = Variant { is_transposed, from_one: is_transposed && name.contains("letters") };
            Some(Split { name, part: Part::Idx { images, labels, variant } })
        })
        .collect();
    let short = |name: &str| {
        let has = |word: &str| name.split(['-', '_']).any(|part| part == word);
        if has("train") {
            "train"
        } else if has("test") || has("t10k") {
            "test"
        } else {
            "all"
        }
    };
    let is_unique =
        |split: &Split| splits.iter().filter(|other| short(&other.name) == short(&split.name)).count() == 1;
    if splits.iter().all(is_unique) {
        splits.iter_mut().for_each(|split| split.name = short(&split.name).to_owned());
    }
    splits
}
