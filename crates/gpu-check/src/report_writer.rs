//! The report of a check as JSON and Markdown, written after every piece, so that a run that is cut off leaves what it found.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::progress::show;
use anyhow::Context;
use serde_json::{Map, Value, json};

/// The two files of a check, the same content for machines and for people.
pub(crate) struct ReportWriter<'a> {
    out: Option<&'a Path>,
    json: Map<String, Value>,
    table: String,
    failures: Vec<String>,
    end: Instant,
}

impl<'a> ReportWriter<'a> {
    /// Nothing is found yet, and nothing more is begun after `most`.
    pub(crate) fn new(out: Option<&'a Path>, heading: &str, most: Duration) -> Self {
        let end = Instant::now() + most;
        ReportWriter { out, json: Map::new(), table: format!("{heading}\n"), failures: Vec::new(), end }
    }

    /// The time that is left.
    pub(crate) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Puts down a value under a name, in the place of an earlier one.
    ///
    /// # Errors
    /// If the files cannot be written.
    pub(crate) fn put(&mut self, name: &str, value: Value) -> anyhow::Result<()> {
        self.json.insert(name.to_owned(), value);
        self.save()
    }

    /// Adds a value to the list of this name.
    ///
    /// # Errors
    /// If the files cannot be written.
    pub(crate) fn add(&mut self, name: &str, value: Value) -> anyhow::Result<()> {
        let list = self.json.entry(name).or_insert_with(|| json!([]));
        list.as_array_mut().expect("only `add` makes this entry").push(value);
        self.save()
    }

    /// Adds a line to the table, and shows it.
    pub(crate) fn line(&mut self, line: &str) {
        show!("   {line}");
        self.table += line;
        self.table.push('\n');
    }

    /// The milliseconds of the row whose name begins with `what`, if it was measured in this run.
    pub(crate) fn milliseconds(&self, what: &str) -> Option<f64> {
        let rows = self.json.get("rows")?.as_array()?;
        rows.iter().find(|row| row["what"].as_str().is_some_and(|name| name.starts_with(what)))?["ms"]
            .as_f64()
    }

    /// Notes what failed.
    pub(crate) fn fail(&mut self, failures: Vec<String>) {
        self.failures.extend(failures);
    }

    /// The end of a check that was not cut off.
    ///
    /// # Errors
    /// If a check failed, or the files cannot be written.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        let failures = std::mem::take(&mut self.failures);
        self.table.push('\n');
        for failure in &failures {
            self.line(&format!("- FAILED: {failure}"));
        }
        self.line(if failures.is_empty() { "Every check passed." } else { "See the failures above." });
        self.json.insert("failures".into(), json!(failures));
        self.put("complete", json!(true))?;
        anyhow::ensure!(failures.is_empty(), "{} checks failed; see above", failures.len());
        Ok(())
    }

    fn save(&self) -> anyhow::Result<()> {
        let Some(out) = self.out else { return Ok(()) };
        fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let json = serde_json::to_string_pretty(&self.json)?;
        for (name, text) in [("gpu-check.json", &json), ("gpu-check.md", &self.table)] {
            let path = out.join(name);
            tarrl_jobs::files::write_atomic(&path, text.as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_report_is_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = ReportWriter::new(Some(folder.path()), "# Heading", Duration::from_secs(9));
        report.line("| a | 1 |");
        report.add("rows", json!({"a": 1})).unwrap();
        drop(report);
        let json: Value =
            serde_json::from_str(&fs::read_to_string(folder.path().join("gpu-check.json")).unwrap()).unwrap();
        assert_eq!(json, json!({"rows": [{"a": 1}]}), "not complete");
        let table = fs::read_to_string(folder.path().join("gpu-check.md")).unwrap();
        assert_eq!(table, "# Heading\n| a | 1 |\n");
    }

    #[test]
    fn failures_are_written_and_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = ReportWriter::new(Some(folder.path()), "# Heading", Duration::ZERO);
        assert_eq!(report.left(), Duration::ZERO);
        report.fail(vec!["a sum is wrong".into()]);
        assert_eq!(report.finish().unwrap_err().to_string(), "1 checks failed; see above");
        let json = fs::read_to_string(folder.path().join("gpu-check.json")).unwrap();
        assert!(json.contains("a sum is wrong") && json.contains("\"complete\": true"), "{json}");
    }
}
