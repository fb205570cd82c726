//! Cases of layout ops: reshape, permute, broadcast, slice, pad, concat.

use super::case::{Case, Input, build};
use crate::tensor::Tensor;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("reshape", [Input::unit([2, 6])])
            .op(|x| x[0].reshape([3, 4]))
            .reference(|x| build(&[3, 4], |i| x[0][[(i[0] * 4 + i[1]) / 6, (i[0] * 4 + i[1]) % 6]]))
            .linear_in([0]),
        Case::new("permute", [Input::unit([2, 3, 4])])
            .op(|x| x[0].permute(&[2, 0, 1]))
            .reference(|x| build(&[4, 2, 3], |i| x[0][[i[1], i[2], i[0]]]))
            .linear_in([0]),
        Case::new("permute", [Input::unit([2, 3, 4])])
            .op(|x| x[0].permute(&[1, 0, 2]))
            .reference(|x| build(&[3, 2, 4], |i| x[0][[i[1], i[0], i[2]]]))
            .linear_in([0]),
        Case::new("broadcast_to", [Input::unit([3, 1])])
            .op(|x| x[0].broadcast_to([2, 3, 4]))
            .reference(|x| build(&[2, 3, 4], |i| x[0][[i[1], 0]]))
            .linear_in([0])
            .terms(8),
        Case::new("slice", [Input::unit([4, 5])])
            .op(|x| x[0].slice(1, 1, 3))
            .reference(|x| build(&[4, 3], |i| x[0][[i[0], i[1] + 1]]))
            .linear_in([0]),
        Case::new("slice_step", [Input::unit([7, 3])])
            .op(|x| x[0].slice_step(0, 1, 3, 2))
            .reference(|x| build(&[3, 3], |i| x[0][[1 + 2 * i[0], i[1]]]))
            .linear_in([0]),
        Case::new("pad", [Input::unit([2, 3])])
            .op(|x| x[0].pad([4, 5], [1, 2]))
            .reference(|x| {
                let inside = |i: &[usize]| (1..3).contains(&i[0]) && i[1] >= 2;
                build(&[4, 5], |i| if inside(i) { x[0][[i[0] - 1, i[1] - 2]] } else { 0.0 })
            })
            .linear_in([0]),
        Case::new("concat", [Input::unit([2, 2]), Input::unit([2, 3])])
            .op(|x| Tensor::concat(&[&x[0], &x[1]], 1))
            .reference(|x| {
                build(&[2, 5], |i| if i[1] < 2 { x[0][[i[0], i[1]]] } else { x[1][[i[0], i[1] - 2]] })
            }),
        Case::new("concat", [Input::unit([2, 2]), Input::unit([1, 2])])
            .op(|x| Tensor::concat(&[&x[0], &x[1], &x[0]], 0))
            .reference(|x| {
                build(&[5, 2], |i| if i[0] == 2 { x[1][[0, i[1]]] } else { x[0][[i[0] % 3, i[1]]] })
            }),
    ]
}
