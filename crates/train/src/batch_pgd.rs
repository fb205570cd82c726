//! PGD on a loss that couples the images of a batch.

use tarrl_attacks::{Start, Threat};
use tarrl_bound::InnerConfig;
use tarrl_tensor::{Key, Tensor, value_and_grad};

/// The initial point `(n, …)` of PGD around images `x` `(n, …)`, with one key for each.
#[track_caller]
pub(crate) fn initial_point(x: &Tensor, attack: &InnerConfig, keys: &[Key]) -> Tensor {
    let ball = threat(attack).around_known(x);
    match attack.start {
        Start::Clean => ball.center().clone(),
        _ => ball.start(keys),
    }
}

/// PGD around images `x` `(n, …)` from an [`initial_point`]: the last iterate `(n, …)`, a constant, and the number of
/// images that went forward, and as many backward.
///
/// `value` is one scalar of all images, as a contrastive loss is. The driver of the attacks crate keeps the best point of
/// each sample, which is not the best of a sum in which every image is a negative of every other. Published
/// instance-wise attacks keep the last iterate, and so does this one, with one forward pass less.
#[track_caller]
pub(crate) fn batch_pgd(
    x: &Tensor,
    value: &dyn Fn(&Tensor) -> Tensor,
    attack: &InnerConfig,
    start: &Tensor,
) -> (Tensor, u64) {
    let ball = threat(attack).around_known(&x.detach());
    let mut u = start.clone();
    for _ in 0..attack.steps() {
        let (_, slope) = value_and_grad(&u, value);
        u = ball.project(&ball.step(&u, &slope, attack.step()));
    }
    (u.detach(), (attack.steps() * x.shape()[0]) as u64)
}

fn threat(attack: &InnerConfig) -> Threat {
    Threat { bounds: attack.bounds, ..Threat::new(attack.norm, attack.epsilon) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::cpu;

    /// A value that couples the rows: (u₀ − u₁)² grows until both rows are at opposite corners.
    #[test]
    fn coupled_rows_move_together_and_stay_in_the_ball() {
        let x = Tensor::new(&cpu(), [2, 2], &[0.5f32, 0.5, 0.5, 0.98]);
        let value = |u: &Tensor| (&u.slice(0, 0, 1) - &u.slice(0, 1, 1)).square().sum_all();
        let attack =
            InnerConfig { epsilon: 0.1, steps: Some(5), step_size: Some(0.05), ..InnerConfig::default() };
        let keys = [Key::new(1).fold(0usize), Key::new(1).fold(1usize)];
        let (u, passes) = batch_pgd(&x, &value, &attack, &initial_point(&x, &attack, &keys));
        assert_eq!(passes, 10);
        let found = u.array().to_f64();
        assert!((found[0] - found[2]).abs() > 0.2 - 1e-6, "{found:?}");
        // The box ends at 1, where the second row may go by 0.02 only.
        assert!((found[1] - 0.4).abs() < 1e-6 && (found[3] - 1.0).abs() < 1e-6, "{found:?}");
        assert!(!u.tracks_grad());
    }

    #[test]
    fn a_clean_start_steps_from_the_image() {
        let x = Tensor::new(&cpu(), [1, 2], &[0.5f32, 0.5]);
        let weights = Tensor::new(&cpu(), [2, 1], &[1.0f32, -1.0]);
        let attack = InnerConfig {
            steps: Some(1),
            step_size: Some(0.03),
            start: Start::Clean,
            epsilon: 0.1,
            ..InnerConfig::default()
        };
        let begun = initial_point(&x, &attack, &[Key::new(1)]);
        let (u, _) = batch_pgd(&x, &|u| u.matmul(&weights).sum_all(), &attack, &begun);
        let found = u.array().to_f64();
        assert!((found[0] - 0.53).abs() < 1e-6 && (found[1] - 0.47).abs() < 1e-6);
    }
}
