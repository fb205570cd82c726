use super::*;
use crate::testing::{assert_differences, assert_order_is_free, normal};

/// From the definition, in plain numbers: `softmax` of the similarities over the batch, then `Σ q (ln q − p)`.
#[test]
fn values_match_the_definition() {
    let at: Vec<Tensor> = (1..6).map(|seed| normal(seed, 4, 3)).collect();
    let chance = |a: &Tensor, b: &Tensor| -> Vec<f64> {
        let (a, b) = (a.to_vec::<f64>(), b.to_vec::<f64>());
        let length = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>().sqrt();
        let weights: Vec<f64> = a
            .chunks(3)
            .zip(b.chunks(3))
            .map(|(a, b)| {
                let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                (dot / (length(a) * length(b)) / 0.5).exp()
            })
            .collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / total).collect()
    };
    let against = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| q * (q.ln() - p)).sum::<f64>();
    let [t, u, image, adv_t, adv_u] = &at[..] else { unreachable!() };
    let found = invariance([t, u], image, 0.5).item();
    assert!((found - against(&chance(t, image), &chance(u, image))).abs() < 1e-13, "{found}");
    let product = |adv: &Tensor, view: &Tensor| -> Vec<f64> {
        chance(adv, image).iter().zip(chance(adv, view)).map(|(a, b)| a * b).collect()
    };
    let found = adversarial_invariance([adv_t, adv_u], [t, u], image, 0.5).item();
    assert!((found - against(&product(adv_t, t), &product(adv_u, u))).abs() < 1e-13, "{found}");
}

#[test]
fn gradients_match_differences_and_the_order_of_rows_is_free() {
    let at: Vec<Tensor> = (1..6).map(|seed| normal(seed, 3, 4)).collect();
    let both = |z: &[Tensor]| {
        let adversarial = adversarial_invariance([&z[3], &z[4]], [&z[0], &z[1]], &z[2], 0.5);
        &invariance([&z[0], &z[1]], &z[2], 0.5) + &adversarial
    };
    assert_differences(&both, &at);
    assert_order_is_free(&both, &at);
}
