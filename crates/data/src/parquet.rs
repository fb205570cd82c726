//! Parquet as the Hugging Face hub has it: a column of encoded pictures, one of labels, in one or several files.
//!
//! Pictures are a group with `bytes`, labels a column `label` or `fine_label` of whole numbers. Names of the classes stand in the
//! metadata under `huggingface`. Pages are plain or packed by Snappy.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use crate::arrays;
use crate::dataset::Dataset;
use crate::error::{Error, Result, io_error, malformed};
use crate::folder;
use crate::resize::{self, Resizing, Stack};

/// Names of the column of labels, best first.
const LABELS: [&str; 4] = ["label", "labels", "fine_label", "class"];

/// The names of the classes in the metadata of the first file.
pub(crate) fn classes(paths: &[PathBuf]) -> Result<Option<Vec<String>>> {
    let Some(path) = paths.first() else { return Ok(None) };
    let reader = open(path)?;
    let column = label_column(&reader, path)?.name().to_owned();
    let metadata = reader.metadata().file_metadata();
    let text = metadata.key_value_metadata().into_iter().flatten().find(|entry| entry.key == "huggingface");
    let names = text.and_then(|entry| class_names(entry.value.as_deref()?, &column));
    Ok(names)
}

/// The names of the classes of a column in the hub's description of features: a list, or an object with numbers as keys.
fn class_names(text: &str, column: &str) -> Option<Vec<String>> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let names = &value["info"]["features"][column]["names"];
    let names: Option<Vec<&str>> = match names {
        serde_json::Value::Array(names) => names.iter().map(|name| name.as_str()).collect(),
        serde_json::Value::Object(names) => {
            (0..names.len()).map(|i| names.get(&i.to_string())?.as_str()).collect()
        }
        _ => None,
    };
    let names: Vec<String> = names?.into_iter().map(str::to_owned).collect();
    (!names.is_empty()).then_some(names)
}

/// The labels of all files.
pub(crate) fn labels(paths: &[PathBuf]) -> Result<Vec<u16>> {
    let mut numbers = Vec::new();
    for path in paths {
        guarded(path, || {
            let reader = open(path)?;
            let column = label_column(&reader, path)?;
            let projection = Type::group_type_builder("schema").with_fields(vec![column]).build();
            let rows = reader.get_row_iter(Some(projection.map_err(|e| damaged(path, e))?));
            for row in rows.map_err(|e| damaged(path, e))? {
                let row = row.map_err(|e| damaged(path, e))?;
                numbers.push(
                    row.get_column_iter()
                        .next()
                        .and_then(|(_, field)| whole(field))
                        .ok_or_else(|| no_label(path))?,
                );
                if numbers.len() as u64 > arrays::MOST_LABELS {
                    return Err(malformed(path, "there are too many labels", "take fewer files"));
                }
            }
            Ok(())
        })?;
    }
    let path = paths.first().map_or(Path::new("table.parquet"), PathBuf::as_path);
    arrays::labels(&[numbers.len()], &numbers, path)
}

/// The images of all files in a new size, with these classes.
pub(crate) fn read(
    name: &str,
    paths: &[PathBuf],
    classes: Vec<String>,
    resizing: &Resizing,
) -> Result<Dataset> {
    let (mut images, mut labels) = (Stack::default(), Vec::new());
    for path in paths {
        guarded(path, || {
            let reader = open(path)?;
            let column = label_column(&reader, path)?.name().to_owned();
            for row in reader.get_row_iter(None).map_err(|e| damaged(path, e))? {
                let row = row.map_err(|e| damaged(path, e))?;
                let place = path.join(format!("row {}", images.len()));
                let picture = folder::picture(picture_bytes(&row).ok_or_else(|| no_picture(path))?, &place)?;
                let picture = resizing
                    .apply(picture.view())
                    .map_err(|cause| malformed(&place, cause, resize::REMEDY))?;
                images.push(&picture, &place)?;
                let label = row
                    .get_column_iter()
                    .find(|(name, _)| **name == column)
                    .and_then(|(_, field)| whole(field));
                let label =
                    label.and_then(|label| u16::try_from(label).ok()).ok_or_else(|| no_label(path))?;
                if usize::from(label) >= classes.len() {
                    let cause = format!("label {label} has none of the {} classes", classes.len());
                    return Err(malformed(&place, cause, "check that all files are of the same dataset"));
                }
                labels.push(label);
            }
            Ok(())
        })?;
    }
    if labels.is_empty() {
        let path = paths.first().map_or(Path::new("table.parquet"), PathBuf::as_path);
        return Err(malformed(path, "it has no rows", arrays::AGAIN));
    }
    Ok(Dataset::new(name, images.finish(), labels, classes))
}

