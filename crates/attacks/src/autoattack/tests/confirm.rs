//! Fresh draws for what was found on a random model.

use super::{Network, samples, threat};
use crate::autoattack::{AutoAttack, SuiteRun, Version};
use crate::threat::Norm;
use crate::{Eot, Query};
use std::cell::RefCell;
use std::collections::HashSet;
use tarrl_tensor::{Key, Tensor};

/// A model that errs in three of ten draws at every point: some evaluation of an attack is lucky, and fresh draws say
/// so. None of them was among those that the attack was told.
#[test]
fn lucky_draws_are_not_confirmed_by_fresh_ones() {
    let network = Network::new(3);
    let (x, labels, keys) = samples(&network, 6);
    let config = AutoAttack { steps: 10, ..AutoAttack::new(Version::Rand) };
    let ball = threat(Norm::Linf).around(&x);
    let mut run = SuiteRun::new(ball, &labels, &keys, config.parts(Norm::Linf), config.run);
    let told = RefCell::new(HashSet::new());
    let model = |u: &Tensor, query: Query<'_>| {
        let row = |(&row, &pass): (&usize, &u32)| {
            assert!(told.borrow_mut().insert((row, pass)), "draw {pass} of sample {row} comes twice");
            let luck = Key::new(5).fold(row).fold(u64::from(pass)).stream().uniform(0.0, 1.0) < 0.3;
            let predicted = (labels[row] + u32::from(luck)) % 3;
            (0..3).map(move |class| f64::from(u8::from(class == predicted)))
        };
        let fixed: Vec<f64> = query.rows.iter().zip(query.passes).flat_map(row).collect();
        let fixed = Tensor::new(u.device(), [query.rows.len(), 3], &fixed).cast(u.dtype());
        &fixed + &network.logits(u).mul_scalar(1e-6)
    };
    while run.round(&model) {}
    let attacked = told.borrow().len();
    let confirmed = run.confirm(&model, &Eot { draws: 200, share: 0.5 });
    assert_eq!(told.borrow().len(), attacked + 6 * 200);
    let found = run.finish();
    assert_eq!(
        found.forward.iter().sum::<u32>() as usize,
        attacked,
        "a confirmation is no pass of the attack"
    );
    assert_eq!(found.success, [true; 6]);
    for confirmation in confirmed {
        // 200 draws at 0.3: standard deviation 0.032.
        assert!(!confirmation.verdict.success && (confirmation.lost - 0.3).abs() < 0.15, "{confirmation:?}");
    }
}
