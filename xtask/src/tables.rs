//! The tables and figures that a study can produce.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// One table or figure.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Table {
    /// Is it more robust than the baselines? Clean and attacked accuracy of a linear head
    T1,
    /// Does the bound hold, and how tight is it? Clean loss, adversarial loss, bound, per task
    T5,
    /// Accuracy against ε, a curve per method
    F1,
}

impl Table {
    /// Its name in files, options and the report.
    pub fn id(self) -> &'static str {
        match self {
            Self::T1 => "T1",
            Self::T5 => "T5",
            Self::F1 => "F1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_options_spell_a_table_as_its_id() {
        for table in Table::value_variants() {
            assert_eq!(serde_json::to_value(table).unwrap(), table.id());
            assert_eq!(table.to_possible_value().unwrap().get_name(), table.id());
        }
    }
}
