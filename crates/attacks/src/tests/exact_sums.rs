//! Comparisons without any rounding: sums of floating point numbers as expansions (Shewchuk 1997).

use crate::Norm;

/// A sum of numbers that do not overlap, smallest first: the exact value of what was added.
#[derive(Default)]
struct Exact(Vec<f64>);

impl Exact {
    fn add(&mut self, value: f64) {
        let mut carry = value;
        for part in &mut self.0 {
            let (sum, error) = two_sum(carry, *part);
            (carry, *part) = (sum, error);
        }
        self.0.push(carry);
        self.0.retain(|v| *v != 0.0);
    }

    /// Adds a·b, whose rounding error a fused multiplication finds.
    fn add_product(&mut self, a: f64, b: f64) {
        let product = a * b;
        self.add(product);
        self.add(a.mul_add(b, -product));
    }

    fn is_positive(&self) -> bool {
        self.0.last().is_some_and(|v| *v > 0.0)
    }
}

fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let taken = sum - a;
    (sum, (a - (sum - taken)) + (b - taken))
}

/// Whether `u` is farther from `x` than `epsilon`, decided exactly.
pub(super) fn leaves(norm: Norm, x: &[f64], u: &[f64], epsilon: f64) -> bool {
    let mut excess = Exact::default();
    match norm {
        Norm::Linf => {
            return x.iter().zip(u).any(|(&x, &u)| {
                let (far, near) = if u > x { (u, x) } else { (x, u) };
                let mut excess = Exact::default();
                [far, -near, -epsilon].into_iter().for_each(|v| excess.add(v));
                excess.is_positive()
            });
        }
        Norm::L0 => return x.iter().zip(u).filter(|(x, u)| x != u).count() as f64 > epsilon,
        Norm::L1 => {
            for (&x, &u) in x.iter().zip(u) {
                let (far, near) = if u > x { (u, x) } else { (x, u) };
                excess.add(far);
                excess.add(-near);
            }
            excess.add(-epsilon);
        }
        Norm::L2 => {
            for (&x, &u) in x.iter().zip(u) {
                // (u − x)² = u² − 2ux + x².
                excess.add_product(u, u);
                excess.add_product(-2.0 * u, x);
                excess.add_product(x, x);
            }
            excess.add_product(-epsilon, epsilon);
        }
    }
    excess.is_positive()
}

#[test]
fn membership_is_decided_in_the_last_bit() {
    // 1 + 2⁻⁶⁰ is no f64; (1 − 2⁻⁵³) + 2⁻⁵³ is 1.
    let (tiny, half) = ((-60f64).exp2(), (-53f64).exp2());
    assert!(!leaves(Norm::L1, &[0.0, 0.0], &[1.0 - half, half], 1.0));
    assert!(leaves(Norm::L1, &[0.0, 0.0], &[1.0, tiny], 1.0));
    assert!(
        leaves(Norm::L2, &[0.0, 0.0], &[0.6, 0.8], 1.0),
        "0.8 is rounded up in f64, by more than 0.6 is down"
    );
    assert!(!leaves(Norm::L2, &[0.0, 0.0], &[0.6, 0.8f64.next_down()], 1.0));
    assert!(leaves(Norm::Linf, &[-tiny], &[1.0], 1.0) && !leaves(Norm::Linf, &[tiny], &[1.0], 1.0));
    assert!(leaves(Norm::L0, &[1.0, 1.0], &[1.0, 0.0], 0.5));
}
