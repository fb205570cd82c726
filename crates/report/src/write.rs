//! Writes a report as files: HTML, Markdown, LaTeX, CSV, JSON and SVG.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Report, ReportError, check, latex, markdown, page, results, svg};

/// Writes `index.html`, `tables.md`, `tables.tex`, `results.csv`, `results.json` and `figures/<id>.svg` into `dir`.
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
        files.push((dir.join("figures").join(format!("{}.svg", figure.id)), svg::draw(figure)));
    }
    files.push((dir.join("tables.md"), markdown::tables(report)));
    files.push((dir.join("tables.tex"), latex::tables(report)));
    files.push((dir.join("results.csv"), results::csv(report)));
    files.push((dir.join("results.json"), results::json(report)));
    // The page comes last: when it is there, what it links to is there too.
    files.push((dir.join("index.html"), page(report)));

    let folder = dir.join("figures");
    fs::create_dir_all(&folder).map_err(|source| ReportError::Unwritable { path: folder, source })?;
    for (path, text) in &files {
        put(path, text).map_err(|source| ReportError::Unwritable { path: path.clone(), source })?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// Replaces the file at `path` in one step.
fn put(path: &Path, text: &str) -> io::Result<()> {
    // The process number keeps two writers apart.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell; what is left of the temporary file is only litter.
        let _ = fs::remove_file(&temporary);
    }
    written
}