/// Runs a reader of one file; the crate panics on some damaged pages, which is an error here like every other damage.
fn guarded(path: &Path, read: impl FnOnce() -> Result<()>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(damaged(
            path,
            parquet::errors::ParquetError::General("its pages contradict each other".to_owned()),
        ))
    })
}

fn open(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = File::open(path).map_err(|e| io_error(path, "open the file", e))?;
    SerializedFileReader::new(file).map_err(|e| damaged(path, e))
}

fn damaged(path: &Path, error: parquet::errors::ParquetError) -> Error {
    let remedy =
        "copy or download the file again; pages may be plain or packed by Snappy, other codecs are not read";
    malformed(path, format!("it cannot be read ({error})"), remedy)
}

fn label_column(reader: &SerializedFileReader<File>, path: &Path) -> Result<Arc<Type>> {
    let fields = reader.metadata().file_metadata().schema().get_fields();
    let found = LABELS.iter().find_map(|name| fields.iter().find(|field| field.name() == *name));
    found.cloned().ok_or_else(|| no_label(path))
}

fn no_label(path: &Path) -> Error {
    let remedy = "name a column of whole numbers from 0 label";
    malformed(path, "it has no labels in a column label or fine_label", remedy)
}

fn no_picture(path: &Path) -> Error {
    malformed(
        path,
        "a row has no encoded picture",
        "give pictures as a group with bytes, as the Hugging Face hub does",
    )
}

fn picture_bytes(row: &Row) -> Option<&[u8]> {
    row.get_column_iter().find_map(|(_, field)| {
        let Field::Group(group) = field else { return None };
        group.get_column_iter().find_map(|(name, field)| match field {
            Field::Bytes(bytes) if name == "bytes" => Some(bytes.data()),
            _ => None,
        })
    })
}

