//! What the report of a run says.

use std::collections::BTreeMap;
use std::fs;

use crate::world::reference;

/// The lines of `results.csv` of one table: fields by name.
fn cells(table: &str) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(reference().path("runs/tiny/report/results.csv")).unwrap();
    let mut lines = text.lines().map(fields);
    let names = lines.next().unwrap();
    let cell = |fields: Vec<String>| {
        assert_eq!(fields.len(), names.len(), "{fields:?}");
        names.iter().cloned().zip(fields).collect::<BTreeMap<_, _>>()
    };
    lines.map(cell).filter(|cell| cell["table"] == table).collect()
}

/// The fields of a line: commas part them where the quotation marks before are even in number. No name of this study
/// holds a quotation mark itself.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => fields.last_mut().unwrap().push(letter),
        }
    }
    fields
}

fn number(cell: &BTreeMap<String, String>, name: &str) -> f64 {
    cell[name].parse().unwrap_or_else(|_| panic!("{name} is no number in {cell:?}"))
}

#[test]
fn bound_and_certificates_hold_in_every_row_of_t5() {
    // Six families; the classes twice, their natural groups, four against the rest, ten random groupings, two numbers.
    for (table, tasks) in [("T5", 6), ("T5-tasks", 2 + 1 + 4 + 10 + 2)] {
        let (mut clean, mut rows) = (BTreeMap::new(), BTreeMap::<_, BTreeMap<String, f64>>::new());
        for cell in cells(table) {
            let mean = number(&cell, "mean");
            if cell["metric"] == "clean-loss" {
                assert_eq!(clean.insert(cell["row"].clone(), mean), None, "{cell:?}");
                continue;
            }
            let row = (cell["row"].clone(), cell["epsilon"].clone());
            assert_eq!(rows.entry(row).or_default().insert(cell["metric"].clone(), mean), None, "{cell:?}");
        }
        // Two methods, two radii.
        assert_eq!((clean.len(), rows.len()), (2 * tasks, 2 * tasks * 2), "{:?}", rows.keys());
        for (row, of) in rows {
            assert!(of["attacked-loss"] >= clean[&row.0] && clean[&row.0] > 0.0, "{row:?}: {of:?}");
            for above in ["bound", "certified-loss"] {
                assert!(of[above] >= of["attacked-loss"], "{row:?}: {of:?}");
            }
            let accuracies = ["certified-accuracy", "attacked-accuracy", "clean-accuracy"];
            let accuracies: Vec<f64> = accuracies.iter().filter_map(|name| of.get(*name).copied()).collect();
            assert!(accuracies.is_sorted() && [0, 3].contains(&accuracies.len()), "{row:?}: {of:?}");
        }
    }
}

#[test]
fn no_attack_of_t1_helps_the_classifier() {
    let mut rows: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for cell in cells("T1").iter().filter(|cell| cell["protocol"] == "linear") {
        let epsilon = if cell["attack"] == "none" { 0.0 } else { number(cell, "epsilon") };
        rows.entry(cell["row"].clone()).or_default().push((epsilon, number(cell, "mean")));
    }
    assert_eq!(rows.keys().collect::<Vec<_>>(), ["Plain", "TARR"]);
    for (row, levels) in rows {
        assert_eq!(levels.iter().map(|level| level.0).collect::<Vec<_>>(), [0.0, 0.05, 0.1], "{row}");
        assert!(levels.iter().all(|level| (0.0..=100.0).contains(&level.1)), "{row}: {levels:?}");
        assert!(levels.is_sorted_by(|weak, strong| weak.1 >= strong.1), "{row}: {levels:?}");
        // Patterns that differ this much are told apart even by a toy, or the head does not see the images.
        assert!(levels[0].1 > 50.0, "{row}: {levels:?}");
    }
}

#[test]
fn the_page_leads_with_a_figure_and_shows_images_of_the_method_that_it_is_about() {
    let page = fs::read_to_string(reference().path("runs/tiny/report/index.html")).unwrap();
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is not in the page"));
    let order = ["<h1>", "<svg", "class=\"claim\"", "id=\"T1\"", "id=\"examples\"", "id=\"provenance\""];
    assert!(order.map(at).is_sorted(), "{:?}", order.map(at));
    assert!(
        page[at("id=\"examples\"")..].contains("TARR: attacked"),
        "images of TARR, which has the regularizer"
    );
    assert!(page.contains("<tr role=\"row\" class=\"own\"><th scope=\"row\" role=\"rowheader\">TARR<"));
}

#[test]
fn the_page_loads_nothing_from_elsewhere() {
    let folder = reference().path("runs/tiny/report");
    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("data:image/"), "figures and images are inside the page");
    for loads in ["@import", "<link", "<script", "<iframe", "<object", "<embed", "srcset", "background="] {
        assert!(!page.contains(loads), "the page has `{loads}`");
    }
    let inside = |place: &str| {
        place.starts_with("data:")
            || place.strip_prefix('#').is_some_and(|id| page.contains(&format!("id=\"{id}\"")))
    };
    for place in values(&page, "src=\"", '"').into_iter().chain(values(&page, "url(", ')')) {
        assert!(inside(place), "the page loads {place}");
    }
    for place in values(&page, "href=\"", '"') {
        assert!(
            inside(place) || folder.join(place).is_file(),
            "the page refers to {place}, which is not there"
        );
    }
}

/// What stands between each `open` and the next `close`.
fn values<'a>(text: &'a str, open: &str, close: char) -> Vec<&'a str> {
    text.split(open).skip(1).map(|rest| rest.split(close).next().unwrap()).collect()
}
