//! The report as a whole: every file, the same bytes, hostile words, folders that cannot be written.

mod demo;

use std::fs;

use tarrl_report::{ReportError, Value, page, svg, write};

const FILES: [&str; 13] = [
    "figures/F1.svg",
    "figures/F2.svg",
    "figures/F3.svg",
    "figures/F4.svg",
    "tables/T1.csv",
    "tables/T1.json",
    "tables/T5.csv",
    "tables/T5.json",
    "tables.md",
    "tables.tex",
    "results.csv",
    "results.json",
    "index.html",
];

/// Ends every kind of quote, comment, tag and raw text, and holds characters that XML forbids.
const HOSTILE: &str =
    " \"'><script>alert(1)</script><!-- ]]> &amp; </style></svg> \u{0}\u{8}\u{ffff} x\" onload=\"y";

#[test]
fn every_file_is_written_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("runs/smoke/report");
    let paths = write(&demo::report(""), &dir).unwrap();
    assert_eq!(paths, FILES.map(|file| dir.join(file)));
    assert!(paths.iter().all(|path| fs::metadata(path).unwrap().len() > 0));
    let count = |dir: &std::path::Path| fs::read_dir(dir).unwrap().count();
    let counts = (count(&dir), count(&dir.join("figures")), count(&dir.join("tables")));
    assert_eq!(counts, (7, 4, 4), "temporary files remain");
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap();
    let (all, one, other) = (read("results.csv"), read("tables/T1.csv"), read("tables/T5.csv"));
    let header = all.lines().next().unwrap();
    assert_eq!(one + other.strip_prefix(header).unwrap().trim_start(), all);
}

#[test]
fn a_folded_table_is_closed_on_the_page_and_whole_in_the_results() {
    let mut report = demo::report("");
    let rows = report.tables[0].rows.len();
    let open = (tarrl_report::markdown::tables(&report), tarrl_report::page(&report));
    report.tables[0].folded = true;
    let closed = (tarrl_report::markdown::tables(&report), tarrl_report::page(&report));
    let heading = format!("## {}. ", report.tables[0].id);
    assert!(open.0.contains(&heading) && !closed.0.contains(&heading));
    let summary = format!("<summary>All {rows} rows</summary>");
    assert!(!open.1.contains(&summary) && closed.1.contains(&summary));
}

#[test]
fn a_report_gives_the_same_bytes_again_and_over_old_files() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(&demo::report(" of old"), second.path()).unwrap();
    write(&demo::report(""), first.path()).unwrap();
    write(&demo::report(""), second.path()).unwrap();
    for file in FILES {
        let read = |dir: &tempfile::TempDir| fs::read(dir.path().join(file)).unwrap();
        assert_eq!(read(&first), read(&second), "{file}");
    }
}

#[test]
fn a_refused_report_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    write(&demo::report(""), folder.path()).unwrap();
    let old = fs::read(folder.path().join("index.html")).unwrap();
    let mut report = demo::report("");
    let cell = report.tables[0].rows[2].cells[1].as_mut().unwrap();
    let Value::Measured(estimate) = &mut cell.value else { unreachable!("the cell is ours") };
    estimate.mean = f64::NAN;
    let message = write(&report, folder.path()).unwrap_err().to_string();
    let want = "table T1, row \"TARR, λ = 8\", column \"PGD-20 ε = 0.05\": mean is NaN";
    assert!(message.starts_with(want), "{message}");
    assert_eq!(fs::read(folder.path().join("index.html")).unwrap(), old);
}

#[test]
fn a_folder_that_cannot_be_written_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    // A file where a folder should be stops every user, the administrator too.
    let file = folder.path().join("results");
    fs::write(&file, "not a folder").unwrap();
    let error = write(&demo::report(""), &file.join("report")).unwrap_err();
    assert!(matches!(error, ReportError::Unwritable { .. }));
    let message = error.to_string();
    assert!(message.contains(file.join("report").to_str().unwrap()), "{message}");
    assert!(message.contains("choose a folder that you may write to"), "{message}");

    // A folder where a file should be: the file is named, and no temporary file is left.
    let dir = folder.path().join("report");
    fs::create_dir_all(dir.join("results.csv/occupied")).unwrap();
    let message = write(&demo::report(""), &dir).unwrap_err().to_string();
    assert!(message.contains(dir.join("results.csv").to_str().unwrap()), "{message}");
    let names = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.ends_with(".tmp")));
}