fn whole(field: &Field) -> Option<i64> {
    match field {
        Field::Long(value) => Some(*value),
        Field::Int(value) => Some((*value).into()),
        Field::Short(value) => Some((*value).into()),
        Field::Byte(value) => Some((*value).into()),
        Field::UInt(value) => Some((*value).into()),
        Field::UShort(value) => Some((*value).into()),
        Field::UByte(value) => Some((*value).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::metadata::KeyValue;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    fn png(value: u8) -> Vec<u8> {
        crate::png::tests::encoded([2, 3, 3], &[value; 18])
    }

    /// A table with the schema of the hub.
    fn table(path: &Path, rows: &[(u8, i64)], metadata: Option<&str>) {
        let schema =
            "message schema { optional group img { optional binary bytes; optional binary path (UTF8); }
                      optional int64 label; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let entries =
            metadata.map(|text| vec![KeyValue { key: "huggingface".into(), value: Some(text.into()) }]);
        let properties = WriterProperties::builder().set_key_value_metadata(entries).build();
        let mut writer =
            SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let n = rows.len();
        let mut at = 0;
        while let Some(mut column) = group.next_column().unwrap() {
            match at {
                0 => {
                    let values: Vec<ByteArray> = rows.iter().map(|(value, _)| png(*value).into()).collect();
                    column.typed::<ByteArrayType>().write_batch(&values, Some(&vec![2; n]), None).unwrap();
                }
                1 => {
                    column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; n]), None).unwrap();
                }
                _ => {
                    let values: Vec<i64> = rows.iter().map(|(_, label)| *label).collect();
                    column.typed::<Int64Type>().write_batch(&values, Some(&vec![1; n]), None).unwrap();
                }
            }
            column.close().unwrap();
            at += 1;
        }
        group.close().unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn tables_of_the_hub_are_read_file_after_file() {
        let folder = tempfile::tempdir().unwrap();
        let names = r#"{"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}"#;
        let paths = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
            .map(|name| folder.path().join(name));
        table(&paths[0], &[(10, 1), (20, 0)], Some(names));
        table(&paths[1], &[(30, 1)], Some(names));
        let catalog = crate::Catalog::new(folder.path().join("none"), folder.path().join("none"));
        let source = crate::Source::open(folder.path().to_str().unwrap(), &catalog, Default::default());
        // A folder of manifests that does not exist is no hindrance.
        let source = source.unwrap();
        assert_eq!((source.format(), source.splits()), ("parquet", vec!["train"]));
        let data = source.read("train").unwrap();
        assert_eq!(
            (data.shape(), data.labels.clone(), data.classes.join(" ")),
            ((2, 3, 3), vec![1, 0, 1], "cat dog".into())
        );
        assert_eq!([0, 1, 2].map(|i| data.images[[i, 0, 0, 0]]), [10, 20, 30]);
        assert_eq!(labels(&paths).unwrap(), [1, 0, 1]);
    }

    const GOLDEN: &[u8] = include_bytes!("../tests/golden/hub.parquet");

    /// What pyarrow wrote, by hub.py beside the file.
    #[test]
    fn a_table_of_another_program_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.parquet");
        std::fs::write(&path, GOLDEN).unwrap();
        let names = classes(std::slice::from_ref(&path)).unwrap().unwrap();
        assert_eq!(names, ["cat", "dog", "eel"]);
        let data = read("hub", &[path], names, &Resizing::default()).unwrap();
        assert_eq!((data.shape(), &data.labels[..]), ((2, 3, 3), &[2, 0, 1, 2][..]));
        for ((i, row, column, channel), &level) in data.images.indexed_iter() {
            let expected = [10 * i + 3 * row + column, 100 + i, 200 - column][channel];
            assert_eq!(usize::from(level), expected, "picture {i}, row {row}, column {column}");
        }
    }

    proptest::proptest! {
        /// Bytes that are changed or cut off are an error or a table, never a panic.
        #[test]
        fn damaged_tables_are_refused(
            edits in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), proptest::prelude::any::<u8>()), 1..6),
            cut in proptest::prelude::any::<proptest::sample::Index>(),
        ) {
            let mut bytes = GOLDEN.to_vec();
            for (at, value) in edits {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            // One in eight is cut.
            if cut.index(8) == 0 {
                bytes.truncate(cut.index(bytes.len()));
            }
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("test.parquet");
            std::fs::write(&path, bytes).unwrap();
            let paths = [path];
            let _ = classes(&paths);
            if let Ok(labels) = labels(&paths) {
                proptest::prop_assert!(labels.len() <= 4096);
            }
            let names = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
            if let Ok(data) = read("hub", &paths, names, &Resizing::default()) {
                proptest::prop_assert_eq!(data.images.dim().0, data.labels.len());
            }
        }
    }

    #[test]
    fn classes_without_names_are_counted_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.parquet");
        table(&path, &[(10, 3)], None);
        assert_eq!(classes(std::slice::from_ref(&path)).unwrap(), None);
        let bytes = std::fs::read(&path).unwrap();
        for length in [4, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = labels(std::slice::from_ref(&path)).unwrap_err().to_string();
            assert!(error.contains("test.parquet: it cannot be read"), "{error}");
        }
    }
}
