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
    /// Does the regularizer help whatever the objective? Each base objective without and with it
    T6,
    /// What does it cost? Seconds, gradient evaluations and memory of training, per method
    T7,
    /// Accuracy against ε, a curve per method
    F1,
    /// Clean against robust accuracy as the weight λ moves, a curve per divergence
    F2,
    /// How far attacks raise the loss against C·R, a point per encoder and task
    F3,
}

impl Table {
    /// Its name in files, options and the report.
    pub fn id(self) -> &'static str {
        match self {
            Self::T1 => "T1",
            Self::T5 => "T5",
            Self::T6 => "T6",
            Self::T7 => "T7",
            Self::F1 => "F1",
            Self::F2 => "F2",
            Self::F3 => "F3",
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
