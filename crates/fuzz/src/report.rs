//! Counts of a campaign, as a table.

use std::time::Duration;

/// What happened to the inputs of one target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) inputs: u64,
    pub(crate) accepted: u64,
    /// Panics, and inputs over a limit.
    pub(crate) breaches: u64,
    /// The slowest input and its time.
    pub(crate) slowest: (u64, Duration),
    pub(crate) total: Duration,
}

impl Counts {
    /// Enters an input.
    pub(crate) fn enter(&mut self, index: u64, accepted: bool, took: Duration) {
        self.inputs += 1;
        self.accepted += u64::from(accepted);
        self.total += took;
        if took > self.slowest.1 {
            self.slowest = (index, took);
        }
    }

    /// Adds the counts of other inputs.
    pub(crate) fn add(&mut self, other: &Counts) {
        self.inputs += other.inputs;
        self.accepted += other.accepted;
        self.breaches += other.breaches;
        self.total += other.total;
        if other.slowest.1 > self.slowest.1 {
            self.slowest = other.slowest;
        }
    }
}

/// A table in Markdown: a row for each target, and the sum.
pub(crate) fn table(rows: &[(&str, Counts)]) -> String {
    let mut text = "| target | inputs | accepted | breaches | mean, µs | slowest, ms | its number |\n\
                    |---|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    let mut all = Counts::default();
    rows.iter().for_each(|(_, counts)| all.add(counts));
    for (name, counts) in rows.iter().chain([&("all", all)]) {
        let mean = counts.total.as_secs_f64() * 1e6 / counts.inputs.max(1) as f64;
        text += &format!(
            "| {name} | {} | {} | {} | {mean:.0} | {:.1} | {} |\n",
            counts.inputs,
            counts.accepted,
            counts.breaches,
            counts.slowest.1.as_secs_f64() * 1e3,
            counts.slowest.0,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_input_of_all_is_in_the_last_row() {
        let mut rows = [("a", Counts::default()), ("b", Counts::default())];
        for (index, millis) in [(3, 5), (4, 7)] {
            rows[0].1.enter(index, index == 3, Duration::from_millis(millis));
            rows[1].1.enter(10 + index, false, Duration::from_millis(2 * millis));
        }
        let table = table(&rows);
        assert!(table.contains("| a | 2 | 1 | 0 | 6000 | 7.0 | 4 |\n"), "{table}");
        assert!(table.ends_with("| all | 4 | 1 | 0 | 9000 | 14.0 | 14 |\n"), "{table}");
    }
}
