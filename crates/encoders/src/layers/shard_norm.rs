//! Batch norm whose batch lies on several shards (synchronized batch norm).

use tarrl_parallel::{Shard, all_sum};
use tarrl_tensor::{Array, BatchNorm as Normed, BatchNormSaved, DType, Norm, Op, Pullback, Saved, Tensor};

/// [`Tensor::batch_norm`] of the rows `(…, c)` of one shard, with the statistics of all shards, which have equally many.
///
/// Each shard's mean and squared distances from it are gathered and combined in order (Chan, Golub & LeVeque 1983), so
/// that the statistics are as exact as those of one batch. The adjoint is that of this shard's rows alone by the same
/// kernel, plus an affine map of them that replaces its means of gradients by those of all shards.
#[track_caller]
pub(super) fn shard_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, norm: Norm, shard: &Shard) -> Normed {
    let c = weight.shape()[0];
    let (own, no_relu) = (x.detach(), Norm { relu: false, ..norm });
    let Normed { mean, variance, .. } = own.batch_norm(&weight.detach(), &bias.detach(), no_relu);
    let [mean, variance] = combined([&mean, &variance], shard);
    let constants = Constants::new([&mean, &variance], &weight.detach(), norm.eps);
    let shift = &bias.detach() - &(&constants.mean * &constants.scale);
    let y = own.channel_affine(&constants.scale, &shift, norm.relu);
    let saved = [Saved::new(x), Saved::new(weight), Saved::new(bias)];
    let (stats, of) = ([mean.clone(), variance.clone()], shard.clone());
    let vjp = move |p: &Pullback<'_>| {
        let [x, w, b] = [0, 1, 2].map(|i| p.get(&saved[i]));
        if p.is_recorded() {
            return composite_adjoint(p, [&x, &w, &b], norm, &of).into();
        }
        let saved = BatchNormSaved {
            x: x.array(),
            weight: w.array(),
            bias: b.array(),
            mean: &stats[0],
            variance: &stats[1],
        };
        let wrap = |dtype, shape, buffer| Tensor::from(Array::wrap(x.device(), shape, dtype, buffer));
        let [dx, dw, db] = x.device().batch_norm_adjoint(&saved, p.dy().array(), norm);
        let dx = wrap(x.dtype(), *x.shape(), dx);
        let [dw, db] = [dw, db].map(|sums| wrap(w.dtype(), [c].into(), sums));
        let whole = p.need(0, || {
            let sums = all_sum(&Tensor::concat(&[&dw, &db], 0), &of);
            let rows = (x.array().len() / c) as f64;
            // By how much the means of this shard are above those of all.
            let above = |own: &Tensor, from: usize| {
                &own.mul_scalar(1.0 / rows)
                    - &sums.slice(0, from, c).mul_scalar(1.0 / (rows * of.count() as f64))
            };
            let constants = Constants::new([&stats[0], &stats[1]], &w, norm.eps);
            let factor = &(&above(&dw, 0) * &constants.inverse) * &constants.scale;
            let constant = &(&above(&db, c) * &constants.scale) - &(&constants.mean * &factor);
            &dx + &x.channel_affine(&factor, &constant, false)
        });
        vec![whole, p.need(1, || dw), p.need(2, || db)]
    };
    let y = Tensor::record(Op::Custom("shard_norm"), y.array().clone(), &[x, weight, bias], vjp);
    Normed { y, mean, variance }
}

/// The mean `(c)` of the rows `(n, c)` of all shards.
pub(super) fn shard_mean(rows: &Tensor, shard: &Shard) -> Tensor {
    let [n, c] = [0, 1].map(|axis| rows.shape()[axis]);
    all_sum(&rows.sum_to([c]), shard).mul_scalar(1.0 / (n * shard.count()) as f64)
}

/// What a channel is multiplied with.
struct Constants {
    /// `(c)`: the mean of all shards.
    mean: Tensor,
    /// `(c)`: one over the deviation.
    inverse: Tensor,
    /// `(c)`: the weight times that.
    scale: Tensor,
}

impl Constants {
    fn new([mean, variance]: [&Array; 2], weight: &Tensor, eps: f64) -> Self {
        let inverse: Vec<f64> = variance.to_f64().iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
        let inverse = array(weight, &inverse);
        let scale = weight * &Tensor::from(inverse.clone());
        Constants { mean: mean.clone().into(), inverse: inverse.into(), scale }
    }
}

/// Mean and biased variance over all shards, from those of each.
fn combined([mean, variance]: [&Array; 2], shard: &Shard) -> [Array; 2] {
    let own: Vec<u8> = [mean, variance].iter().flat_map(|a| a.to_f64()).flat_map(f64::to_le_bytes).collect();
    let all = shard.gather(&own);
    let all: Vec<f64> = all.as_chunks().0.iter().map(|&eight| f64::from_le_bytes(eight)).collect();
    let c = mean.len();
    let (mut means, mut variances) = (vec![0.0; c], vec![0.0; c]);
    for (i, (m, v)) in means.iter_mut().zip(&mut variances).enumerate() {
        // In units of the rows of a shard.
        let (mut count, mut spread) = (0.0, 0.0);
        for theirs in all.chunks_exact(2 * c) {
            let delta = theirs[i] - *m;
            *m += delta / (count + 1.0);
            spread += theirs[c + i] + delta * delta * count / (count + 1.0);
            count += 1.0;
        }
        *v = spread / count;
    }
    let like: Tensor = mean.clone().into();
    [array(&like, &means), array(&like, &variances)]
}

