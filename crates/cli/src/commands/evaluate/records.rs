//! Records of an evaluation: the outcome of every image, under its place in the split, as CSV and JSON.

use std::path::Path;

use serde_json::{Map, Value, json};
use tarrl_jobs::files::{cannot_write, write_atomic};

use super::attacks::Attacked;
use super::page::Results;
use super::radius::radius;

/// Writes `images.csv` and `images.json` into a folder.
///
/// # Errors
/// Fails if a file cannot be written.
pub(super) fn write(results: &Results<'_>, folder: &Path) -> anyhow::Result<()> {
    let records = records(results);
    let place = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        write_atomic(&path, bytes).map_err(|error| cannot_write(&path, "--out DIR", error))
    };
    place("images.json", &serde_json::to_vec_pretty(&records)?)?;
    place("images.csv", csv(&records).as_bytes())
}

/// One object for each test image: attacked ones have more entries.
fn records(results: &Results<'_>) -> Vec<Map<String, Value>> {
    let subject = results.subject;
    let certified = super::certificates::places(subject);
    let record = |index: usize| {
        let mut record = Map::new();
        let mut put = |name: String, value: Value| {
            record.insert(name, value);
        };
        put("index".into(), json!(index));
        put("label".into(), json!(subject.test.labels[index]));
        put("correct".into(), json!(results.clean.correct.0[index]));
        if let Some(neighbors) = &results.clean.neighbors {
            put("neighbors_correct".into(), json!(neighbors.0[index]));
        }
        if let Ok(row) = subject.indices.binary_search(&index) {
            let mut attacked = |name: &str, found: &[Attacked]| {
                for at in found {
                    let outcome = &at.images[row];
                    let epsilon = radius(at.epsilon);
                    let by = outcome
                        .origin
                        .as_ref()
                        .filter(|_| outcome.broken)
                        .map(|origin| origin.attack.clone());
                    put(format!("{name}_{epsilon}_robust"), json!(!outcome.broken));
                    put(format!("{name}_{epsilon}_broken_by"), json!(by));
                    put(format!("{name}_{epsilon}_margin"), json!(outcome.margin));
                }
            };
            attacked("pgd", &results.pgd);
            attacked("autoattack", &results.autoattack);
            let nearest = &results.nearest.images[row];
            put("nearest_distance".into(), json!(nearest.distance));
            put("nearest_found_by".into(), json!(nearest.found_by));
            put("nearest_passes".into(), json!(nearest.forward + nearest.backward));
            for at in &results.displaced {
                put(format!("displacement_{}", radius(at.epsilon)), json!(at.reached[row]));
            }
        }
        if let Ok(row) = certified.binary_search(&index) {
            let distances = &results.distances.images[row];
            put("certified_radius".into(), json!(distances.mistake.certified));
            put("moved_distance".into(), json!(distances.moved.found));
            put("moved_certified_radius".into(), json!(distances.moved.certified));
            for level in &results.certified.levels {
                let name = format!("certified_displacement_{}", radius(level.bound.epsilon));
                put(name, json!(level.displacement[row]));
            }
        }
        record
    };
    (0..subject.test.len()).map(record).collect()
}

/// The records as a table whose columns are all entries of any record; what a record lacks is empty.
fn csv(records: &[Map<String, Value>]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for record in records {
        for name in record.keys() {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
    }
    let first = ["index", "label", "correct"];
    columns.sort_by_key(|name| (first.iter().position(|known| known == name).unwrap_or(first.len()), *name));
    let mut text = columns.join(",") + "\n";
    for record in records {
        let cell = |name: &&str| match record.get(*name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        text += &columns.iter().map(cell).collect::<Vec<_>>().join(",");
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_every_column_and_empty_cells_for_what_is_missing() {
        let records = [
            json!({"index": 0, "label": 3, "correct": true, "zeta": 1.5}),
            json!({"index": 1, "label": 2, "correct": false, "alpha": null, "by": "apgd-ce"}),
        ];
        let records: Vec<Map<String, Value>> =
            records.into_iter().map(|record| record.as_object().unwrap().clone()).collect();
        assert_eq!(csv(&records), "index,label,correct,alpha,by,zeta\n0,3,true,,,1.5\n1,2,false,,apgd-ce,\n");
    }
}
