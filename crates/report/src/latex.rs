//! Tables as LaTeX for `\input` into a paper; they need the package `booktabs` and nothing else.

use crate::{Cell, Report, Table, Value};

/// `tables.tex`: every table as a float with caption and label `tab:<id>`.
pub fn tables(report: &Report) -> String {
    let mut text = String::from("% \\usepackage{booktabs}\n");
    for item in report.tables.iter().filter(|table| !table.folded) {
        text.push('\n');
        text += &table(item);
    }
    text
}

/// One table as a float; the best of a column is bold, sources of published figures stand below.
pub fn table(table: &Table) -> String {
    let sources = table.sources();
    let mut text = String::from("\\begin{table}\n\\centering\n");
    text += &format!("\\caption{{{}. {}}}\n", escape(&table.title), escape(&table.caption));
    text += &format!("\\label{{tab:{}}}\n", table.id);
    text += &format!("\\begin{{tabular}}{{l{}}}\n\\toprule\n", "r".repeat(table.columns.len()));
    text += &group_line(table);
    let labels = table.columns.iter().map(|column| escape(&column.label));
    text += &line(std::iter::once(escape(&table.stub)).chain(labels));
    text += "\\midrule\n";
    for (r, row) in table.rows.iter().enumerate() {
        table.assert_width(row);
        let cells = row.cells.iter().enumerate().map(|(c, cell)| match cell {
            None => "--".to_string(),
            Some(cell) => entry(cell, table.columns[c].decimals, table.is_best(r, c), &sources),
        });
        text += &line(std::iter::once(escape(&row.label)).chain(cells));
    }
    text += "\\bottomrule\n\\end{tabular}\n";
    let sources = sources.iter().enumerate().map(|(i, s)| format!("$^{{{}}}$\\,{}", i + 1, escape(s)));
    let remarks: Vec<String> = table.remarks().iter().map(|r| escape(r)).chain(sources).collect();
    if !remarks.is_empty() {
        text += &format!("\\par\\smallskip\n{{\\footnotesize {}}}\n", remarks.join(" "));
    }
    text + "\\end{table}\n"
}

fn group_line(table: &Table) -> String {
    let groups = table.groups();
    if groups.iter().all(|(name, _)| name.is_empty()) {
        return String::new();
    }
    let (mut heads, mut rules, mut from) = (vec![String::new()], String::new(), 2);
    for (name, width) in groups {
        let to = from + width - 1;
        if name.is_empty() {
            heads.extend(std::iter::repeat_n(String::new(), width));
        } else {
            heads.push(format!("\\multicolumn{{{width}}}{{c}}{{{}}}", escape(name)));
            rules += &format!("\\cmidrule(lr){{{from}-{to}}}");
        }
        from = to + 1;
    }
    line(heads.into_iter()) + &rules + "\n"
}

fn line(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(" & ") + " \\\\\n"
}

fn entry(cell: &Cell, decimals: usize, best: bool, sources: &[&str]) -> String {
    let (mean, half_width) = cell.digits(decimals);
    let mean = mean.strip_prefix('-').map_or(mean.clone(), |digits| format!("$-${digits}"));
    let mean = if best { format!("\\textbf{{{mean}}}") } else { mean };
    let mark = match &cell.value {
        Value::Measured(_) => String::new(),
        Value::Published(published) => {
            let index = sources.iter().position(|s| *s == published.source).expect("sources() lists it");
            format!("$^{{{}}}$", index + 1)
        }
    };
    half_width.map_or(format!("{mean}{mark}"), |half| format!("{mean} $\\pm$ {half}{mark}"))
}

/// Text that LaTeX sets as it stands.
///
/// Brackets and stars are braced because `\\` before them would read them as its argument,
/// and a hyphen after a hyphen is kept from becoming a dash.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out += "\\textbackslash{}",
            '{' | '}' | '$' | '&' | '#' | '_' | '%' => out.extend(['\\', c]),
            '^' => out += "\\textasciicircum{}",
            '~' => out += "\\textasciitilde{}",
            '`' => out += "\\textasciigrave{}",
            '<' => out += "\\textless{}",
            '>' => out += "\\textgreater{}",
            '|' => out += "\\textbar{}",
            '"' => out += "{''}",
            '[' | ']' | '*' => out.extend(['{', c, '}']),
            '-' if out.ends_with('-') => out += "{}-",
            c => match symbol(c) {
                Some(command) => out += command,
                None if c.is_control() => out.push(' '),
                None => out.push(c),
            },
        }
    }
    out
}

