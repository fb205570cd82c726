//! The contrastive loss on attacked views with the regularizer: the inequalities of section I of docs/theory.md.

use proptest::prelude::*;
use tarrl_bound::{Divergence, LinearHead, LpNorm, spread};
use tarrl_objectives::nt_xent;
use tarrl_tensor::{DType, Key, Random, Tensor, cpu};

/// Normal numbers `(n, d)` in f64.
fn normal(seed: u64, name: &str, n: usize, d: usize) -> Tensor {
    let keys: Vec<Key> = (0..n).map(|i| Key::new(seed).fold(name).fold(i)).collect();
    Tensor::random(&cpu(), Random::Normal, &keys, &[d], DType::F64)
}

/// The least value that NT-Xent of two views of `n` images can have.
fn least_nt_xent(n: usize, temperature: f64) -> f64 {
    ((2 * n - 2) as f64 * (-2.0 / temperature).exp()).ln_1p()
}

/// Two views of `n` images, and points near them.
struct Views {
    clean: [Tensor; 2],
    moved: [Tensor; 2],
}

fn views(seed: u64, n: usize, d: usize, size: f64) -> Views {
    let clean = ["first", "second"].map(|name| normal(seed, name, n, d));
    let step = |view: usize| normal(!seed, ["first", "second"][view], n, d).mul_scalar(size);
    let moved = [0, 1].map(|view| &clean[view] + &step(view));
    Views { clean, moved }
}

proptest! {
    /// Theorem I2, and that its limits are in order: no smaller than the least value.
    #[test]
    fn i2_the_objective_changes_by_at_most_the_displacement_of_unit_embeddings(
        seed in any::<u64>(), n in 2usize..7, d in 2usize..6, decade in -3.0f64..1.0, temperature in 0.1f64..2.0,
    ) {
        let Views { clean, moved } = views(seed, n, d, 10f64.powf(decade));
        let loss = |views: &[Tensor; 2]| nt_xent(&views[0], &views[1], temperature).item();
        let chords = (0..2).flat_map(|view| {
            let between = &moved[view].l2_normalize(1e-12) - &clean[view].l2_normalize(1e-12);
            between.norm(1).to_vec::<f64>()
        });
        let chords: Vec<f64> = chords.collect();
        let mean = chords.iter().sum::<f64>() / chords.len() as f64;
        let most = chords.iter().fold(0.0, |a: f64, &b| a.max(b));
        let change = (loss(&moved) - loss(&clean)).abs();
        prop_assert!(change <= (3.0 * mean + most) / temperature + 1e-9, "{change} with {mean} and {most}");
        prop_assert!(loss(&moved) >= least_nt_xent(n, temperature) - 1e-12);
    }

    /// Theorem I3: what training reached bounds the loss of every head at the attacked points.
    #[test]
    fn i3_the_composed_loss_bounds_every_head(
        seed in any::<u64>(), n in 2usize..7, decade in -3.0f64..0.5, weight in 0.1f64..10.0, temperature in 0.2f64..2.0,
    ) {
        let (side, d, out) = (4, 3, 2);
        let (w, g) = (normal(seed, "encoder", side, d), normal(seed, "projector", d, out));
        let Views { clean, moved } = views(seed, n, side, 10f64.powf(decade));
        let [z, moved] = [clean, moved].map(|views| views.map(|v| v.matmul(&w).tanh()));
        let objective = nt_xent(&moved[0].matmul(&g), &moved[1].matmul(&g), temperature).item();
        let head_numbers = normal(seed, "head", 4, d + 1).to_vec::<f64>();
        let head = LinearHead::new(4, d, head_numbers[..4 * d].to_vec(), head_numbers[4 * d..].to_vec());
        let r: f64 = (0..2).map(|view| Divergence::RelativeL2.mean(&z[view], &moved[view]).item()).sum::<f64>() / 2.0;
        let limit = (objective + weight * r - least_nt_xent(n, temperature)) / weight;
        let loss = |views: &[Tensor; 2]| {
            let rows = views.iter().flat_map(|view| view.to_vec::<f64>()).collect::<Vec<f64>>();
            rows.chunks(d).map(|z| head.loss(z, 1)).sum::<f64>() / (2 * n) as f64
        };
        let widest = spread(&z[0]).item().max(spread(&z[1]).item());
        let bound = loss(&z) + head.constant(LpNorm::L2) * widest * limit;
        prop_assert!(loss(&moved) <= bound + 1e-9 * (1.0 + bound), "{} > {bound}", loss(&moved));
    }
}

/// The least value is attained: positives equal, all others opposite, as two images allow.
#[test]
fn i2_the_least_value_of_the_contrastive_loss_is_attained() {
    let view = Tensor::new(&cpu(), [2, 2], &[1.0, 0.0, -1.0, 0.0]);
    let found = nt_xent(&view, &view, 0.5).item();
    assert!((found - least_nt_xent(2, 0.5)).abs() < 1e-14, "{found}");
}

/// Theorem I4: an attacked objective that does not move leaves any displacement open, so that neither the objective nor an
/// attack on it says what R does. The projector forgets the second coordinate.
#[test]
fn i4_the_attacked_objective_alone_bounds_no_displacement() {
    let clean = normal(1, "view", 4, 2);
    let moved = &clean + &Tensor::new(&cpu(), [1, 2], &[0.0, 100.0]);
    let project = |z: &Tensor| z.matmul(&Tensor::new(&cpu(), [2, 2], &[1.0, 1.0, 0.0, 0.0]));
    let loss = |z: &Tensor| nt_xent(&project(z), &project(z), 0.5).item();
    assert_eq!(loss(&clean), loss(&moved));
    assert!(Divergence::RelativeL2.mean(&clean, &moved).item() > 10.0);
}
