//! Few labels: heads that are fitted to small balanced draws of the labeled images.

use crate::features::rows;
use crate::fit_error::FitError;
use crate::lbfgs::Lbfgs;
use crate::probe::{ProbeConfig, linear_probe};
use tarrl_bound::LinearHead;
use tarrl_tensor::{Key, Tensor};

/// The places of `per_class` samples of each class, drawn by `key` without replacement, rising.
///
/// # Errors
/// If a class has fewer.
fn balanced_draw(labels: &[u32], classes: usize, per_class: usize, key: Key) -> Result<Vec<usize>, FitError> {
    let mut drawn = Vec::new();
    for class in 0..classes {
        let mut members: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] as usize == class).collect();
        if members.len() < per_class {
            return Err(FitError::TooFew { class, found: members.len(), wanted: per_class });
        }
        key.fold("few labels").fold(class).stream().shuffle(&mut members);
        drawn.extend(&members[..per_class]);
    }
    drawn.sort_unstable();
    Ok(drawn)
}

/// One head for each of `draws` independent balanced draws of the share `share` of `features (n, d)` and `labels (n)`: the
/// minimum of `mean cross-entropy + l2/2 · ‖W‖²` on the drawn samples, standardized by them. At least one sample of each
/// class is drawn. Draw `i` depends on `key.fold(i)` alone.
///
/// The weight `l2` is the same for all encoders: a few samples leave none to choose it by.
///
/// # Errors
/// If a class has fewer samples than its share, a feature is not finite, or there are fewer than two classes.
///
/// # Panics
/// If the shapes do not fit or `share` is not in (0, 1].
#[track_caller]
pub fn few_label_heads(
    features: &Tensor,
    labels: &[u32],
    classes: usize,
    share: f64,
    draws: usize,
    l2: f64,
    key: Key,
) -> Result<Vec<LinearHead>, FitError> {
    assert!(share > 0.0 && share <= 1.0, "few_label_heads: a share of {share}");
    let per_class = ((share * labels.len() as f64 / classes as f64).round() as usize).max(1);
    let config = ProbeConfig { l2: vec![l2], solver: Lbfgs::default(), ..ProbeConfig::default() };
    let fit = |draw: usize| {
        let drawn = balanced_draw(labels, classes, per_class, key.fold(draw))?;
        let few: Vec<u32> = drawn.iter().map(|&i| labels[i]).collect();
        Ok(linear_probe(&rows(features, &drawn), &few, classes, &config, key)?.head)
    };
    (0..draws).map(fit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::Toy;
    use proptest::prelude::*;

    #[test]
    fn all_labels_give_the_head_of_all_images() {
        let toy = Toy::new(2, 90, 6, 3, 1);
        let z = toy.encode(&toy.images);
        // As many of each class as the rarest has, so that a share of one draws exactly these.
        let counts = [0, 1, 2].map(|class| toy.labels.iter().filter(|&&label| label == class).count());
        let least = counts.into_iter().min().unwrap();
        let kept: Vec<usize> = balanced_draw(&toy.labels, 3, least, Key::new(0)).unwrap();
        let labels: Vec<u32> = kept.iter().map(|&i| toy.labels[i]).collect();
        let z = rows(&z, &kept);
        let heads = few_label_heads(&z, &labels, 3, 1.0, 2, 0.1, Key::new(1)).unwrap();
        let config = ProbeConfig { l2: vec![0.1], ..ProbeConfig::default() };
        let whole = linear_probe(&z, &labels, 3, &config, Key::new(5)).unwrap().head;
        assert!(heads.iter().all(|head| head.weight() == whole.weight() && head.bias() == whole.bias()));
    }

    #[test]
    fn a_class_without_enough_samples_is_an_error() {
        let error = balanced_draw(&[0, 0, 1], 2, 2, Key::new(0)).unwrap_err();
        assert_eq!(error, FitError::TooFew { class: 1, found: 1, wanted: 2 });
    }

    proptest! {
        #[test]
        fn draws_are_balanced_distinct_and_differ(seed: u64, per_class in 1usize..6) {
            let labels: Vec<u32> = (0..60).map(|i| i % 3).collect();
            let draw = |key: Key| balanced_draw(&labels, 3, per_class, key).unwrap();
            let drawn = draw(Key::new(seed));
            prop_assert!(drawn.windows(2).all(|w| w[0] < w[1]));
            for class in 0..3 {
                prop_assert_eq!(drawn.iter().filter(|&&i| labels[i] == class).count(), per_class);
            }
            // Sixteen draws of 3 · per_class ≤ 15 of 60 images agree with a chance below 20⁻³⁰.
            prop_assert!((0..16usize).any(|i| draw(Key::new(seed).fold(i)) != drawn));
        }
    }
}
