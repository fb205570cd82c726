//! Test helpers of the losses: golden values, differences, permutations.

use tarrl_tensor::{Array, DType, Key, Random, Tensor, cpu, grad};

/// A loss of several tensors.
pub(crate) type Loss<'a> = &'a dyn Fn(&[Tensor]) -> Tensor;

/// The two views that golden values below are of; rows are samples. Those values were computed twice in f64, by two
/// separately written formulas, to nine digits and more.
pub(crate) fn golden_views() -> [Tensor; 2] {
    let z1 = [1., 2., 0., 0., 1., -1., 2., 0., 1., -1., 1., 1.];
    let z2 = [1., 1., 0.5, 0.5, 1., -0.5, 1.5, -0.5, 1., -0.5, 1., 2.];
    [z1, z2].map(|z: [f64; 12]| Tensor::new(&cpu(), [4, 3], &z))
}

/// Normal rows `(n, d)` in f64.
pub(crate) fn normal(seed: u64, n: usize, d: usize) -> Tensor {
    let keys: Vec<Key> = (0..n).map(|i| Key::new(seed).fold(i)).collect();
    Tensor::random(&cpu(), Random::Normal, &keys, &[d], DType::F64)
}

/// U32 labels.
pub(crate) fn labels(values: &[u32]) -> Array {
    Array::new(&cpu(), [values.len()], values)
}

/// The value in f64 to nine digits, and in f32 to five.
#[track_caller]
pub(crate) fn assert_golden(loss: Loss<'_>, at: &[Tensor], golden: f64) {
    let wide = loss(at).item();
    assert!((wide - golden).abs() < 1e-9, "{wide} but {golden}");
    let narrow: Vec<Tensor> = at.iter().map(|z| z.cast(DType::F32)).collect();
    let narrow = loss(&narrow).item();
    assert!((narrow - golden).abs() < 1e-5 * golden.abs().max(1.0), "in f32 {narrow} but {golden}");
}

/// The gradient in the first tensor, all others constants: its first row, and its norm if known.
#[track_caller]
pub(crate) fn assert_golden_gradient(loss: Loss<'_>, at: &[Tensor], row: &[f64], norm: Option<f64>) {
    let mut moving = at.to_vec();
    moving[0] = moving[0].requires_grad();
    let found = grad(&loss(&moving), &[&moving[0]]).remove(0).to_vec::<f64>();
    for (found, golden) in found.iter().zip(row) {
        assert!((found - golden).abs() < 1e-9, "{found} but {golden}");
    }
    let length = found.iter().map(|g| g * g).sum::<f64>().sqrt();
    assert!(norm.is_none_or(|norm| (length - norm).abs() < 1e-9), "norm {length} but {norm:?}");
}

/// The gradients in all tensors.
pub(crate) fn gradients(loss: Loss<'_>, at: &[Tensor]) -> Vec<Tensor> {
    let at: Vec<Tensor> = at.iter().map(Tensor::requires_grad).collect();
    grad(&loss(&at), &at.iter().collect::<Vec<_>>())
}

/// Every element of every gradient against central differences of fourth order. Their error is of the order h⁴/30 times
/// the fifth derivative, plus 1e-16/h: at h = 3e-4 below 1e-9 for fifth derivatives up to a million.
#[track_caller]
pub(crate) fn assert_differences(loss: Loss<'_>, at: &[Tensor]) {
    const H: f64 = 3e-4;
    for (which, exact) in gradients(loss, at).iter().enumerate() {
        for (i, g) in exact.to_vec::<f64>().into_iter().enumerate() {
            let side = |step: f64| {
                let mut moved = at.to_vec();
                let mut values = at[which].to_vec::<f64>();
                values[i] += step;
                moved[which] = Tensor::new(&cpu(), *at[which].shape(), &values);
                loss(&moved).item()
            };
            let slope = (8.0 * (side(H) - side(-H)) - (side(2.0 * H) - side(-2.0 * H))) / (12.0 * H);
            assert!(
                (g - slope).abs() < 1e-9 * (1.0 + g.abs()),
                "tensor {which}, element {i}: {g} but {slope}"
            );
        }
    }
}

/// Equal up to `slack`, relative to the largest element.
#[track_caller]
pub(crate) fn assert_close(found: &Tensor, expected: &Tensor, slack: f64) {
    assert_eq!(found.shape(), expected.shape());
    let (found, expected) = (found.array().to_f64(), expected.array().to_f64());
    let scale = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
        assert!((a - b).abs() <= slack * scale, "element {i}: {a} but {b}");
    }
}

/// The same samples in another order: the same loss, up to the order of sums.
#[track_caller]
pub(crate) fn assert_order_is_free(loss: Loss<'_>, at: &[Tensor]) {
    let n = at[0].shape()[0];
    let mut order: Vec<u32> = (0..n as u32).collect();
    Key::new(n as u64).fold("order").stream().shuffle(&mut order);
    let order = Array::new(&cpu(), [n], &order);
    let permuted: Vec<Tensor> = at.iter().map(|z| z.gather(0, &order)).collect();
    let (value, other) = (loss(at).item(), loss(&permuted).item());
    assert!((value - other).abs() < 1e-11 * (1.0 + value.abs()), "{value} but permuted {other}");
}

/// What a gradient in the unit rows of `x` is in `x`: `(g − (g·x̂) x̂)/‖x‖`.
pub(crate) fn through_unit(g: &Tensor, x: &Tensor) -> Tensor {
    let (unit, length) = (x.l2_normalize(0.0), x.norm(1));
    &(g - &(&unit * &(g * &unit).sum(1))) / &length
}

/// `(n, n)`
pub(crate) fn identity(n: usize) -> Tensor {
    let values: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i % (n + 1) == 0))).collect();
    Tensor::new(&cpu(), [n, n], &values)
}
