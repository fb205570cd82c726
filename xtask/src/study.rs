//! From a profile to the graph of jobs behind its tables.

use std::collections::BTreeMap;

use anyhow::bail;
use tarrl_data::Catalog;

use crate::jobs::{Graph, Key};
use crate::profile::Profile;
use crate::stages;
use crate::tables::Table;

/// The jobs of a study, and which of them each table shows.
pub struct Study {
    /// All jobs.
    pub graph: Graph,
    /// The jobs whose results a table reads.
    pub tables: BTreeMap<Table, Vec<Key>>,
}

impl Study {
    /// Lays out the study that `profile` describes.
    ///
    /// # Errors
    /// Fails if a dataset or a method that the profile names is missing or faulty.
    pub fn new(profile: &Profile, catalog: &Catalog) -> anyhow::Result<Self> {
        let mut graph = Graph::default();
        let data = graph.add(stages::data::job(catalog, &profile.dataset)?);
        let tables = profile.tables.iter().map(|table| (*table, vec![data])).collect();
        Ok(Self { graph, tables })
    }

    /// Keeps the tables `chosen` and the jobs that they need; nothing chosen keeps everything.
    ///
    /// # Errors
    /// Fails if the study has no such table.
    pub fn only(mut self, chosen: &[Table]) -> anyhow::Result<Self> {
        if chosen.is_empty() {
            return Ok(self);
        }
        if let Some(missing) = chosen.iter().find(|table| !self.tables.contains_key(table)) {
            let known: Vec<_> = self.tables.keys().map(|table| table.id()).collect();
            bail!("this profile does not make {}; it makes {}", missing.id(), known.join(", "));
        }
        self.tables.retain(|table, _| chosen.contains(table));
        let graph = self.graph.only(self.tables.values().flatten().copied());
        Ok(Self { graph, tables: self.tables })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{Job, Spec, Stage};
    use serde_json::{Value, json};

    fn job(name: &str, inputs: &[Key]) -> Job {
        let stage = Stage { kind: "test", version: 1 };
        let inputs = inputs.to_vec();
        let spec = Spec { name: name.into(), stage, seed: 0, config: json!(name), inputs, seconds: 1.0 };
        Job::new(spec, |_| Ok(Value::Null))
    }

    fn study() -> Study {
        let mut graph = Graph::default();
        let encoder = graph.add(job("encoder", &[]));
        let attack = graph.add(job("attack", &[encoder]));
        let bound = graph.add(job("bound", &[encoder]));
        Study { graph, tables: [(Table::T1, vec![attack]), (Table::T5, vec![bound])].into() }
    }

    fn names(study: &Study) -> Vec<&str> {
        study.graph.jobs().iter().map(|job| job.spec().name.as_str()).collect()
    }

    #[test]
    fn a_chosen_table_brings_what_it_needs_and_nothing_else() {
        assert_eq!(names(&study().only(&[Table::T1]).unwrap()), ["encoder", "attack"]);
        assert_eq!(names(&study().only(&[Table::T5, Table::T1]).unwrap()), ["encoder", "attack", "bound"]);
        assert_eq!(names(&study().only(&[]).unwrap()), ["encoder", "attack", "bound"]);
    }

    #[test]
    fn a_table_that_the_profile_lacks_is_refused() {
        let error = study().only(&[Table::F1]).err().unwrap().to_string();
        assert_eq!(error, "this profile does not make F1; it makes T1, T5");
    }
}
