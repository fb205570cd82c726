//! Retrieval table (T11): recall at one of test images among training images, clean and attacked without labels.

use tarrl_report::Table;

use super::cells::{accuracy, added, asked, interval_note, per_method, tasks};
use super::{Artifact, Rendered, Results, levels};
use crate::layout::Layout;
use crate::profile::Profile;
use crate::stages::retrieval::{self, RetrievalResult};
use tarrl_jobs::Key;

/// Does the nearest image stay of the same kind when the query is attacked?
pub(super) struct Retrieval;

impl Artifact for Retrieval {
    fn id(&self) -> &'static str {
        "T11"
    }

    fn title(&self) -> &'static str {
        "Retrieval under attack"
    }

    fn requires(&self, profile: &Profile) -> Result<(), String> {
        tasks(profile).map(|_| ())
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        let settings = tasks(&layout.context.profile).map_err(anyhow::Error::msg)?.clone();
        Ok(added(layout, |layout, job, title, seed| {
            vec![retrieval::job(&layout.context, job.pretrain, &layout.manifest, &settings, title, seed)]
        }))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let profile = results.profile();
        let settings = tasks(profile).map_err(anyhow::Error::msg)?;
        let mut table = Table {
            id: self.id().into(),
            title: self.title().into(),
            caption: "Is it robust without any head? Recall at one in per cent: test images whose nearest training image, by \
                      the cosine of representations, has their label."
                .into(),
            stub: "method".into(),
            columns: levels::columns(results, &["recall at one".to_owned()]),
            notes: vec![
                format!(
                    "The attack turns the representation of the query as far as it can in {} steps, without labels and \
                     without the training images. {} test images.",
                    profile.attack.steps, settings.images
                ),
                interval_note(results),
            ],
            ..Table::default()
        };
        for (method, seeds) in asked(results.layout).into_iter().zip(per_method::<RetrievalResult>(results)?)
        {
            let keys = [profile.dataset.as_str(), "nearest by cosine", "turn", "recall at one"];
            let cells = levels::cells(results, keys, |level| {
                let found =
                    |r: &RetrievalResult| level.map_or(r.queries.clean, |level| r.queries.robust[level]);
                accuracy(seeds.iter().map(|r| (found(r), r.queries.n)))
            });
            table.push_row(method.method.title.clone(), cells);
        }
        Ok(Rendered { tables: vec![table], ..Rendered::default() })
    }
}
