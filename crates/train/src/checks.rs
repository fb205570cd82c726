//! Checks during training: finite numbers, and collapse of the representations.

use crate::metrics::{StepRecord, WarningRecord};
use tarrl_bound::RepresentationStats;
use tarrl_encoders::Module;

/// The threshold of [`StepRecord::embedding_std`] at the end of an epoch for the warning `embedding-collapse`.
pub(crate) const COLLAPSED_EMBEDDINGS: f64 = 0.2;

/// The threshold of [`StepRecord::feature_std`] at the end of an epoch for the warning `feature-collapse`.
pub(crate) const COLLAPSED_FEATURES: f64 = 0.02;

/// `Err` with the name and the value of a quantity that is not finite.
pub(crate) fn require_finite(what: &str, value: f64) -> Result<(), (String, f64)> {
    if value.is_finite() { Ok(()) } else { Err((what.to_string(), value)) }
}

/// The Euclidean norm of the gradients in all parameters of `model` together, from the squared length of each; the first
/// that is not finite is named.
pub(crate) fn gradient_norm(model: &dyn Module, squares: &[f64]) -> Result<f64, (String, f64)> {
    let mut names = Vec::new();
    model.visit(&mut |name, role, _| {
        if role.is_parameter() {
            names.push(name.to_string());
        }
    });
    for (name, &square) in names.iter().zip(squares) {
        require_finite(&format!("squared length of the gradient of {name}"), square)?;
    }
    Ok(squares.iter().sum::<f64>().sqrt())
}

/// The warnings of the last step of an epoch, and those of the statistics of its representations compared with the
/// first epoch's.
///
/// Without a projector the embeddings are the representations, which are positive and so fill less of the sphere.
pub(crate) fn warnings(
    record: &StepRecord,
    projects: bool,
    now: &RepresentationStats,
    first: &RepresentationStats,
) -> Vec<WarningRecord> {
    let alarms = [
        ("embedding-collapse", "embeddings", record.embedding_std, COLLAPSED_EMBEDDINGS),
        ("feature-collapse", "representations", record.feature_std, COLLAPSED_FEATURES),
    ];
    let alarms = alarms.into_iter().skip(usize::from(!projects));
    let fired = alarms.filter(|(.., found, least)| found < least);
    let describe = |(name, what, found, least): (&str, &str, f64, f64)| WarningRecord {
        step: record.step,
        name: name.to_string(),
        message: format!(
            "the {what} of different images point nearly the same way (spread {found:.3}, healthy above {least}); \
             lower the weight of the regularizer or the learning rate"
        ),
    };
    let findings = now.findings(first).into_iter().map(|finding| WarningRecord {
        step: record.step,
        name: finding.name().to_string(),
        message: finding.to_string(),
    });
    fired.map(describe).chain(findings).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::train_config::TrainConfig;
    use tarrl_encoders::parameters;
    use tarrl_tensor::cpu;

    #[test]
    fn collapse_warnings_fire_only_below_their_thresholds() {
        let of = |projects, embedding_std, feature_std, shrunk| {
            let record = StepRecord { embedding_std, feature_std, ..StepRecord::default() };
            let first = RepresentationStats {
                deviation: 1.0,
                effective_rank: 4.0,
                dimensions: 8,
                ..RepresentationStats::default()
            };
            let now = RepresentationStats { deviation: shrunk, ..first };
            warnings(&record, projects, &now, &first)
                .into_iter()
                .map(|warning| warning.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(true, 0.9, 0.4, 0.5), [""; 0]);
        assert_eq!(of(true, 0.19, 0.4, 0.5), ["embedding-collapse"]);
        assert_eq!(of(false, 0.19, 0.4, 0.5), [""; 0]);
        assert_eq!(of(true, 0.9, 0.019, 0.5), ["feature-collapse"]);
        assert_eq!(of(true, 0.9, 0.4, 0.05), ["scale-collapse"]);
    }

    #[test]
    fn the_first_gradient_that_is_not_finite_is_named() {
        let method =
            toml::from_str("title = 't'\nviews = ['clean', 'clean']\nobjective = { kind = 'nt-xent' }");
        let model = Model::new(&TrainConfig::new(method.unwrap()), &[], &cpu());
        let mut squares = vec![0.0; parameters(&model).len()];
        assert_eq!(gradient_norm(&model, &squares), Ok(0.0));
        (squares[0], squares[1]) = (9.0, 16.0);
        assert_eq!(gradient_norm(&model, &squares), Ok(5.0));
        squares[2] = f64::NAN;
        let (what, value) = gradient_norm(&model, &squares).unwrap_err();
        let name = &model.described()[2].name;
        assert!(what.ends_with(&format!("gradient of {name}")) && value.is_nan(), "{what}");
    }
}
