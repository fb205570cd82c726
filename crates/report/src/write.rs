//! Writes a report as files: HTML, Markdown, LaTeX, CSV, JSON and SVG.

use std::fs;
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

/// Replaces the file at `path` in one step; the temporary file has a name of its own and is removed after an error.
fn put(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    let prefix = format!(".report.{}-", std::process::id());
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are private by default; a report is as readable as any other file.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
