//! Cases of matrix products, convolutions and pooling.

use super::case::{Case, Host, Input, build, wide};
use crate::autodiff::{Recording, vjp};
use crate::backend::{Conv, Pool, Transpose};
use crate::tensor::Tensor;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (a, b) in [(false, false), (true, false), (false, true), (true, true)] {
        cases.push(matmul(Transpose { a, b }));
    }
    cases.push(
        Case::new("matmul", [Input::unit([4, 3])])
            .op(|x| x[0].matmul_with(&x[0], Transpose::RIGHT))
            .reference(|x| build(&[4, 4], |i| (0..3).map(|k| x[0][[i[0], k]] * x[0][[i[1], k]]).sum()))
            .terms(3),
    );
    cases.push(
        Case::new("matmul_large", [Input::unit([70, 90]).fixed(), Input::unit([90, 50]).fixed()])
            .op(|x| x[0].matmul(&x[1]))
            .reference(|x| build(&[70, 50], |i| (0..90).map(|k| x[0][[i[0], k]] * x[1][[k, i[1]]]).sum()))
            .terms(90),
    );
    cases.push(
        Case::new("linear", [Input::unit([6, 4]), Input::unit([5, 4]), Input::unit([5])])
            .op(|x| x[0].linear(&x[1], &x[2]))
            .reference(|x| {
                build(&[6, 5], |i| {
                    (0..4).map(|k| x[0][[i[0], k]] * x[1][[i[1], k]]).sum::<f64>() + x[2][[i[1]]]
                })
            })
            .terms(6),
    );
    // (image, channels, kernel, out channels, conv)
    for (hw, ci, k, co, conv) in [
        ([4, 5], 2, 3, 3, Conv { stride: 1, pad: 1, groups: 1 }),
        ([5, 4], 2, 3, 4, Conv { stride: 2, pad: 1, groups: 1 }),
        ([4, 4], 3, 1, 2, Conv { stride: 2, pad: 0, groups: 1 }),
        ([3, 4], 2, 1, 3, Conv { stride: 1, pad: 0, groups: 1 }),
        ([5, 5], 4, 3, 4, Conv { stride: 1, pad: 0, groups: 2 }),
        ([4, 4], 2, 2, 2, Conv { stride: 3, pad: 1, groups: 2 }),
    ] {
        cases.extend(convolution(hw, ci, k, co, conv));
    }
    cases.extend([false, true].map(|relu| convolution_with_bias(relu, false)));
    cases.extend([false, true].map(|relu| convolution_with_bias(relu, true)));
    cases.push(large_convolution());
    cases.push(convolution_of_affine());
    for pool in [
        Pool { window: 2, stride: 2, pad: 0 },
        Pool { window: 3, stride: 2, pad: 1 },
        Pool { window: 3, stride: 1, pad: 0 },
    ] {
        cases.extend(pooling(pool));
    }
    cases.push(
        Case::new("global_avg_pool", [Input::unit([2, 3, 4, 5])])
            .op(|x| x[0].global_avg_pool())
            .reference(|x| {
                build(&[2, 5], |i| pixels(3, 4).map(|(y, z)| x[0][[i[0], y, z, i[1]]]).sum::<f64>() / 12.0)
            })
            .linear_in([0])
            .terms(12),
    );
    cases
}

fn matmul(t: Transpose) -> Case {
    let (m, k, n) = (3, 4, 5);
    let a = if t.a { [2, k, m] } else { [2, m, k] };
    let b = if t.b { [2, n, k] } else { [2, k, n] };
    Case::new("matmul", [Input::unit(a), Input::unit(b)])
        .op(move |x| x[0].matmul_with(&x[1], t))
        .reference(move |x| {
            build(&[2, m, n], |i| {
                let left = |j: usize| x[0][if t.a { [i[0], j, i[1]] } else { [i[0], i[1], j] }];
                let right = |j: usize| x[1][if t.b { [i[0], i[2], j] } else { [i[0], j, i[2]] }];
                (0..k).map(|j| left(j) * right(j)).sum()
            })
        })
        .linear_in([0, 1])
        .terms(k)
}

