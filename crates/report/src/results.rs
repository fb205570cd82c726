//! `results.csv` and `results.json`: one line per cell, for machines.

use serde::Serialize;

use crate::{Provenance, Report, Table, Value};

/// The columns of `results.csv`, in order.
pub const COLUMNS: [&str; 12] = [
    "table",
    "row",
    "column",
    "dataset",
    "protocol",
    "attack",
    "epsilon",
    "metric",
    "mean",
    "half_width",
    "n",
    "source",
];

/// `results.csv`: a header and one line per cell that has a value, quoted as RFC 4180 says but ended by LF.
///
/// Accuracies are in per cent and ε in pixels of [0, 1]; `source` is empty for our own figures,
/// `half_width` and `n` for those of others. Numbers have all their digits.
pub fn csv(report: &Report) -> String {
    csv_of(&report.tables)
}

/// The lines of one table, with the same header.
pub(crate) fn table_csv(table: &Table) -> String {
    csv_of(std::slice::from_ref(table))
}

fn csv_of(tables: &[Table]) -> String {
    let mut text = COLUMNS.join(",") + "\n";
    for record in records(tables) {
        let fields = [
            quoted(record.table),
            quoted(record.row),
            quoted(&record.column),
            quoted(record.dataset),
            quoted(record.protocol),
            quoted(record.attack),
            optional(record.epsilon),
            quoted(record.metric),
            record.mean.to_string(),
            optional(record.half_width),
            optional(record.n),
            quoted(record.source),
        ];
        text += &fields.join(",");
        text.push('\n');
    }
    text
}

/// `results.json`: the cells of `results.csv` under the same names (`null` where the CSV is empty), and the provenance.
pub fn json(report: &Report) -> String {
    #[derive(Serialize)]
    struct Results<'a> {
        title: &'a str,
        provenance: &'a Provenance,
        cells: Vec<Record<'a>>,
    }
    let results =
        Results { title: &report.title, provenance: &report.provenance, cells: records(&report.tables) };
    serde_json::to_string_pretty(&results).expect("strings and numbers have a JSON form") + "\n"
}

/// The cells of one table under the same names.
pub(crate) fn table_json(table: &Table) -> String {
    let cells = records(std::slice::from_ref(table));
    serde_json::to_string_pretty(&cells).expect("strings and numbers have a JSON form") + "\n"
}

/// One cell with everything that identifies it.
#[derive(Serialize)]
struct Record<'a> {
    table: &'a str,
    row: &'a str,
    column: String,
    dataset: &'a str,
    protocol: &'a str,
    attack: &'a str,
    epsilon: Option<f64>,
    metric: &'a str,
    mean: f64,
    half_width: Option<f64>,
    n: Option<usize>,
    #[serde(serialize_with = "null_if_empty")]
    source: &'a str,
}

fn records(tables: &[Table]) -> Vec<Record<'_>> {
    let mut records = Vec::new();
    for table in tables {
        for row in &table.rows {
            for (column, cell) in table.columns.iter().zip(&row.cells) {
                let Some(cell) = cell else { continue };
                let (mean, half_width, n, source) = match &cell.value {
                    Value::Measured(e) => (e.mean, e.half_width, Some(e.n), ""),
                    Value::Published(p) => (p.value, None, None, p.source.as_str()),
                };
                records.push(Record {
                    table: &table.id,
                    row: &row.label,
                    column: column.name(),
                    dataset: &cell.keys.dataset,
                    protocol: &cell.keys.protocol,
                    attack: &cell.keys.attack,
                    epsilon: cell.keys.epsilon,
                    metric: &cell.keys.metric,
                    mean,
                    half_width,
                    n,
                    source,
                });
            }
        }
    }
    records
}

fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) || field.trim() != field {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_string()
    }
}

