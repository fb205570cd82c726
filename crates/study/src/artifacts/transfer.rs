//! Transfer table (T2): heads for other tasks on the same encoders: other datasets, groups of the classes, each class against
//! the rest.

use tarrl_report::Table;

use super::cells::{added, asked, interval_note, over_seeds, per_method, tasks};
use super::{Artifact, Rendered, Results, levels};
use crate::layout::Layout;
use crate::profile::Profile;
use crate::stages;
use crate::stages::downstream::{self, DownstreamResult, GROUPS, ONE_AGAINST_THE_REST, Source, TaskResult};
use tarrl_jobs::Key;

/// Is it robust on tasks that it was not made for?
pub(super) struct Transfer;

impl Artifact for Transfer {
    fn id(&self) -> &'static str {
        "T2"
    }

    fn title(&self) -> &'static str {
        "Robust accuracy on other tasks and datasets"
    }

    fn requires(&self, profile: &Profile) -> Result<(), String> {
        tasks(profile).map(|_| ())
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        let context = layout.context.clone();
        let settings = tasks(&context.profile).map_err(anyhow::Error::msg)?.clone();
        let mut others = Vec::new();
        for name in &settings.transfer {
            let files = context.source(name)?;
            let manifest = files.manifest()?;
            if manifest.shape[2] != layout.manifest.shape[2] {
                anyhow::bail!(
                    "{}: `tasks.transfer` names {name}, whose images have {} channels; encoders of {} see {}; remove it",
                    context.profile.path.display(),
                    manifest.shape[2],
                    layout.manifest.name,
                    layout.manifest.shape[2]
                );
            }
            if files.verify().is_ok() {
                let data = layout.graph.add(stages::data::job(&context.catalog, name)?);
                others.push((manifest, data));
            }
        }
        Ok(added(layout, |layout, job, title, seed| {
            let own = [Source::Own(&layout.manifest)];
            let sources =
                own.into_iter().chain(others.iter().map(|(manifest, data)| Source::Other(manifest, *data)));
            sources
                .map(|source| downstream::job(&layout.context, job.pretrain, source, &settings, title, seed))
                .collect()
        }))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let profile = results.profile();
        let settings = tasks(profile).map_err(anyhow::Error::msg)?;
        let found = per_method::<DownstreamResult>(results)?;
        let groups = groups(&found[0]);
        let names: Vec<String> = groups.iter().map(|group| group.title.clone()).collect();
        let missing = settings.transfer.iter().filter(|name| !groups.iter().any(|g| g.dataset == **name));
        let missing = missing.map(|name| {
            format!("{name} is not here and left out; fetch it with `cargo xtask data fetch {name}` and run the profile again.")
        });
        let mut table = Table {
            id: self.id().into(),
            title: self.title().into(),
            caption: "Is it robust on tasks that it was not made for? Linear heads of one regularization, trained on clean \
                      images of each task, on encoders that are frozen."
                .into(),
            stub: "method".into(),
            columns: levels::columns(results, &names),
            notes: [
                format!(
                    "Mean of the accuracies of a task's classes in per cent, so that half is chance for a class against the \
                     rest, which is the mean over the classes. PGD-{}, one restart, on {} test images.",
                    profile.attack.steps, settings.images
                ),
                interval_note(results),
            ]
            .into_iter()
            .chain(missing)
            .collect(),
            ..Table::default()
        };
        let pgd = format!("pgd-{}", profile.attack.steps);
        let seeds = profile.seeds().count();
        for (method, jobs) in asked(results.layout).into_iter().zip(&found) {
            let mut cells = Vec::new();
            for group in &groups {
                // A seed has as many jobs as there are datasets.
                let of = |level: Option<usize>| {
                    let each = jobs.chunks(jobs.len() / seeds).map(|seed| group.mean(seed, level));
                    over_seeds(&each.collect::<Vec<_>>())
                };
                let keys =
                    [group.dataset.as_str(), group.family.as_str(), pgd.as_str(), "mean accuracy of classes"];
                cells.extend(levels::cells(results, keys, of));
            }
            table.push_row(method.method.title.clone(), cells);
        }
        Ok(Rendered { tables: vec![table], ..Rendered::default() })
    }
}

/// Tasks of one dataset and one family.
#[derive(PartialEq)]
struct Group {
    dataset: String,
    family: String,
    title: String,
}

/// The groups of the tasks of one encoder, other datasets first.
fn groups(jobs: &[DownstreamResult]) -> Vec<Group> {
    let mut groups = Vec::new();
    for job in jobs {
        for task in &job.tasks {
            let title = match task.family.as_str() {
                GROUPS => task.name.clone(),
                ONE_AGAINST_THE_REST => ONE_AGAINST_THE_REST.to_owned(),
                _ => job.dataset.clone(),
            };
            let group = Group { dataset: job.dataset.clone(), family: task.family.clone(), title };
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
    }
    groups.sort_by_key(|group| matches!(group.family.as_str(), GROUPS | ONE_AGAINST_THE_REST));
    groups
}

impl Group {
    /// The mean over the group's tasks of one encoder, in per cent.
    fn mean(&self, jobs: &[DownstreamResult], level: Option<usize>) -> f64 {
        let own = jobs.iter().filter(|job| job.dataset == self.dataset).flat_map(|job| &job.tasks);
        let of = |task: &TaskResult| level.map_or(task.clean(), |level| task.robust(level));
        let values: Vec<f64> = own.filter(|task| task.family == self.family).map(of).collect();
        100.0 * values.iter().sum::<f64>() / values.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::sample::Counts;

    #[test]
    fn tasks_of_a_family_are_averaged_and_other_datasets_come_first() {
        let task = |name: &str, family: &str, clean: usize| {
            let counts = Counts { n: 10, clean, robust: vec![clean / 2] };
            TaskResult { name: name.into(), family: family.into(), classes: vec![counts] }
        };
        let own = vec![
            task("kind", GROUPS, 10),
            task("a", ONE_AGAINST_THE_REST, 8),
            task("b", ONE_AGAINST_THE_REST, 4),
        ];
        let jobs = vec![
            DownstreamResult { dataset: "own".into(), tasks: own },
            DownstreamResult { dataset: "other".into(), tasks: vec![task("classes", "classes", 6)] },
        ];
        let groups = groups(&jobs);
        let titles: Vec<&str> = groups.iter().map(|group| group.title.as_str()).collect();
        assert_eq!(titles, ["other", "kind", ONE_AGAINST_THE_REST]);
        let means: Vec<f64> = groups.iter().map(|group| group.mean(&jobs, None).round()).collect();
        assert_eq!(means, [60.0, 100.0, 60.0]);
        assert_eq!(groups[2].mean(&jobs, Some(0)).round(), 30.0);
    }
}
