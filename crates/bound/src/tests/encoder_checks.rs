//! Property checks of encoders: they pass where the theorems hold, and report violations.

use super::thousand;
use crate::SoftmaxHead;
use crate::check::strategies::{
    encoders, images, linear_heads, mlp_heads, normalized_heads, perturbations, shapes, threats,
};
use crate::check::{self, Violation};
use crate::{LinearHead, LpNorm};
use proptest::prelude::*;
use tarrl_attacks::{Pgd, Threat};
use tarrl_tensor::{Key, Tensor, cpu};

/// A shape, images of it, a threat, a point of each ball, an encoder.
fn instances() -> impl Strategy<Value = (Tensor, Tensor, Threat, check::strategies::RandomEncoder)> {
    shapes().prop_flat_map(|shape| {
        let inputs = shape[1] * shape[2] * shape[3];
        (images(shape), threats(), encoders(inputs)).prop_flat_map(|(x, threat, encoder)| {
            let moved = perturbations(&x, &threat);
            (Just(x), moved, Just(threat), Just(encoder))
        })
    })
}

proptest! {
    #![proptest_config(thousand())]

    #[test]
    fn the_bound_holds_for_random_encoders(
        ((x, moved, _, encoder), linear, hidden, cosine) in instances().prop_flat_map(|instance| {
            let d = instance.3.features();
            (Just(instance), linear_heads(d), mlp_heads(d), normalized_heads(d))
        }),
        label in 0usize..2,
    ) {
        let encode = |x: &Tensor| encoder.encode(x);
        let labels = vec![label; x.shape()[0]];
        for head in [&linear as &dyn SoftmaxHead, &hidden, &cosine] {
            check::bound_holds(&encode, head, &x, &moved, &labels)?;
        }
        check::rows_are_independent(&encode, &x, 1e-12)?;
    }

    #[test]
    fn heads_ignore_common_rows(head in linear_heads(4), seed in any::<u64>()) {
        let mut random = Key::new(seed).stream();
        let common = check::strategies::normals(&mut random, 4, 0.5);
        check::head_ignores_common_row(&head, &common, &check::strategies::normals(&mut random, 4, 0.0))?;
    }
}

proptest! {
    /// Attacks, of which each costs some passes, below the product of norms, which is a certificate.
    #[test]
    fn attacks_lie_between_zero_and_a_certificate((x, moved, threat, encoder) in instances()) {
        let encode = |x: &Tensor| encoder.encode(x);
        let attack = |epsilon: f64| {
            let pgd = Pgd { steps: 4, step_size: epsilon / 2.0, ..Pgd::default() };
            check::displacements(&encode, &x, &Threat { epsilon, ..threat }, &pgd, Key::new(3))
        };
        let (n, inputs) = (x.shape()[0], x.shape().len() / x.shape()[0]);
        let norm = |w: &Tensor| w.square().sum_all().item().sqrt();
        let slope = norm(&encoder.first) * norm(&encoder.second);
        let certificate = |epsilon: f64| {
            let radius = match threat.norm {
                tarrl_attacks::Norm::L2 => epsilon,
                tarrl_attacks::Norm::Linf => epsilon * (inputs as f64).sqrt(),
                other => unreachable!("no encoder is drawn with {other}"),
            };
            // Some hundred roundings of 1e-16.
            vec![slope * radius * (1.0 + 1e-12); n]
        };
        for measure in [&attack as &dyn Fn(f64) -> Vec<f64>, &certificate] {
            check::is_zero_at_zero_epsilon(measure)?;
        }
        check::is_monotone_in_epsilon(&certificate, &[0.0, 0.1 * threat.epsilon, threat.epsilon], 0.0)?;
        check::attack_is_below_certificate(&attack(threat.epsilon), &certificate(threat.epsilon))?;
        let (z, end) = (encode(&x).to_vec::<f64>(), encode(&moved).to_vec::<f64>());
        let pairs = z.chunks(encoder.features()).zip(end.chunks(encoder.features()));
        let reached: Vec<f64> = pairs.map(|(a, b)| LpNorm::L2.distance(a, b)).collect();
        check::attack_is_below_certificate(&reached, &certificate(threat.epsilon))?;
    }
}

#[test]
fn violations_are_reported() {
    let x = Tensor::new(&cpu(), [2, 1], &[0.2, 0.9]);
    let moved = x.add_scalar(0.05);
    // An encoder whose rows depend on each other.
    let batch = |x: &Tensor| x - &x.mean(0);
    assert!(matches!(check::rows_are_independent(&batch, &x, 1e-9), Err(Violation::Above { .. })));
    let identity = |x: &Tensor| x.clone();
    assert_eq!(check::rows_are_independent(&identity, &x, 0.0), Ok(()));

    // A head that understates how far its gaps move.
    struct Wrong(LinearHead);
    impl SoftmaxHead for Wrong {
        fn classes(&self) -> usize {
            2
        }
        fn features(&self) -> usize {
            1
        }
        fn gaps(&self, z: &[f64], label: usize) -> Vec<f64> {
            self.0.gaps(z, label)
        }
        fn radius_supports(&self, _: &[f64], label: usize, radius: f64) -> Vec<f64> {
            self.0.supports(label, LpNorm::L2, 0.95 * radius)
        }
        fn gap_rounding(&self, z: &[f64], label: usize, radius: f64) -> Vec<f64> {
            self.0.gap_rounding(z, label, radius)
        }
    }
    let head = |bias: f64| Wrong(LinearHead::new(2, 1, vec![0.0, 10.0], vec![0.0, bias]));
    let wrong = check::bound_holds(&identity, &head(0.0), &x, &moved, &[0, 0]);
    assert!(matches!(wrong, Err(Violation::Above { .. })), "{wrong:?}");
    assert_eq!(check::bound_holds(&identity, &head(0.0).0, &x, &moved, &[0, 0]), Ok(()));

    assert_eq!(check::attack_is_below_certificate(&[0.1, 0.2], &[0.1, 0.3]), Ok(()));
    assert!(check::attack_is_below_certificate(&[0.1, 0.2 + 1e-15], &[0.1, 0.2]).is_err(), "no slack");
    assert!(check::attack_is_below_certificate(&[f64::NAN], &[1.0]).is_err());
    assert!(check::is_monotone_in_epsilon(&|e| vec![1.0 - e], &[0.1, 0.2], 0.0).is_err());
    assert!(check::is_zero_at_zero_epsilon(&|e| vec![e, e + 1e-300]).is_err());
    // A singular map.
    let z: Vec<f64> = (0..8).map(|i| ((i * i) as f64).sin()).collect();
    assert_eq!(check::length_ignores_linear_map(&z, &[1.0, 2.0], &[2.0, 1.0, 0.0, 3.0], 1e-9), Ok(()));
    assert!(check::length_ignores_linear_map(&z, &[1.0, 2.0], &[1.0, 1.0, 1.0, 1.0], 1e-9).is_err());
}