fn optional(value: Option<impl ToString>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

fn null_if_empty<S: serde::Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    if text.is_empty() { serializer.serialize_none() } else { serializer.serialize_str(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Cell, Column, Estimate, Keys, Published};

    /// A reader of RFC 4180, written from the RFC and sharing nothing with the writer.
    fn parse(text: &str) -> Vec<Vec<String>> {
        let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
        let (mut inside, mut chars) = (false, text.chars().peekable());
        while let Some(c) = chars.next() {
            match (inside, c) {
                (true, '"') if chars.peek() == Some(&'"') => {
                    chars.next();
                    field.push('"');
                }
                (_, '"') => inside = !inside,
                (false, ',') => row.push(std::mem::take(&mut field)),
                (false, '\n') => {
                    row.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut row));
                }
                _ => field.push(c),
            }
        }
        assert!(!inside && row.is_empty() && field.is_empty(), "the file ends with a whole line");
        rows
    }

    fn report_of(label: &str, cells: Vec<Option<Cell>>) -> Report {
        let columns = (0..cells.len()).map(|i| Column { label: format!("c{i}"), ..Column::default() });
        let mut table = Table { id: "T1".into(), columns: columns.collect(), ..Table::default() };
        table.push_row(label, cells);
        Report { tables: vec![table], ..Report::default() }
    }

    proptest! {
        #[test]
        fn csv_gives_back_every_string_and_every_bit(
            strings in prop::array::uniform6(prop_oneof!["\\PC{0,12}", "[\",\r\n; a=]{0,8}"]),
            mean in -1e300f64..1e300,
            epsilon in prop::option::of(0.0f64..1.0),
            n in 1usize..9,
        ) {
            let [row, dataset, protocol, attack, metric, source] = strings;
            let keys = Keys { dataset, protocol, attack, epsilon, metric };
            let ours = Cell::measured(Estimate { mean, half_width: epsilon, n }, keys.clone());
            let theirs = Cell::published(Published { value: mean, source: source.clone() }, keys.clone());
            let rows = parse(&csv(&report_of(&row, vec![Some(ours), None, Some(theirs)])));
            prop_assert_eq!(rows.len(), 3);
            prop_assert_eq!(&rows[0], &COLUMNS.map(String::from).to_vec());
            let epsilon_text = epsilon.map(|e| e.to_string()).unwrap_or_default();
            for (line, tail) in rows[1..].iter().zip([
                [epsilon_text.clone(), n.to_string(), String::new()],
                [String::new(), String::new(), source],
            ]) {
                prop_assert_eq!(&line[1], &row);
                prop_assert_eq!(&line[3], &keys.dataset);
                prop_assert_eq!(&line[4], &keys.protocol);
                prop_assert_eq!(&line[5], &keys.attack);
                prop_assert_eq!(&line[6], &epsilon_text);
                prop_assert_eq!(&line[7], &keys.metric);
                prop_assert_eq!(line[8].parse::<f64>().unwrap().to_bits(), mean.to_bits());
                prop_assert_eq!(&line[9..], &tail);
            }
        }
    }

    #[test]
    fn csv_header_is_the_published_one() {
        assert_eq!(
            csv(&Report::default()),
            "table,row,column,dataset,protocol,attack,epsilon,metric,mean,half_width,n,source\n"
        );
    }

    #[test]
    fn json_holds_the_same_cells_and_the_provenance() {
        let keys = Keys { attack: "PGD-20".into(), epsilon: Some(0.1), ..Keys::default() };
        let cell = Cell::measured(Estimate { mean: 28.2, half_width: None, n: 1 }, keys);
        let mut report = report_of("TARR \"λ\"", vec![Some(cell)]);
        report.provenance.seeds = vec![7, u64::MAX];
        let value: serde_json::Value = serde_json::from_str(&json(&report)).unwrap();
        let cell = value["cells"][0].as_object().unwrap();
        let mut names: Vec<&str> = cell.keys().map(String::as_str).collect();
        let mut columns = COLUMNS.to_vec();
        names.sort_unstable();
        columns.sort_unstable();
        assert_eq!(names, columns);
        assert_eq!(cell["row"], "TARR \"λ\"");
        assert_eq!((&cell["mean"], &cell["epsilon"]), (&28.2.into(), &0.1.into()));
        assert!(cell["source"].is_null() && cell["half_width"].is_null());
        assert_eq!(value["provenance"]["seeds"][1], u64::MAX);
    }
}
