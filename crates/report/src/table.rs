//! Tables as data: labeled rows, grouped columns, cells with their keys.

/// A table: the answer to one question.
///
/// `columns` has length `c`, and each of the `r` rows has `c` cells.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Short name such as "T1": letters, digits, '-' and '_'.
    pub id: String,
    /// Heading.
    pub title: String,
    /// The question that the table answers.
    pub caption: String,
    /// Heading of the column of row labels, such as "method".
    pub stub: String,
    /// Columns from left to right; neighbors with the same group share a heading.
    pub columns: Vec<Column>,
    /// Rows from top to bottom.
    pub rows: Vec<Row>,
    /// Remarks set below the table.
    pub notes: Vec<String>,
    /// Whether it starts closed on the page, and is left to the result files where nothing can be closed.
    pub folded: bool,
    /// Whether the page sets it at its end, among the details, such as what the computation took.
    pub detail: bool,
}

/// Where a row or column stands on the page, and what it is called there, if not as in the files.
///
/// The page gathers rows and columns of one group: rows in a table of their own, columns under a heading that can be closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heading {
    /// Shared with others, such as "ε = 0.1"; may be empty.
    pub group: String,
    /// Its own.
    pub label: String,
}

/// A row and its cells, one per column; `None` is shown as "–".
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Label, unique in the table.
    pub label: String,
    /// Cells, one per column.
    pub cells: Vec<Option<Cell>>,
    /// Group and label on the page; no group and the label above without it.
    pub page: Option<Heading>,
}

/// How a column is headed and set.
#[derive(Clone, Debug)]
pub struct Column {
    /// Heading shared with neighbors, such as "PGD-20"; may be empty.
    pub group: String,
    /// Heading of this column, such as "ε = 0.1".
    pub label: String,
    /// Which cell is emphasized, if any. Published figures are never emphasized.
    pub best: Option<Best>,
    /// Digits after the point.
    pub decimals: usize,
    /// Group and label on the page; those above without it.
    pub page: Option<Heading>,
}

/// Which end of a column is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Best {
    /// Larger is better: accuracies.
    Highest,
    /// Smaller is better: losses, times.
    Lowest,
}

/// One figure of a table and the keys under which `results.csv` files it.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The figure.
    pub value: Value,
    /// What was measured.
    pub keys: Keys,
}

/// A figure of ours or of others. The two never share a column.
#[derive(Clone, Debug)]
pub enum Value {
    /// Measured here.
    Measured(Estimate),
    /// Taken from a publication.
    Published(Published),
}

/// A mean over `n` repetitions with the half-width of its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The mean; accuracies in per cent.
    pub mean: f64,
    /// Half-width in the unit of the mean; `None` where there is no interval.
    pub half_width: Option<f64>,
    /// Number of repetitions, at least 1: seeds, or the samples of one seed. A note of the table says which.
    pub n: usize,
}

/// A figure that others reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Published {
    /// The figure; accuracies in per cent.
    pub value: f64,
    /// Where it stands, such as "Chen et al. 2020, table 1".
    pub source: String,
}

/// What a cell is about. Empty strings where a key does not apply.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keys {
    /// Dataset or task.
    pub dataset: String,
    /// How the head was trained.
    pub protocol: String,
    /// The attack; "none" for clean data.
    pub attack: String,
    /// Radius ε of the attack in pixels of [0, 1].
    pub epsilon: Option<f64>,
    /// What the figure is, such as "accuracy".
    pub metric: String,
}

impl Table {
    /// Appends a row.
    ///
    /// # Panics
    /// If there is not one cell (or `None`) per column.
    #[track_caller]
    pub fn push_row(&mut self, label: impl Into<String>, cells: Vec<Option<Cell>>) {
        let row = Row { label: label.into(), cells, page: None };
        self.assert_width(&row);
        self.rows.push(row);
    }

    #[track_caller]
    pub(crate) fn assert_width(&self, row: &Row) {
        let (got, want) = (row.cells.len(), self.columns.len());
        assert!(got == want, "table {}, row {:?}: {got} cells for {want} columns", self.id, row.label);
    }

    /// Whether the cell at (`row`, `column`) is the best of its column, as far as the printed digits tell.
    ///
    /// Ties are all best; a column with fewer than two measured cells, or with the same in all, has no best.
    pub fn is_best(&self, row: usize, column: usize) -> bool {
        let head = &self.columns[column];
        let (Some(best), Some(own)) = (head.best, self.measured(row, column)) else { return false };
        let others: Vec<f64> = (0..self.rows.len()).filter_map(|r| self.measured(r, column)).collect();
        let better = |a: f64, b: f64| if best == Best::Highest { a.max(b) } else { a.min(b) };
        let top = others.iter().copied().reduce(better).expect("the cell itself is among them");
        let top = number(top, head.decimals);
        number(own, head.decimals) == top && others.iter().any(|&other| number(other, head.decimals) != top)
    }

    /// The smallest and largest number of repetitions behind the measured cells, if there are any.
    pub(crate) fn repetitions(&self) -> Option<(usize, usize)> {
        let cells = self.rows.iter().flat_map(|row| row.cells.iter().flatten());
        let counts = cells.filter_map(|cell| match &cell.value {
            Value::Measured(estimate) => Some(estimate.n),
            Value::Published(_) => None,
        });
        counts.fold(None, |range, n| match range {
            None => Some((n, n)),
            Some((low, high)) => Some((low.min(n), high.max(n))),
        })
    }