/// Numbers as an array of the type and device of another.
fn array(like: &Tensor, values: &[f64]) -> Array {
    match like.dtype() {
        DType::F64 => Array::new(like.device(), [values.len()], values),
        _ => {
            let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
            Array::new(like.device(), [values.len()], &values)
        }
    }
}

/// The adjoint in differentiable operations: the statistics are functions of the rows of all shards.
fn composite_adjoint(
    p: &Pullback<'_>,
    [x, w, b]: [&Tensor; 3],
    norm: Norm,
    shard: &Shard,
) -> [Option<Tensor>; 3] {
    let c = w.shape()[0];
    let (shape, dtype, rows) = (*x.shape(), x.dtype(), x.array().len() / c);
    let x = x.cast(w.dtype()).reshape([rows, c]);
    let centered = &x - &shard_mean(&x, shard);
    let inverse = shard_mean(&centered.square(), shard).add_scalar(norm.eps).powf(-0.5);
    let hat = &centered * &inverse;
    let mut dy = p.dy().cast(w.dtype()).reshape([rows, c]);
    if norm.relu {
        dy = dy.mask(&(&(&hat * w) + b).detach());
    }
    let dx = p.need(0, || {
        let dh = &dy * w;
        let along = &hat * &shard_mean(&(&dh * &hat), shard);
        (&(&(&dh - &shard_mean(&dh, shard)) - &along) * &inverse).reshape(shape).cast(dtype)
    });
    [dx, p.need(1, || (&dy * &hat).sum_to([c])), p.need(2, || dy.sum_to([c]))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tarrl_parallel::Group;
    use tarrl_tensor::{Key, Random, cpu, grad, grad_recorded};

    const SHARDS: usize = 4;
    const ROWS: usize = 6;
    const C: usize = 3;

    fn draw(name: &str, shape: &[usize], dtype: DType) -> Tensor {
        let keys: Vec<Key> = (0..shape[0]).map(|row| Key::new(5).fold(name).fold(row)).collect();
        Tensor::random(&cpu(), Random::Normal, &keys, &shape[1..], dtype)
    }

    /// Value, statistics, first derivatives and a derivative of the square of one, of what `norm` makes of `x`.
    fn derivatives(
        x: &Tensor,
        target: &Tensor,
        norm: impl Fn(&Tensor, &Tensor, &Tensor) -> Normed,
    ) -> Vec<Vec<f64>> {
        let dtype = x.dtype();
        let [w, b] = ["w", "b"].map(|name| draw(name, &[C], dtype).requires_grad());
        let x = x.mul_scalar(2.0).add_scalar(3.0).requires_grad();
        let Normed { y, mean, variance } = norm(&x, &w, &b);
        let loss = (&(&y - target).square() * target).sum_all();
        let first = grad(&loss, &[&x, &w, &b]);
        let recorded = grad_recorded(&loss, &[&x]).remove(0);
        let second = grad(&(&recorded.square() * target).sum_all(), &[&x, &w]);
        let of = |tensors: &[Tensor]| tensors.iter().map(|t| t.array().to_f64()).collect::<Vec<_>>();
        let values = [y.detach(), mean.into(), variance.into()];
        [of(&values), of(&first), of(&second)].concat()
    }

    /// The shards of a batch have the statistics and derivatives of the whole; gradients of weights are to be added.
    #[test]
    fn shards_of_a_batch_are_normalized_as_the_whole() {
        // Sums of a few dozen values of the size of 1 to 100, and a mean of 3 beside a deviation of 2.
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
            for relu in [false, true] {
                let norm = Norm { eps: 1e-5, relu };
                let (x, t) = (draw("x", &[SHARDS * ROWS, C], dtype), draw("t", &[SHARDS * ROWS, C], dtype));
                let whole = derivatives(&x, &t, |x, w, b| x.batch_norm(w, b, norm));
                let group: Arc<Group> = Group::alone(SHARDS).unwrap();
                let parts: Vec<Vec<Vec<f64>>> = std::thread::scope(|scope| {
                    let each = |shard: Shard| {
                        let own = |all: &Tensor| all.slice(0, shard.index() * ROWS, ROWS);
                        derivatives(&own(&x), &own(&t), |x, w, b| shard_norm(x, w, b, norm, &shard))
                    };
                    let threads = group.shards().into_iter().map(|shard| scope.spawn(move || each(shard)));
                    threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
                });
                for (i, expected) in whole.iter().enumerate() {
                    let lines: Vec<&Vec<f64>> = parts.iter().map(|part| &part[i]).collect();
                    let found: Vec<f64> = match i {
                        // Rows: the value and the derivatives in the input.
                        0 | 3 | 6 => lines.iter().copied().flatten().copied().collect(),
                        1 | 2 => lines[0].clone(),
                        _ => (0..C).map(|c| lines.iter().map(|line| line[c]).sum()).collect(),
                    };
                    assert_eq!(found.len(), expected.len(), "quantity {i}");
                    let scale = expected.iter().fold(1.0, |top: f64, v| top.max(v.abs()));
                    for (a, b) in found.iter().zip(expected) {
                        assert!(
                            (a - b).abs() <= tolerance * scale,
                            "{dtype:?}, relu {relu}, {i}: {a} and {b}"
                        );
                    }
                }
                assert!(
                    parts.iter().all(|part| part[1..3] == parts[0][1..3]),
                    "the statistics are the same bits"
                );
            }
        }
    }
}
