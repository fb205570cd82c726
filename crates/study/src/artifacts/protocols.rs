//! Protocols table (T3): standard linear, adversarial linear and adversarial full fine-tuning of the same encoders.

use tarrl_report::Table;

use super::cells::{accuracy, added, asked, interval_note, keys, tasks};
use super::{Artifact, Rendered, Results, levels};
use crate::layout::Layout;
use crate::profile::Profile;
use crate::stages::attack::AttackResult;
use crate::stages::{alf, attack};
use tarrl_jobs::Key;

/// What remains of a lead when the head, or all of the network, is trained under attack?
pub(super) struct Protocols;

const GROUPS: [&str; 3] = ["SLF", "ALF", "AFF"];

impl Artifact for Protocols {
    fn id(&self) -> &'static str {
        "T3"
    }

    fn title(&self) -> &'static str {
        "Three protocols of fine-tuning"
    }

    fn requires(&self, profile: &Profile) -> Result<(), String> {
        tasks(profile).map(|_| ())
    }

    /// The attacks of all three protocols, one protocol after the other.
    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        let settings = tasks(&layout.context.profile).map_err(anyhow::Error::msg)?.alf;
        let heads = added(layout, |layout, job, title, seed| {
            vec![alf::job(&layout.context, job.pretrain, &layout.manifest, &settings, title, seed)]
        });
        let mut jobs = keys(asked(layout), |job| vec![job.attack]);
        let seeds: Vec<(String, Key, u64)> = asked(layout)
            .into_iter()
            .flat_map(|method| {
                let seeds = method.seeds.iter().zip(layout.context.profile.seeds());
                seeds.map(move |(job, seed)| {
                    (format!("{}, seed {seed}, ALF", method.name), job.pretrain, seed)
                })
            })
            .collect();
        for ((title, pretrain, seed), head) in seeds.into_iter().zip(heads) {
            let job = attack::job(&layout.context, [pretrain, head], &layout.manifest, &title, seed);
            jobs.push(layout.graph.add(job));
        }
        jobs.extend(keys(&layout.tuned, |job| vec![job.attack]));
        Ok(jobs)
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let profile = results.profile();
        let settings = tasks(profile).map_err(anyhow::Error::msg)?;
        let mut table = Table {
            id: self.id().into(),
            title: self.title().into(),
            caption: "What remains when heads, or whole networks, are trained under attack with labels? SLF: a linear head \
                      on clean images. ALF: a linear head on attacked images, the encoder frozen. AFF: encoder and head \
                      trained on by an adversarial method with labels."
                .into(),
            stub: "encoder from".into(),
            columns: levels::columns(results, &GROUPS.map(String::from)),
            notes: vec![
                format!(
                    "Accuracy in per cent under PGD-{} with {} restart(s). ALF: {} epochs of PGD-{} at ε = {}. AFF: the method \
                     `{}` for the epochs of the profile, from the encoder of the row; its head is fitted anew to clean images.",
                    profile.attack.steps,
                    profile.attack.restarts,
                    settings.alf.epochs,
                    settings.alf.steps,
                    settings.alf.epsilon,
                    settings.aff
                ),
                interval_note(results),
            ],
            ..Table::default()
        };
        let pgd = format!("pgd-{}", profile.attack.steps);
        let (methods, seeds) = (asked(results.layout), profile.seeds().count());
        for (i, method) in methods.iter().enumerate() {
            let mut cells = Vec::new();
            for (protocol, group) in GROUPS.iter().enumerate() {
                let first = (protocol * methods.len() + i) * seeds;
                let found: Vec<AttackResult> = results.jobs[first..first + seeds]
                    .iter()
                    .map(|key| results.finished[key].parse())
                    .collect::<anyhow::Result<_>>()?;
                let keys = [profile.dataset.as_str(), group, pgd.as_str(), "accuracy"];
                cells.extend(levels::cells(results, keys, |level| {
                    let correct = |a: &AttackResult| {
                        level.map_or(a.clean_correct, |l| a.correct_at(profile.attack.epsilons[l].value()))
                    };
                    accuracy(found.iter().map(|a| (correct(a), a.n)))
                }));
            }
            table.push_row(method.method.title.clone(), cells);
        }
        Ok(Rendered { tables: vec![table], ..Rendered::default() })
    }
}
