//! Optimized slopes: an example worked by hand, and that they are never worse.

use super::{Net, config, device, pixels};
use crate::{Effort, Network, certify};
use tarrl_attacks::{Norm, Threat};
use tarrl_tensor::{Key, Tensor};

/// `f = ½ δ − relu(δ)` for `δ` in [−0.4, 0.6], which is at most 0. The lower line of slope 1 leaves the smaller triangle
/// and gives `−½ δ ≤ 0.2`; slope ½ gives 0. The first step moves the slope by ½.
#[test]
fn the_best_slope_of_one_unit_is_found() {
    let device = device();
    let w = Tensor::new(&device, [1, 2], &[1.0f32, 1.0]);
    let b = Tensor::new(&device, [1, 2], &[-0.5f32, 1.0]);
    let v = Tensor::new(&device, [2, 1], &[-1.0f32, 0.5]);
    let encode = |x: &Tensor| {
        let cast = |t: &Tensor| t.cast(x.dtype());
        (&x.matmul(&cast(&w)) + &cast(&b)).relu().matmul(&cast(&v))
    };
    let x = Tensor::new(&device, [1, 1], &[0.5f32]);
    let network = Network::trace(&encode, &x).unwrap();
    let threat = Threat { bounds: Some((0.1, 1.1)), ..Threat::linf(0.6) };
    let upper = |effort| certify(&network, &x, &config(effort, threat)).unwrap().0.remove(0).upper[0];
    let (full, optimized) = (upper(Effort::Full), upper(Effort::Optimized));
    // 0.1 and 0.6 are rounded numbers.
    assert!((full - 0.2).abs() < 1e-12, "{full}");
    assert!((0.0..1e-12).contains(&optimized), "{optimized}");
}

/// No bound is above that of full effort but for rounding, and some are well below.
#[test]
fn optimized_boxes_lie_in_those_of_full_effort() {
    let mut least = 1.0f64;
    for seed in 0..6 {
        let key = Key::new(seed).fold("optimized");
        let net = Net::new(key);
        let x = pixels(&net.device, key.fold("x"), &[2, 8, 8, 1]);
        let network = Network::trace(&|x| net.encode(x), &x).unwrap();
        for threat in [Threat::linf(0.05), Threat::new(Norm::L2, 0.3)] {
            let run = |effort| certify(&network, &x, &config(effort, threat)).unwrap().0;
            for (full, optimized) in run(Effort::Full).iter().zip(run(Effort::Optimized)) {
                for i in 0..network.features() {
                    let (full, optimized) = (full.upper[i], optimized.upper[i]);
                    // Boxes of units that are smaller give other chords, which can be worse for a single output.
                    assert!(optimized <= 1.02 * full, "{threat:?}: {optimized} of {full}");
                    least = least.min(optimized / full);
                }
            }
        }
    }
    assert!(least < 0.9, "no bound is a tenth smaller: {least}");
}