/// The convolution, and each adjoint as an op of its own.
fn convolution([h, w]: [usize; 2], ci: usize, k: usize, co: usize, conv: Conv) -> [Case; 3] {
    let x = [2, h, w, ci];
    let weight = [k, k, ci / conv.groups, co];
    let y = output(x, weight, conv);
    let terms = 2 * h * w * k * k * ci;
    [
        Case::new("conv2d", [Input::unit(x), Input::unit(weight)])
            .op(move |t| t[0].conv2d(&t[1], conv))
            .reference(move |t| conv2d(&t[0], &t[1], conv))
            .linear_in([0, 1])
            .terms(terms),
        Case::new("conv2d_input", [Input::unit(y), Input::unit(weight)])
            .op(move |t| {
                let zero = Tensor::full(t[0].device(), x, t[0].dtype(), 0.0).requires_grad();
                let y = zero.conv2d(&t[1], conv);
                vjp(&y, &t[0], &[&zero], Recording::On).remove(0)
            })
            .reference(move |t| {
                let mut dx = Host::zeros(&x[..]);
                taps(&y, &weight, &x, conv, |out, tap, at| dx[&at[..]] += t[0][&out[..]] * t[1][&tap[..]]);
                dx
            })
            .linear_in([0, 1])
            .terms(terms),
        Case::new("conv2d_weight", [Input::unit(x), Input::unit(y)])
            .op(move |t| {
                let zero = Tensor::full(t[0].device(), weight, t[0].dtype(), 0.0).requires_grad();
                let y = t[0].conv2d(&zero, conv);
                vjp(&y, &t[1], &[&zero], Recording::On).remove(0)
            })
            .reference(move |t| {
                let mut dw = Host::zeros(&weight[..]);
                taps(&y, &weight, &x, conv, |out, tap, at| dw[&tap[..]] += t[1][&out[..]] * t[0][&at[..]]);
                dw
            })
            .linear_in([0, 1])
            .terms(terms),
    ]
}

/// Wide enough that blocked and transformed paths of a backend are taken.
fn large_convolution() -> Case {
    let conv = Conv { stride: 1, pad: 1, groups: 1 };
    Case::new("conv2d_large", [Input::unit([2, 9, 10, 20]).fixed(), Input::unit([3, 3, 20, 40]).fixed()])
        .op(move |t| t[0].conv2d(&t[1], conv))
        .reference(move |t| conv2d(&t[0], &t[1], conv))
        .terms(180)
}

/// A convolution with the bias, the residual sum and the ReLU behind it.
fn convolution_with_bias(relu: bool, skip: bool) -> Case {
    let (x, weight) = ([2, 4, 3, 2], [3, 3, 2, 3]);
    let conv = Conv { stride: 1, pad: 1, groups: 1 };
    let shape = output(x, weight, conv);
    let (first, bias) = ([Input::unit(x), Input::unit(weight)], Input::range([3], 0.013, 0.017));
    let [images, weights] = first;
    let case = match skip {
        false => Case::new("conv2d_bias", [images, weights, bias]),
        true => Case::new("conv2d_bias", [images, weights, bias, Input::unit(shape)]),
    };
    case.op(move |t| t[0].conv2d_bias(&t[1], &wide(&t[2]), t.get(3), conv, relu))
        .reference(move |t| {
            let y = conv2d(&t[0], &t[1], conv);
            build(&shape, |i| {
                let sum = y[i] + t[2][i[3]] + t.get(3).map_or(0.0, |skip| skip[i]);
                if relu { sum.max(0.0) } else { sum }
            })
        })
        .terms(2 * 12 * 18 + 2)
}

/// A normalized map on its way into a convolution and a residual sum, which a backend may never write down.
fn convolution_of_affine() -> Case {
    let conv = Conv { stride: 1, pad: 1, groups: 1 };
    let inputs = [
        Input::distinct([1, 3, 3, 16]),
        Input::away_from_zero([16]),
        Input::range([16], 0.001, 0.003),
        Input::unit([3, 3, 16, 16]).fixed(),
    ];
    let affine = |x: &Host, t: &[Host]| build(x.shape(), |i| x[i] * t[1][i[3]] + t[2][i[3]]);
    Case::new("conv2d_of_channel_affine", inputs)
        .op(move |t| {
            let (scale, shift) = (wide(&t[1]), wide(&t[2]));
            let y = t[0].channel_affine(&scale, &shift, true).conv2d(&t[3], conv);
            t[0].channel_affine(&scale, &shift, false).add_relu(&t[0]).add_scalar(1.0).maximum(&y)
        })
        .reference(move |t| {
            let plain = affine(&t[0], t);
            let y = conv2d(&plain.mapv(|v| v.max(0.0)), &t[3], conv);
            build(y.shape(), |i| ((plain[i] + t[0][i]).max(0.0) + 1.0).max(y[i]))
        })
        .terms(144)
}

