//! Bootstrap intervals of statistics over seeds and test images that several methods share.

use tarrl_tensor::Key;

/// Resamplings of an interval.
const REPLICATES: usize = 1000;

/// One resampling: which seeds, and how often each image.
#[derive(Clone, Debug)]
pub struct Resample {
    /// Positions of seeds, drawn with replacement.
    pub seeds: Vec<usize>,
    /// How often each image was drawn; as many draws as there are images.
    pub images: Vec<u32>,
}

/// The resamplings of `seeds` seeds and `images` images by `key`: the same for every statistic, so that statistics of two
/// methods are paired. One seed is not resampled.
pub fn resamples(seeds: usize, images: usize, key: Key) -> Vec<Resample> {
    let draw = |i: usize| {
        let mut stream = key.fold("bootstrap").fold(i).stream();
        let seeds = if seeds == 1 { vec![0] } else { (0..seeds).map(|_| stream.below(seeds)).collect() };
        let mut counts = vec![0; images];
        (0..images).for_each(|_| counts[stream.below(images)] += 1);
        Resample { seeds, images: counts }
    };
    (0..REPLICATES).map(draw).collect()
}

/// Half the width of the 95 % percentile interval around `estimate` of a statistic with the values `replicates` on
/// resamplings of `seeds` seeds; the longer side where the interval is not symmetric. `None` if more than a twentieth of
/// the values is undefined.
///
/// Draws from few seeds vary less than seeds do, in variance by the factor `(s - 1) / s` for `s` of them; with two or more
/// the interval is stretched by its root.
pub fn half_width(estimate: f64, replicates: &[Option<f64>], seeds: usize) -> Option<f64> {
    let mut values: Vec<f64> = replicates.iter().copied().flatten().collect();
    if values.is_empty() || 20 * (replicates.len() - values.len()) > replicates.len() {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[(share * (values.len() - 1) as f64).round() as usize];
    let stretch = if seeds > 1 { (seeds as f64 / (seeds - 1) as f64).sqrt() } else { 1.0 };
    Some(stretch * (estimate - at(0.025)).max(at(0.975) - estimate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resampling_draws_as_many_images_as_there_are() {
        for resample in resamples(3, 50, Key::new(1)) {
            assert_eq!(resample.images.iter().sum::<u32>(), 50);
            assert!(resample.seeds.len() == 3 && resample.seeds.iter().all(|&s| s < 3));
        }
        assert!(resamples(1, 5, Key::new(1)).iter().all(|r| r.seeds == [0]));
        let images = |key| resamples(2, 9, key)[7].images.clone();
        assert_eq!(images(Key::new(4)), images(Key::new(4)));
        assert_ne!(images(Key::new(4)), images(Key::new(5)));
    }

    /// 1.96 √(p (1 − p) / n); a percentile of 1,000 replicates has a standard error of about 4 % of the half-width, and the
    /// longer side is taken.
    #[test]
    fn the_interval_of_an_accuracy_is_that_of_the_normal_approximation() {
        let (n, p) = (400usize, 0.3);
        let right: Vec<bool> = (0..n).map(|i| (i as f64) < p * n as f64).collect();
        let accuracy = |r: &Resample| {
            let hits = r.images.iter().zip(&right).filter(|(_, right)| **right).map(|(c, _)| *c).sum::<u32>();
            Some(f64::from(hits) / n as f64)
        };
        let replicates: Vec<Option<f64>> = resamples(1, n, Key::new(2)).iter().map(accuracy).collect();
        let found = half_width(p, &replicates, 1).unwrap();
        let normal = 1.959964 * (p * (1.0 - p) / n as f64).sqrt();
        assert!((0.88..1.25).contains(&(found / normal)), "{found} {normal}");
        assert_eq!(half_width(p, &replicates, 2), Some(2f64.sqrt() * found));
    }

    #[test]
    fn a_statistic_that_is_undefined_too_often_has_no_interval() {
        let mut values = vec![Some(1.0); 95];
        values.extend([None; 5]);
        assert_eq!(half_width(1.0, &values, 1), Some(0.0));
        values.push(None);
        assert_eq!(half_width(1.0, &values, 1), None);
        assert_eq!(half_width(1.0, &[], 1), None);
    }
}
