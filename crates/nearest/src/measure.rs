//! The measure of minimum-norm attacks: how near their distances are to the nearest known ones.

/// How near the distances of an attack are to reference distances of the same samples (Cinà et al. 2025).
///
/// Samples whose reference distance is zero, which are wrong already, or infinite do not count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimality {
    /// Σ (ε₀ − min(dᵢ, ε₀)) / Σ (ε₀ − dᵢ*) with the largest reference distance ε₀, in [0, 1]: 1 where all are as near as
    /// the reference, 0 where nothing was found.
    pub local: f64,
    /// The median of dᵢ / dᵢ*.
    pub median_ratio: f64,
    /// The share of samples with dᵢ ≤ 1.01 dᵢ*.
    pub within_one_percent: f64,
    /// The largest dᵢ / dᵢ*.
    pub worst_ratio: f64,
    /// The samples that count.
    pub samples: usize,
}

/// The optimality of `distances` `(n)`, infinite where nothing was found, against `reference` `(n)`, such as the least of
/// several attacks; `None` if no sample counts.
///
/// One sample that is hard sets the scale of the first number and leaves it lenient to the others; the median and the share
/// are not.
///
/// ```
/// use tarrl_nearest::optimality;
///
/// let reference = [0.0, 1.0, 2.0, 4.0];
/// let found = optimality(&[0.0, 1.0, 3.0, f64::INFINITY], &reference).unwrap();
/// assert_eq!(found.local, 0.8); // (3 + 1 + 0) / (3 + 2 + 0)
/// assert_eq!(optimality(&[0.0, f64::INFINITY, f64::INFINITY, f64::INFINITY], &reference).unwrap().local, 0.0);
/// assert_eq!(optimality(&reference, &reference).unwrap().local, 1.0);
/// ```
///
/// # Panics
/// If there are not as many distances as references.
#[track_caller]
pub fn optimality(distances: &[f64], reference: &[f64]) -> Option<Optimality> {
    let (n, known) = (distances.len(), reference.len());
    assert_eq!(n, known, "optimality: {n} distances, {known} references");
    let pairs: Vec<(f64, f64)> = distances
        .iter()
        .copied()
        .zip(reference.iter().copied())
        .filter(|(_, best)| *best > 0.0 && best.is_finite())
        .collect();
    if pairs.is_empty() {
        return None;
    }
    let most = pairs.iter().fold(0.0f64, |most, (_, best)| most.max(*best));
    let reached: f64 = pairs.iter().map(|(found, _)| most - found.min(most)).sum();
    let possible: f64 = pairs.iter().map(|(_, best)| most - best).sum();
    let mut ratios: Vec<f64> = pairs.iter().map(|(found, best)| found / best).collect();
    ratios.sort_by(f64::total_cmp);
    // All equally far: as near as the reference, or not.
    let even = pairs.iter().filter(|(found, best)| found <= best).count() as f64 / pairs.len() as f64;
    let local = if possible > 0.0 { (reached / possible).clamp(0.0, 1.0) } else { even };
    let within = ratios.iter().filter(|ratio| **ratio <= 1.01).count();
    Some(Optimality {
        local,
        median_ratio: 0.5 * (ratios[(ratios.len() - 1) / 2] + ratios[ratios.len() / 2]),
        within_one_percent: within as f64 / ratios.len() as f64,
        worst_ratio: ratios[ratios.len() - 1],
        samples: ratios.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: ratios 1, 1.5 and infinity of the three samples that count.
    #[test]
    fn ratios_are_those_worked_out_by_hand() {
        let found = optimality(&[0.0, 1.0, 3.0, f64::INFINITY], &[0.0, 1.0, 2.0, 4.0]).unwrap();
        let third = 1.0 / 3.0;
        assert_eq!((found.median_ratio, found.within_one_percent, found.samples), (1.5, third, 3));
        assert_eq!(found.worst_ratio, f64::INFINITY);
        assert_eq!(optimality(&[0.0, 1.0], &[0.0, f64::INFINITY]), None);
        let even = optimality(&[2.0, 3.0], &[2.0, 2.0]).unwrap();
        assert_eq!((even.local, even.median_ratio), (0.5, 1.25));
    }
}
