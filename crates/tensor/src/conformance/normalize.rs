//! Cases of normalizations, softmax and cross-entropy.

use super::case::{Case, Host, Input, build, wide};
use crate::array::Array;
use crate::backend::Norm;
use crate::tensor::Tensor;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        softmax("softmax", |x| x.softmax(), |z, i| z[i].exp() / z.iter().map(|v| v.exp()).sum::<f64>()),
        softmax(
            "log_softmax",
            |x| x.log_softmax(),
            |z, i| z[i] - z.iter().map(|v| v.exp()).sum::<f64>().ln(),
        ),
        Case::new("cross_entropy", [Input::range([4, 5], -3.0, 3.0)])
            .op(|x| x[0].cross_entropy(&Array::new(x[0].device(), [4], &LABELS)))
            .reference(|x| {
                build(&[4], |i| {
                    let own = x[0][[i[0], LABELS[i[0]] as usize]];
                    (0..5).map(|j| (x[0][[i[0], j]] - own).exp()).sum::<f64>().ln()
                })
            })
            .terms(5),
        Case::new("contrast", [Input::unit([6, 3])])
            .op(|x| x[0].nt_xent(&Array::new(x[0].device(), [6], &PARTNERS)))
            .reference(|x| {
                build(&[6], |i| {
                    let dot = |j: usize| (0..3).map(|c| x[0][[i[0], c]] * x[0][[j, c]]).sum::<f64>();
                    let own = dot(PARTNERS[i[0]] as usize);
                    (0..6).filter(|&j| j != i[0]).map(|j| (dot(j) - own).exp()).sum::<f64>().ln()
                })
            })
            .terms(12),
        Case::new("layer_norm", [Input::unit([3, 6]), Input::unit([6]), Input::unit([6])])
            .op(|x| x[0].layer_norm(&wide(&x[1]), &wide(&x[2]), 1e-5))
            .reference(|x| {
                build(&[3, 6], |i| {
                    let row: Vec<f64> = (0..6).map(|j| x[0][[i[0], j]]).collect();
                    let (mean, variance) = moments(&row);
                    (row[i[1]] - mean) / (variance + 1e-5).sqrt() * x[1][i[1]] + x[2][i[1]]
                })
            })
            .terms(24),
        Case::new("l2_normalize", [Input::away_from_zero([3, 4])])
            .op(|x| x[0].l2_normalize(1e-12))
            .reference(|x| {
                build(&[3, 4], |i| {
                    let norm = (0..4).map(|j| x[0][[i[0], j]].powi(2)).sum::<f64>().sqrt();
                    x[0][[i[0], i[1]]] / norm
                })
            })
            .terms(4),
    ];
    cases.push(batch_norm_add_relu());
    for relu in [false, true] {
        cases.push(batch_norm(relu));
        cases.push(
            Case::new(
                "channel_affine",
                [Input::distinct([4, 3]), Input::away_from_zero([3]), Input::range([3], 0.001, 0.003)],
            )
            .op(move |x| x[0].channel_affine(&wide(&x[1]), &wide(&x[2]), relu))
            .reference(move |x| {
                let value = move |i: &[usize], x: &[Host]| x[0][[i[0], i[1]]] * x[1][i[1]] + x[2][i[1]];
                build(&[4, 3], |i| if relu { value(i, x).max(0.0) } else { value(i, x) })
            })
            .terms(4),
        );
    }
    cases
}

const LABELS: [u32; 4] = [1, 4, 0, 1];
const PARTNERS: [u32; 6] = [3, 2, 1, 0, 5, 4];

fn softmax(name: &'static str, op: fn(&Tensor) -> Tensor, row: fn(&[f64], usize) -> f64) -> Case {
    Case::new(name, [Input::range([3, 5], -2.0, 2.0)])
        .op(move |x| op(&x[0]))
        .reference(move |x| {
            build(&[3, 5], |i| row(&(0..5).map(|j| x[0][[i[0], j]]).collect::<Vec<_>>(), i[1]))
        })
        .terms(10)
}

fn batch_norm(relu: bool) -> Case {
    let norm = Norm { eps: 1e-5, relu };
    Case::new(
        "batch_norm",
        [Input::distinct([2, 3, 2, 3]), Input::away_from_zero([3]), Input::range([3], 0.013, 0.017)],
    )
    .op(move |x| x[0].batch_norm(&wide(&x[1]), &wide(&x[2]), norm).y)
    .reference(move |x| build(&[2, 3, 2, 3], |i| if relu { normed(x, i).max(0.0) } else { normed(x, i) }))
    .terms(48)
}

fn batch_norm_add_relu() -> Case {
    let shape = [2, 3, 2, 3];
    let [x, skip] = [Input::distinct(shape), Input::unit(shape)];
    Case::new("batch_norm_add_relu", [x, Input::away_from_zero([3]), Input::range([3], 0.013, 0.017), skip])
        .op(|x| x[0].batch_norm_add_relu(&wide(&x[1]), &wide(&x[2]), &x[3], 1e-5).y)
        .reference(move |x| build(&shape, |i| (normed(x, i) + x[3][i]).max(0.0)))
        .terms(48)
}

/// Of values `(2, 3, 2, 3)`, weights and biases.
fn normed(x: &[Host], i: &[usize]) -> f64 {
    let channel: Vec<f64> = x[0].iter().copied().skip(i[3]).step_by(3).collect();
    let (mean, variance) = moments(&channel);
    (x[0][i] - mean) / (variance + 1e-5).sqrt() * x[1][i[3]] + x[2][i[3]]
}

fn moments(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    (mean, x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64)
}
