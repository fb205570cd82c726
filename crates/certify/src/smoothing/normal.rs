//! Normal quantile rounded down, by bisection: a certified radius may not be rounded up.

/// `Φ⁻¹(p)`, rounded down.
pub(super) fn quantile_rounded_down(p: f64) -> f64 {
    let distribution = |t: f64| 0.5 * libm::erfc(-t / std::f64::consts::SQRT_2);
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if distribution(middle) < p { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_matches_its_reference_value() {
        // The distribution function is known to some 1e-16, its slope at the quantile is 0.06.
        assert!((quantile_rounded_down(0.975) - 1.959963984540054).abs() < 1e-12);
    }
}