fn conv2d(x: &Host, w: &Host, conv: Conv) -> Host {
    let four = |a: &Host| -> [usize; 4] { a.shape().try_into().expect("four axes") };
    let shape = output(four(x), four(w), conv);
    let mut y = Host::zeros(&shape[..]);
    taps(&shape, &four(w), &four(x), conv, |out, tap, at| y[&out[..]] += x[&at[..]] * w[&tap[..]]);
    y
}

/// Every (output element, weight, input element) that meet, padding left out.
fn taps(
    y: &[usize; 4],
    w: &[usize; 4],
    x: &[usize; 4],
    conv: Conv,
    mut visit: impl FnMut([usize; 4], [usize; 4], [usize; 4]),
) {
    let per_group = y[3] / conv.groups;
    for n in 0..y[0] {
        for (oy, ox) in pixels(y[1], y[2]) {
            for (ky, kx) in pixels(w[0], w[1]) {
                let row = (oy * conv.stride + ky).checked_sub(conv.pad).filter(|&r| r < x[1]);
                let column = (ox * conv.stride + kx).checked_sub(conv.pad).filter(|&c| c < x[2]);
                let (Some(row), Some(column)) = (row, column) else { continue };
                for (ci, co) in pixels(w[2], y[3]) {
                    let channel = co / per_group * w[2] + ci;
                    visit([n, oy, ox, co], [ky, kx, ci, co], [n, row, column, channel]);
                }
            }
        }
    }
}

fn output(x: [usize; 4], w: [usize; 4], conv: Conv) -> [usize; 4] {
    let out = |extent: usize, k: usize| (extent + 2 * conv.pad - k) / conv.stride + 1;
    [x[0], out(x[1], w[0]), out(x[2], w[1]), w[3]]
}

fn pooling(pool: Pool) -> [Case; 3] {
    let x = [2, 5, 6, 2];
    let out = |extent: usize| (extent + 2 * pool.pad - pool.window) / pool.stride + 1;
    let y = [2, out(5), out(6), 2];
    let window = move |i: &[usize], t: &Host| -> Vec<f64> {
        pixels(pool.window, pool.window)
            .filter_map(|(ky, kx)| {
                let row = (i[1] * pool.stride + ky).checked_sub(pool.pad).filter(|&r| r < 5)?;
                let column = (i[2] * pool.stride + kx).checked_sub(pool.pad).filter(|&c| c < 6)?;
                Some(t[[i[0], row, column, i[3]]])
            })
            .collect()
    };
    let area = (pool.window * pool.window) as f64;
    [
        Case::new("avg_pool", [Input::unit(x)])
            .op(move |t| t[0].avg_pool(pool))
            .reference(move |t| build(&y, |i| window(i, &t[0]).iter().sum::<f64>() / area))
            .linear_in([0])
            .terms(36),
        Case::new("avg_pool_adjoint", [Input::unit(y)])
            .op(move |t| {
                let zero = Tensor::full(t[0].device(), x, t[0].dtype(), 0.0).requires_grad();
                vjp(&zero.avg_pool(pool), &t[0], &[&zero], Recording::On).remove(0)
            })
            .reference(move |t| {
                let mut dx = Host::zeros(&x[..]);
                // A pool is a convolution of every channel with a constant.
                let conv = Conv { stride: pool.stride, pad: pool.pad, groups: 2 };
                let tap = [pool.window, pool.window, 1, 2];
                taps(&y, &tap, &x, conv, |out, _, at| dx[&at[..]] += t[0][&out[..]] / area);
                dx
            })
            .linear_in([0])
            .terms(36),
        Case::new("max_pool", [Input::distinct(x)]).op(move |t| t[0].max_pool(pool)).reference(move |t| {
            build(&y, |i| window(i, &t[0]).into_iter().fold(f64::NEG_INFINITY, f64::max))
        }),
    ]
}

fn pixels(h: usize, w: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..h).flat_map(move |y| (0..w).map(move |x| (y, x)))
}