    /// Sources of published figures in order of first appearance, without repetition.
    pub(crate) fn sources(&self) -> Vec<&str> {
        let mut sources: Vec<&str> = Vec::new();
        for cell in self.rows.iter().flat_map(|row| row.cells.iter().flatten()) {
            if let Value::Published(published) = &cell.value
                && !sources.contains(&published.source.as_str())
            {
                sources.push(&published.source);
            }
        }
        sources
    }

    /// Neighboring columns with one group heading, as (heading, number of columns).
    pub(crate) fn groups(&self) -> Vec<(&str, usize)> {
        let mut groups: Vec<(&str, usize)> = Vec::new();
        for column in &self.columns {
            match groups.last_mut() {
                Some((name, width)) if *name == column.group => *width += 1,
                _ => groups.push((&column.group, 1)),
            }
        }
        groups
    }

    /// The sentences below a table: what ± means, how many repetitions, the caller's notes.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let what =
            if self.has_intervals() { "Mean ± half-width of the 95 % interval" } else { "No interval" };
        let n = self.repetitions().map(|range| match range {
            (low, high) if low == high => format!("{what}; n = {low}."),
            (low, high) => format!("{what}; n = {low} to {high}."),
        });
        n.into_iter().chain(self.notes.iter().cloned()).collect()
    }

    fn has_intervals(&self) -> bool {
        let mut cells = self.rows.iter().flat_map(|row| row.cells.iter().flatten());
        cells.any(|cell| matches!(cell.value, Value::Measured(Estimate { half_width: Some(_), .. })))
    }

    fn measured(&self, row: usize, column: usize) -> Option<f64> {
        match &self.rows[row].cells[column].as_ref()?.value {
            Value::Measured(estimate) => Some(estimate.mean),
            Value::Published(_) => None,
        }
    }
}

impl Row {
    /// Group and label on the page.
    pub(crate) fn heading(&self) -> Heading {
        let own = || Heading { group: String::new(), label: self.label.clone() };
        self.page.clone().unwrap_or_else(own)
    }
}

impl Column {
    /// Group and label on the page.
    pub(crate) fn heading(&self) -> Heading {
        let own = || Heading { group: self.group.clone(), label: self.label.clone() };
        self.page.clone().unwrap_or_else(own)
    }

    /// Group and label in one line; the name in `results.csv`, unique in the table.
    pub fn name(&self) -> String {
        [self.group.as_str(), self.label.as_str()]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl Default for Column {
    fn default() -> Self {
        Self { group: String::new(), label: String::new(), best: None, decimals: 1, page: None }
    }
}

impl Cell {
    /// A figure of ours.
    pub fn measured(estimate: Estimate, keys: Keys) -> Self {
        Self { value: Value::Measured(estimate), keys }
    }

    /// A figure of others.
    pub fn published(published: Published, keys: Keys) -> Self {
        Self { value: Value::Published(published), keys }
    }

    /// Mean and half-width as printed, for example ("78.2", Some("0.5")).
    pub(crate) fn digits(&self, decimals: usize) -> (String, Option<String>) {
        match &self.value {
            Value::Measured(e) => (number(e.mean, decimals), e.half_width.map(|h| number(h, decimals))),
            Value::Published(p) => (number(p.value, decimals), None),
        }
    }
}

/// `value` with that many digits after the point, never "-0".
pub(crate) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_string(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column_of(best: Best, means: &[f64]) -> Table {
        let column = Column { best: Some(best), ..Column::default() };
        let mut table = Table { columns: vec![column], ..Table::default() };
        for (i, &mean) in means.iter().enumerate() {
            let estimate = Estimate { mean, half_width: None, n: 1 };
            table.push_row(i.to_string(), vec![Some(Cell::measured(estimate, Keys::default()))]);
        }
        table
    }

    #[test]
    fn best_is_the_end_that_the_column_names() {
        let best = |table: Table| (0..table.rows.len()).map(|r| table.is_best(r, 0)).collect::<Vec<_>>();
        assert_eq!(best(column_of(Best::Highest, &[1.0, 3.0, 2.0])), [false, true, false]);
        assert_eq!(best(column_of(Best::Lowest, &[1.0, 3.0, 2.0])), [true, false, false]);
        assert_eq!(best(column_of(Best::Highest, &[3.01, 3.04, 2.0])), [true, true, false]);
        assert_eq!(best(column_of(Best::Highest, &[3.0])), [false]);
        assert_eq!(best(column_of(Best::Highest, &[3.01, 3.04])), [false, false]);
    }

    #[test]
    fn published_figures_are_never_best() {
        let mut table = column_of(Best::Highest, &[1.0, 2.0]);
        let published = Published { value: 99.0, source: "elsewhere".into() };
        table.push_row("theirs", vec![Some(Cell::published(published, Keys::default()))]);
        assert!(table.is_best(1, 0) && !table.is_best(2, 0));
    }

    #[test]
    fn zero_has_no_sign() {
        assert_eq!(number(-0.04, 1), "0.0");
        assert_eq!(number(-0.06, 1), "-0.1");
        assert_eq!(number(-0.0, 0), "0");
    }

    #[test]
    #[should_panic(expected = "table T9, row \"a\": 2 cells for 0 columns")]
    fn ragged_rows_panic() {
        Table { id: "T9".into(), ..Table::default() }.push_row("a", vec![None, None]);
    }
}
