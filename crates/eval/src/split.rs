//! Stratified validation splits of a training set.

use crate::fit_error::FitError;
use tarrl_tensor::Key;

/// Cuts `0..labels.len()` into (the rest, a held part) with the same mix of labels: of each label its
/// share of `fraction`, rounded, but never all; both in ascending order.
///
/// # Errors
/// If `fraction` is not inside (0, 1), or no label has the two samples that a held one needs.
pub(crate) fn stratified(
    labels: &[u32],
    fraction: f64,
    key: Key,
) -> Result<(Vec<usize>, Vec<usize>), FitError> {
    if !(fraction > 0.0 && fraction < 1.0) {
        let range = "it must be inside (0, 1)";
        return Err(FitError::Setting { field: "validation", value: fraction, range });
    }
    let classes = labels.iter().max().map_or(0, |&top| top as usize + 1);
    let mut members = vec![Vec::new(); classes];
    labels.iter().enumerate().for_each(|(i, &label)| members[label as usize].push(i));
    let (mut rest, mut held) = (Vec::new(), Vec::new());
    for (class, mut members) in members.into_iter().enumerate() {
        key.fold("validation").fold(class).stream().shuffle(&mut members);
        let share = (members.len() as f64 * fraction).round() as usize;
        let (out, stay) = members.split_at(share.max(1).min(members.len().saturating_sub(1)));
        held.extend(out);
        rest.extend(stay);
    }
    if held.is_empty() {
        return Err(FitError::Validation);
    }
    rest.sort_unstable();
    held.sort_unstable();
    Ok((rest, held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_stratified_split_keeps_the_mix_of_labels(
            labels in proptest::collection::vec(0u32..4, 8..200), fraction in 0.05f64..0.95, seed: u64,
        ) {
            let (rest, held) = stratified(&labels, fraction, Key::new(seed)).unwrap();
            let mut all = [rest.clone(), held.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
            for class in 0..4u32 {
                let count = |part: &[usize]| part.iter().filter(|&&i| labels[i] == class).count();
                let (stay, out) = (count(&rest), count(&held));
                prop_assert!(stay > 0 || out == 0);
                prop_assert!((out as f64 - fraction * (stay + out) as f64).abs() <= 1.0);
            }
            prop_assert_eq!(stratified(&labels, fraction, Key::new(seed)), Ok((rest, held)));
        }
    }
}