#[test]
fn svg_is_well_formed_whatever_the_words() {
    for tail in ["", HOSTILE] {
        for figure in &demo::report(tail).figures {
            let names = well_formed(&svg::draw(figure, ""));
            for name in names {
                let known =
                    ["svg", "title", "desc", "style", "rect", "g", "path", "text", "clipPath", "image"];
                assert!(known.contains(&name.as_str()), "{}: element {name}", figure.id);
            }
        }
    }
}

#[test]
fn hostile_words_do_not_leave_their_place_in_the_page() {
    let (plain, hostile) = (page(&demo::report("")), page(&demo::report(HOSTILE)));
    let tags = |html: &str| html.matches('<').count();
    // Long legends and headings are cut and get a tool tip each, and long labels of points find no place on the plot; apart
    // from those the elements are the same.
    let fixed = |html: &str| {
        tags(html)
            - 2 * html.matches("<title>").count()
            - 2 * html.matches("<text class=\"note halo\"").count()
    };
    assert_eq!(fixed(&plain), fixed(&hostile));
    for bad in ["<script", "<!--", "\" onload", "\0", "\u{8}"] {
        assert!(!hostile.contains(bad), "{bad:?} in the page");
    }
    assert!(hostile.contains("&lt;script&gt;alert(1)"));
}

#[test]
fn the_page_asks_for_nothing_outside_itself() {
    let html = page(&demo::report(""));
    for outside in ["<script", "<link", "<iframe", "@import", "url(http", "href=\"http"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert_eq!(html.matches("src=\"data:image/png;base64,").count(), 8);
    assert_eq!(html.matches("src=").count(), 8);
    for id in ["T1", "T5", "F1", "F2", "F3", "F4", "provenance"] {
        assert_eq!(html.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
        assert!(html.contains(&format!("href=\"#{id}\"")));
    }
    let mut ids: Vec<&str> =
        html.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "an id occurs twice");
}

/// Reads `text` as XML 1.0 without declarations and returns its element names; panics where it is not well formed.
fn well_formed(text: &str) -> Vec<String> {
    let (mut names, mut open, mut rest) = (Vec::new(), Vec::new(), text.trim_end());
    while !rest.is_empty() {
        let Some(inner) = rest.strip_prefix('<') else {
            let end = rest.find('<').unwrap_or(rest.len());
            assert!(!open.is_empty(), "text outside the root: {rest:.40}");
            check_text(&rest[..end]);
            rest = &rest[end..];
            continue;
        };
        let end = inner.find('>').expect("the tag ends");
        let tag = &inner[..end];
        rest = &inner[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closing tag");
            continue;
        }
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let mut seen = Vec::new();
        while !attributes.is_empty() {
            let (key, value) = attributes.split_once("=\"").expect("an attribute has a quoted value");
            let (value, tail) = value.split_once('"').expect("the quote ends");
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
            assert!(!key.is_empty() && key.chars().all(legal) && !seen.contains(&key), "attribute {key:?}");
            check_text(value);
            seen.push(key);
            attributes = tail.trim_start();
        }
        names.push(name.to_string());
        open.push(name.to_string());
    }
    assert!(open.is_empty(), "left open: {open:?}");
    names
}

fn check_text(text: &str) {
    for (i, c) in text.char_indices() {
        assert!(c >= ' ' || "\t\n\r".contains(c), "control character {c:?}");
        assert!(c != '\u{fffe}' && c != '\u{ffff}' && c != '<');
        if c == '&' {
            let known = ["&amp;", "&lt;", "&gt;", "&quot;"];
            assert!(known.iter().any(|entity| text[i..].starts_with(entity)), "bare & in {text:?}");
        }
    }
}
