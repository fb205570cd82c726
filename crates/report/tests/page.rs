//! The page's structure: what comes first, what fits the screen, what those hear who do not see it.

mod demo;

use tarrl_report::{Cell, Column, Estimate, Heading, Keys, Report, Table, page};

/// Where the first of `text` stands in the page.
fn at(html: &str, text: &str) -> usize {
    html.find(text).unwrap_or_else(|| panic!("{text} is not in the page"))
}

/// The tags of an element, from `<name` to `>`.
fn tags<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let open = |rest: &&str| rest.starts_with([' ', '>']);
    html.split(&format!("<{name}")).skip(1).filter(open).map(|rest| rest.split('>').next().unwrap()).collect()
}

#[test]
fn the_figure_leads_then_the_claim_the_tables_other_figures_images_and_details() {
    let mut report = demo::report("");
    report.tables[1].detail = true;
    let html = page(&report);
    let order = [
        "<h1>",
        "id=\"F1\"",
        "class=\"claim\"",
        "id=\"T1\"",
        "id=\"F2\"",
        "id=\"F3\"",
        "id=\"F4\"",
        "id=\"T5\"",
    ];
    let places: Vec<usize> = order.iter().map(|text| at(&html, text)).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(at(&html, "id=\"T5\"") < at(&html, "id=\"provenance\""));
    assert!(at(&html, "<svg") < at(&html, "<table"));
    // Before the claim there is no paragraph: title and figure alone.
    let claim = at(&html, "<p class=\"claim\"");
    assert!(!html[..claim].contains("<p ") && !html[..claim].contains("<p>"));
}

#[test]
fn a_report_without_figures_begins_with_its_claim() {
    let html = page(&Report { figures: Vec::new(), ..demo::report("") });
    assert!(at(&html, "class=\"claim\"") < at(&html, "<table"));
}

#[test]
fn every_table_has_a_caption_and_every_heading_a_scope() {
    let html = page(&demo::report(""));
    for table in html.split("<table").skip(1) {
        let table = table.split("</table>").next().unwrap();
        assert_eq!(tags(table, "caption").len(), 1, "{table:.80}");
        assert!(table.split('>').nth(1).unwrap().starts_with("<caption"), "the caption comes first");
        assert!(tags(table, "th").iter().all(|tag| tag.contains(" scope=\"")), "{table:.80}");
    }
    assert!(tags(&html, "img").iter().all(|tag| tag.contains(" alt=\"") && !tag.contains("alt=\"\"")));
    assert!(
        tags(&html, "svg")
            .iter()
            .all(|tag| tag.contains("role=\"img\"") && tag.contains("aria-labelledby=\"F"))
    );
    assert_eq!(tags(&html, "input").len(), html.matches("<label for=").count());
}

#[test]
fn our_own_method_is_emphasized_in_tables_and_figures_and_no_other_is() {
    let html = page(&demo::report(""));
    assert_eq!(
        html.matches("<tr role=\"row\" class=\"own\"><th scope=\"row\" role=\"rowheader\">TARR, λ = 8</th>")
            .count(),
        1
    );
    assert_eq!(html.matches("<tr role=\"row\" class=\"own\"").count(), 1);
    assert!(
        html.contains("<g class=\"own\">")
            && html.contains("class=\"strong\" x=\"32\" y=\"14\">TARR, λ = 8<")
    );
    let html = page(&Report { subject: String::new(), ..demo::report("") });
    assert!(!html.contains("class=\"own\""));
}

#[test]
fn each_table_links_to_its_numbers() {
    let html = page(&demo::report(""));
    for file in [
        "tables/T1.csv",
        "tables/T1.json",
        "tables/T5.csv",
        "tables/T5.json",
        "figures/F1.svg",
        "results.csv",
    ] {
        assert!(html.contains(&format!("href=\"{file}\"")), "{file}");
    }
}

/// `groups` column groups of `columns` each, with numbers of eight digits.
fn wide_table(groups: usize, columns: usize) -> Table {
    let column = |i: usize| Column {
        group: format!("ε = {}", i / columns),
        label: format!("measurement {}", i % columns),
        ..Column::default()
    };
    let mut table = Table { id: "W".into(), title: "Wide".into(), ..Table::default() };
    table.columns = (0..groups * columns).map(column).collect();
    let estimate = Estimate { mean: 123_456.7, half_width: Some(8.9), n: 3 };
    let cell = || Some(Cell::measured(estimate, Keys::default()));
    table.push_row("a method", (0..groups * columns).map(|_| cell()).collect());
    table
}

/// The checkboxes of the column groups, in order: whether each is open.
fn open_groups(table: Table) -> (Vec<bool>, bool) {
    let html = page(&Report { tables: vec![table], ..Report::default() });
    (
        tags(&html, "input").iter().map(|tag| tag.contains(" checked")).collect(),
        html.contains("class=\"table cards\""),
    )
}

#[test]
fn column_groups_that_do_not_fit_start_closed_and_a_group_that_cannot_fit_is_set_as_cards() {
    // A column needs at least the eleven letters of "measurement": more than 60 pixels and less than 140.
    assert_eq!(open_groups(wide_table(2, 3)), (vec![true, true], false));
    assert_eq!(open_groups(wide_table(4, 6)), (vec![true, false, false, false], false));
    let (open, cards) = open_groups(wide_table(2, 20));
    assert!(open[0] && cards);
    assert_eq!(open_groups(wide_table(1, 3)), (vec![], false), "one group needs no switch");
}

#[test]
fn rows_of_other_groups_start_closed_under_their_name() {
    let html = page(&demo::report(""));
    let section = &html[at(&html, "id=\"T5\"")..];
    let section = section.split("</section>").next().unwrap();
    assert_eq!(section.matches("<table").count(), 2);
    assert!(at(section, "<b>classes</b>") < at(section, "<details><summary>others</summary><table"));
}

#[test]
fn headings_of_the_page_leave_the_files_as_they_are() {
    let plain = demo::report("");
    let mut moved = plain.clone();
    for (i, column) in moved.tables[0].columns.iter_mut().enumerate() {
        column.page = Some(Heading { group: format!("ε {}", i % 2), label: format!("column {i}") });
    }
    assert!(page(&moved).contains(">ε 1</label>") && page(&moved).contains(">column 3</th>"));
    assert_eq!(tarrl_report::results::csv(&moved), tarrl_report::results::csv(&plain));
    assert_eq!(tarrl_report::markdown::tables(&moved), tarrl_report::markdown::tables(&plain));
    assert_eq!(tarrl_report::latex::tables(&moved), tarrl_report::latex::tables(&plain));
}
