//! Table of any predictor (T12): errors on random representations beside the bound that holds for every predictor.

use tarrl_eval::{NO_CLAIM, PredictorErrors, PredictorKind};
use tarrl_report::{Cell, Column, Heading, Keys, Table};

use super::cells::{added, asked, interval_note, over_seeds, per_method, radius, tasks};
use super::{Artifact, Rendered, Results};
use crate::layout::Layout;
use crate::profile::Profile;
use crate::stages::any_predictor::{self, AnyPredictorResult};
use crate::stages::certify;
use tarrl_jobs::Key;

/// Does the bound hold for predictors that are not linear?
pub(super) struct AnyPredictor;

impl Artifact for AnyPredictor {
    fn id(&self) -> &'static str {
        "T12"
    }

    fn title(&self) -> &'static str {
        "Any predictor on random representations"
    }

    fn requires(&self, profile: &Profile) -> Result<(), String> {
        tasks(profile)?;
        if profile.bound_epsilons().is_sorted() {
            return Ok(());
        }
        Err("attacks radius after radius; let `bound.epsilons` rise, or `attack.epsilons` without it"
            .to_owned())
    }

    fn jobs(&self, layout: &mut Layout) -> anyhow::Result<Vec<Key>> {
        let settings = tasks(&layout.context.profile).map_err(anyhow::Error::msg)?.clone();
        // The same jobs as those of the bound, if that is drawn too.
        let certified = added(layout, |layout, job, title, seed| {
            vec![certify::job(&layout.context, job.pretrain, title, seed)]
        });
        let next = std::cell::Cell::new(0);
        Ok(added(layout, |layout, job, title, seed| {
            let inputs = [job.pretrain, certified[next.replace(next.get() + 1)]];
            vec![any_predictor::job(&layout.context, inputs, &layout.manifest, &settings, title, seed)]
        }))
    }

    fn render(&self, results: &Results<'_>) -> anyhow::Result<Rendered> {
        let profile = results.profile();
        let settings = tasks(profile).map_err(anyhow::Error::msg)?;
        let epsilons = profile.bound_epsilons();
        let all = per_method::<AnyPredictorResult>(results)?;
        let column = |group: &str, label: &str| Column {
            group: group.into(),
            label: label.into(),
            decimals: 1,
            ..Column::default()
        };
        let mut columns = vec![column("", "clean")];
        for &epsilon in &epsilons {
            columns.extend(["attacked", "bound", "certified"].map(|label| column(&radius(epsilon), label)));
        }
        let mut table = Table {
            id: self.id().into(),
            title: self.title().into(),
            caption: "Does the bound hold for predictors that are not linear? Errors in per cent on draws of noisy \
                      representations, and the bound, which knows neither predictor nor task."
                .into(),
            stub: "method and predictor".into(),
            columns,
            notes: notes(results, settings.noise, settings.predictors.delta, &all),
            ..Table::default()
        };
        for (method, seeds) in asked(results.layout).into_iter().zip(&all) {
            for (p, kind) in PredictorKind::ALL.iter().enumerate() {
                let cell = |epsilon: Option<f64>,
                            attack: &str,
                            metric: &str,
                            of: &dyn Fn(&PredictorErrors) -> f64| {
                    let keys = Keys {
                        dataset: profile.dataset.clone(),
                        protocol: format!("{}, noise {}", kind.name(), settings.noise),
                        attack: attack.into(),
                        epsilon,
                        metric: metric.into(),
                    };
                    let shares: Vec<f64> = seeds.iter().map(|seed| 100.0 * of(&seed.predictors[p])).collect();
                    Some(Cell::measured(over_seeds(&shares), keys))
                };
                let mut cells = vec![cell(None, "none", "error", &|errors| errors.clean)];
                let eot = format!("eot-pgd-{}", profile.attack.steps);
                for (i, &epsilon) in epsilons.iter().enumerate() {
                    let epsilon = Some(epsilon);
                    cells.push(cell(epsilon, &eot, "error", &|errors| errors.levels[i].attacked));
                    cells.push(cell(epsilon, &eot, "bound", &|errors| errors.levels[i].bound));
                    cells.push(cell(epsilon, "any", "bound", &|errors| errors.levels[i].certified));
                }
                table.push_row(format!("{}: {}", method.method.title, kind.name()), cells);
                let heading = Heading { group: kind.name().into(), label: method.method.title.clone() };
                table.rows.last_mut().expect("pushed above").page = Some(heading);
            }
        }
        Ok(Rendered { tables: vec![table], ..Rendered::default() })
    }
}

fn notes(results: &Results<'_>, share: f64, delta: f64, all: &[Vec<AnyPredictorResult>]) -> Vec<String> {
    let profile = results.profile();
    let images = all[0][0].images;
    let draws = profile.tasks.as_ref().map_or(0, |tasks| tasks.predictors.draws);
    let mut notes = vec![
        format!(
            "Representations are drawn as f(x) + σ ξ with ξ standard normal and σ = {share} times the root mean square \
             distance of the training representations from their mean. Predictors are fitted to one draw of each training \
             image. {images} test images, {draws} draws each."
        ),
        "Bound: an upper limit of the error wherever representations move no farther than any attack moved them (C12, \
         docs/theory.md); it verifies the theorem and certifies nothing. Certified: the same with certified displacements, so \
         that no attack within ε can do worse; 100 claims nothing."
            .to_owned(),
        format!(
            "Each limit holds with probability {} over the draws. Attacked errors were compared with bound and certificate in \
             every row, in the mean and image by image; a violation would have stopped the study.",
            1.0 - delta
        ),
        format!(
            "Attacks: PGD-{} on the cross-entropy over draws (expectation over transformation) through the linear predictor \
             and the hidden layer, and the ascent of the displacement without labels; each predictor faces all points, and \
             for each image the worst is counted on new draws.",
            profile.attack.steps
        ),
        interval_note(results),
    ];
    for (i, epsilon) in profile.bound_epsilons().into_iter().enumerate() {
        let of = |seeds: &[AnyPredictorResult], which: usize| {
            over_seeds(&seeds.iter().map(|seed| seed.rho[i][which]).collect::<Vec<_>>()).mean
        };
        let one = |(method, seeds): (&crate::layout::MethodJobs, &Vec<AnyPredictorResult>)| {
            let certified = of(seeds, 1);
            let certified =
                if certified < 1e-3 * NO_CLAIM { format!("{certified:.2}") } else { "none".into() };
            format!("{} {:.2} ({certified})", method.method.title, of(seeds, 0))
        };
        let each: Vec<String> = asked(results.layout).into_iter().zip(all).map(one).collect();
        notes.push(format!(
            "Displacement that attacks reached (certified) in units of σ, median over the images, {}: {}.",
            radius(epsilon),
            each.join(", ")
        ));
    }
    notes
}
