//! Cases of reductions, gather and scatter.

use super::case::{Case, Host, Input, build};
use crate::array::Array;
use crate::tensor::Tensor;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for axis in 0..3 {
        cases.extend([
            over("sum", axis, Input::unit([3, 4, 5]), move |x| x.sum(axis), |v| v.iter().sum())
                .linear_in([0]),
            over(
                "mean",
                axis,
                Input::unit([3, 4, 5]),
                move |x| x.mean(axis),
                |v| v.iter().sum::<f64>() / v.len() as f64,
            )
            .linear_in([0]),
            over(
                "max",
                axis,
                Input::distinct([3, 4, 5]),
                move |x| x.max(axis),
                |v| v.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ),
            over(
                "min",
                axis,
                Input::distinct([3, 4, 5]),
                move |x| x.min(axis),
                |v| v.iter().copied().fold(f64::INFINITY, f64::min),
            ),
            over(
                "logsumexp",
                axis,
                Input::range([3, 4, 5], -3.0, 3.0),
                move |x| x.logsumexp(axis),
                |v| v.iter().map(|v| v.exp()).sum::<f64>().ln(),
            ),
            over(
                "norm",
                axis,
                Input::away_from_zero([3, 4, 5]),
                move |x| x.norm(axis),
                |v| v.iter().map(|v| v * v).sum::<f64>().sqrt(),
            ),
            over(
                "argmax",
                axis,
                Input::distinct([3, 4, 5]).fixed(),
                move |x| {
                    let shape = x.shape().with(axis, 1);
                    Tensor::from(x.argmax(axis)).cast(x.dtype()).reshape(shape)
                },
                |v| (0..v.len()).fold(0, |best, i| if v[i] > v[best] { i } else { best }) as f64,
            ),
        ]);
    }
    cases.extend([
        // Long enough for several blocks and pieces of the CPU's sums.
        Case::new("sum_long", [Input::unit([3000]).fixed()])
            .op(|x| x[0].sum(0))
            .reference(|x| build(&[1], |_| x[0].sum()))
            .terms(3000),
        Case::new("sum_columns", [Input::unit([2600, 3]).fixed()])
            .op(|x| x[0].sum(0))
            .reference(|x| build(&[1, 3], |i| x[0].column_sum(i[1])))
            .terms(2600),
        Case::new("sum_all", [Input::unit([3, 4])])
            .op(|x| x[0].sum_all())
            .reference(|x| build(&[], |_| x[0].sum()))
            .linear_in([0])
            .terms(12),
        Case::new("mean_all", [Input::unit([3, 4])])
            .op(|x| x[0].mean_all())
            .reference(|x| build(&[], |_| x[0].sum() / 12.0))
            .linear_in([0])
            .terms(12),
        Case::new("sum_to", [Input::unit([2, 3, 4, 5])])
            .op(|x| x[0].sum_to([3, 1, 5]))
            .reference(|x| {
                build(&[3, 1, 5], |i| {
                    (0..2).flat_map(|a| (0..4).map(move |b| [a, i[0], b, i[2]])).map(|j| x[0][&j[..]]).sum()
                })
            })
            .linear_in([0])
            .terms(8),
    ]);
    for axis in 0..3 {
        let rows = [2u32, 0, 2, 1];
        cases.push(
            Case::new("gather", [Input::unit([3, 3, 3])])
                .op(move |x| x[0].gather(axis, &Array::new(x[0].device(), [4], &rows)))
                .reference(move |x| {
                    let mut shape = [3, 3, 3];
                    shape[axis] = 4;
                    build(&shape, |i| {
                        let mut j = i.to_vec();
                        j[axis] = rows[i[axis]] as usize;
                        x[0][&j[..]]
                    })
                })
                .linear_in([0]),
        );
        cases.push(
            Case::new("scatter_add", [Input::unit([4, 4, 4])])
                .op(move |x| x[0].scatter_add(axis, &Array::new(x[0].device(), [4], &rows), 5))
                .reference(move |x| {
                    let mut shape = [4, 4, 4];
                    shape[axis] = 5;
                    build(&shape, |i| {
                        let from = (0..4).filter(|&r| rows[r] as usize == i[axis]);
                        from.map(|r| {
                            let mut j = i.to_vec();
                            j[axis] = r;
                            x[0][&j[..]]
                        })
                        .sum()
                    })
                })
                .linear_in([0]),
        );
    }
    cases.push(
        Case::new("pick_columns", [Input::unit([3, 4])])
            .op(|x| x[0].pick_columns(&[3, 0, 1]))
            .reference(|x| build(&[3], |i| x[0][[i[0], [3, 0, 1][i[0]]]]))
            .linear_in([0]),
    );
    cases
}

/// An op that reduces one axis of a `(3, 4, 5)` input to extent 1 by a function of its elements.
fn over(
    name: &'static str,
    axis: usize,
    input: Input,
    op: impl Fn(&Tensor) -> Tensor + 'static,
    reduce: fn(&[f64]) -> f64,
) -> Case {
    Case::new(name, [input])
        .op(move |x| op(&x[0]))
        .reference(move |x| {
            let mut shape = x[0].shape().to_vec();
            let extent = std::mem::replace(&mut shape[axis], 1);
            build(&shape, |i| {
                let element = |e: usize| {
                    let mut j = i.to_vec();
                    j[axis] = e;
                    x[0][&j[..]]
                };
                reduce(&(0..extent).map(element).collect::<Vec<_>>())
            })
        })
        .terms(5)
}

trait ColumnSum {
    fn column_sum(&self, column: usize) -> f64;
}

impl ColumnSum for Host {
    fn column_sum(&self, column: usize) -> f64 {
        (0..self.shape()[0]).map(|row| self[[row, column]]).sum()
    }
}