/// The letters and signs of this field that plain pdfLaTeX does not know as characters.
fn symbol(c: char) -> Option<&'static str> {
    Some(match c {
        'α' => "$\\alpha$",
        'β' => "$\\beta$",
        'γ' => "$\\gamma$",
        'δ' => "$\\delta$",
        'ε' => "$\\varepsilon$",
        'λ' => "$\\lambda$",
        'μ' => "$\\mu$",
        'σ' => "$\\sigma$",
        'τ' => "$\\tau$",
        '±' => "$\\pm$",
        '×' => "$\\times$",
        '·' => "$\\cdot$",
        '∘' => "$\\circ$",
        '≤' => "$\\le$",
        '≥' => "$\\ge$",
        '∞' => "$\\infty$",
        '→' => "$\\to$",
        '‖' => "$\\|$",
        '′' => "$'$",
        '²' => "$^2$",
        '₂' => "$_2$",
        '−' => "$-$",
        '–' => "--",
        '—' => "---",
        '…' => "\\dots{}",
        '\u{a0}' => "~",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Best, Column, Estimate, Keys, Published};

    #[test]
    fn a_table_has_groups_rules_bold_and_sources() {
        let column = |group: &str, label: &str| Column {
            group: group.into(),
            label: label.into(),
            best: Some(Best::Lowest),
            decimals: 2,
            page: None,
        };
        let mut table = Table { id: "T5".into(), title: "Bound".into(), ..Table::default() };
        table.caption = "Does it hold?".into();
        table.columns = vec![column("", "clean"), column("ε", "0.1"), column("ε", "0.2")];
        let ours = |mean| {
            let estimate = Estimate { mean, half_width: Some(0.25), n: 2 };
            Some(Cell::measured(estimate, Keys::default()))
        };
        let theirs = Published { value: -1.0, source: "R&D".into() };
        table.push_row("[a]", vec![ours(1.0), None, Some(Cell::published(theirs, Keys::default()))]);
        table.push_row("50 %", vec![ours(2.0), ours(3.0), None]);
        let want = r"\begin{table}
\centering
\caption{Bound. Does it hold?}
\label{tab:T5}
\begin{tabular}{lrrr}
\toprule
 &  & \multicolumn{2}{c}{$\varepsilon$} \\
\cmidrule(lr){3-4}
 & clean & 0.1 & 0.2 \\
\midrule
{[}a{]} & \textbf{1.00} $\pm$ 0.25 & -- & $-$1.00$^{1}$ \\
50 \% & 2.00 $\pm$ 0.25 & 3.00 $\pm$ 0.25 & -- \\
\bottomrule
\end{tabular}
\par\smallskip
{\footnotesize Mean $\pm$ half-width of the 95 \% interval; n = 2. $^{1}$\,R\&D}
\end{table}
";
        assert_eq!(super::table(&table), want);
    }

    #[test]
    fn each_special_sign_is_set_as_itself() {
        assert_eq!(
            escape(r"\input{x} 5% a_b $1 #2 a&b ~^"),
            concat!(
                r"\textbackslash{}input\{x\} 5\% a\_b \$1 \#2 a\&b ",
                r"\textasciitilde{}\textasciicircum{}",
            )
        );
        assert_eq!(escape("--only *x\n"), "-{}-only {*}x ");
    }

    proptest! {
        /// Without the commands that we write, nothing of LaTeX is left, and the braces balance.
        #[test]
        fn nothing_active_survives(text in "[\\\\{}$&#_%^~<>|\"\\[\\]*a-]{0,24}") {
            let out = escape(&text);
            let mut depth = 0i32;
            let mut chars = out.chars();
            while let Some(c) = chars.next() {
                match c {
                    '\\' => {
                        let next = chars.next().unwrap();
                        prop_assert!("{}$&#_%t".contains(next), "command \\{}", next);
                    }
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    '$' | '&' | '#' | '_' | '%' | '^' | '~' => prop_assert!(false, "bare {c} in {out}"),
                    _ => {}
                }
                prop_assert!(depth >= 0);
            }
            prop_assert_eq!(depth, 0);
        }
    }
}
