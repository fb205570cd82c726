//! The artifact trait: what a table or figure shows, needs, and how it is drawn.

use tarrl_report::{Figure, Table};

use super::Results;
use crate::layout::Layout;
use crate::profile::Profile;
use tarrl_jobs::Key;

/// A table or figure of a study.
pub trait Artifact: Sync {
    /// Its name in profiles, options and the report: `T1`, `F2`.
    fn id(&self) -> &'static str;

    /// What it shows, in a few words.
    fn title(&self) -> &'static str;

    /// Checks that the profile has what the artifact shows.
    ///
    /// # Errors
    /// The rest of a sentence that begins with the id, such as ``shows `pairs`; add `pairs` or remove it``.
    fn requires(&self, profile: &Profile) -> Result<(), String> {
        let _ = profile;
        Ok(())
    }

    /// The jobs whose results it reads. Those of the methods, pairs and the sweep are laid out already; a job of the
    /// artifact's own is added to the [graph](Layout::graph) here.
    ///
    /// # Errors
    /// If such a job cannot be laid out.
    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>>;

    /// Draws it from the results of its jobs.
    ///
    /// # Errors
    /// If a result has an unexpected form.
    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered>;
}

/// What an artifact adds to the report.
#[derive(Default)]
pub struct Rendered {
    /// Tables, in their order.
    pub tables: Vec<Table>,
    /// Figures, in their order.
    pub figures: Vec<Figure>,
    /// What the figure shows, in one sentence with its numbers. That of the first artifact that has one stands below the
    /// leading figure of the page.
    pub claim: Option<String>,
}
