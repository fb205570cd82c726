//! Reports as data: tables, figures, the claim and their provenance.

use serde::Serialize;

use crate::{Figure, Table};

/// Everything that one report shows.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// What the leading figure shows, in one sentence with its numbers; may be empty.
    pub claim: String,
    /// The method that the report is about: its rows and series, those with this label, are emphasized. May be empty.
    pub subject: String,
    /// The tables in reading order; their ids differ.
    pub tables: Vec<Table>,
    /// The figures in reading order, of which the first leads the page; their ids differ from each other and from those of
    /// the tables.
    pub figures: Vec<Figure>,
    /// Where the numbers come from.
    pub provenance: Provenance,
}

/// What somebody else needs to get the same numbers. It holds no time of day: the same run gives the same bytes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Provenance {
    /// Version of the software, with the revision if known.
    pub version: String,
    /// Processor, cores, accelerator and system, in words.
    pub machine: String,
    /// The command that makes this report again.
    pub command: String,
    /// Every seed that was used.
    pub seeds: Vec<u64>,
    /// The jobs whose results went in.
    pub jobs: Vec<Job>,
    /// Further facts as (name, value), such as the hash of a dataset.
    pub facts: Vec<(String, String)>,
}

/// One job of the run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Job {
    /// Hash of everything that determines the job; the name of its folder.
    pub key: String,
    /// What it did, in a few words.
    pub title: String,
}
