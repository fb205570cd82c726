//! Writes a report as files: HTML, Markdown, LaTeX, CSV, JSON and SVG.

use std::fs;
use std::path::{Path, PathBuf};

use tarrl_files::{try_write, write_atomic};

use crate::{Report, ReportError, check, latex, markdown, page, results, svg};

/// Makes sure, before any work, that [`write()`] can write into `dir`, which is made if need be.
///
/// # Errors
/// The file or folder that could not be written.
pub fn prepare(dir: &Path) -> Result<(), ReportError> {
    let [figures, tables] = folders(dir)?;
    for folder in [dir, &figures, &tables] {
        let path = folder.join("index.html");
        try_write(&path).map_err(|source| ReportError::Unwritable { path, source })?;
    }
    Ok(())
}

/// Writes `index.html`, `tables.md`, `tables.tex`, `results.csv`, `results.json`, `tables/<id>.csv`, `tables/<id>.json` and
/// `figures/<id>.svg` into `dir`.
///
/// The folder is made if need be. Each file is written under a temporary name, synced and renamed, so that a reader
/// sees the old file or the new one and never half of one. Returns the paths in the order written.
///
/// # Errors
/// What [`check()`] refuses, before anything is written; or the file or folder that could not be written.
pub fn write(report: &Report, dir: &Path) -> Result<Vec<PathBuf>, ReportError> {
    check(report)?;
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for figure in &report.figures {
        files.push((
            dir.join("figures").join(format!("{}.svg", figure.id)),
            svg::draw(figure, &report.subject),
        ));
    }
    for table in &report.tables {
        files.push((dir.join("tables").join(format!("{}.csv", table.id)), results::table_csv(table)));
        files.push((dir.join("tables").join(format!("{}.json", table.id)), results::table_json(table)));
    }
    files.push((dir.join("tables.md"), markdown::tables(report)));
    files.push((dir.join("tables.tex"), latex::tables(report)));
    files.push((dir.join("results.csv"), results::csv(report)));
    files.push((dir.join("results.json"), results::json(report)));
    // The page comes last: when it is there, what it links to is there too.
    files.push((dir.join("index.html"), page(report)));

    folders(dir)?;
    for (path, text) in &files {
        write_atomic(path, text.as_bytes())
            .map_err(|source| ReportError::Unwritable { path: path.clone(), source })?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// The folders of figures and of tables, which are made if need be.
fn folders(dir: &Path) -> Result<[PathBuf; 2], ReportError> {
    let folders = ["figures", "tables"].map(|name| dir.join(name));
    for path in &folders {
        fs::create_dir_all(path).map_err(|source| ReportError::Unwritable { path: path.clone(), source })?;
    }
    Ok(folders)
}
