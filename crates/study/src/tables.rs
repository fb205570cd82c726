//! The tables and figures that a study can produce.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One table or figure.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
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
    /// All of them, in the order of a report.
    pub const ALL: [Table; 7] = [Table::T1, Table::T5, Table::T6, Table::T7, Table::F1, Table::F2, Table::F3];

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

/// Reads an id in any case.
impl FromStr for Table {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::id);
        let found = Self::ALL.into_iter().find(|table| table.id().eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("there is no table or figure `{text}`; known: {}", known.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_options_spell_a_table_as_its_id() {
        for table in Table::ALL {
            assert_eq!(serde_json::to_value(table).unwrap(), table.id());
            assert_eq!(table.id().to_lowercase().parse(), Ok(table));
        }
    }
}
