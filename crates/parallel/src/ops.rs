//! Differentiable operations over shards.
//!
//! There is one loss. A shard's gradient is that of the loss in what the shard itself computed; where a value enters the
//! loss through several shards, their gradients are added in the order of the tree.

use crate::group::Shard;
use crate::tree;
use tarrl_tensor::{Array, DType, Op, Tensor};

/// The sum of `x` over all shards, on each of them; each uses it for its own part of the loss.
///
/// The adjoint is the sum of the gradients, and so the same operation. Every shard has to differentiate it when one does.
///
/// # Panics
/// If `x` is neither f32 nor f64.
#[track_caller]
pub fn all_sum(x: &Tensor, shard: &Shard) -> Tensor {
    let array = x.array();
    let (device, shape) = (x.device(), *x.shape());
    let y = match x.dtype() {
        DType::F32 => {
            let mut values = array.to_vec::<f32>();
            shard.sum(&mut values);
            values.resize(array.len(), 0.0);
            Array::new(device, shape, &values)
        }
        DType::F64 => {
            let all = doubles(&shard.gather(&double_bytes(&array.to_vec::<f64>())));
            let lines = all.chunks(array.len().max(1)).map(<[f64]>::to_vec).collect();
            Array::new(device, shape, &tree::tree_sum(lines))
        }
        other => panic!("all_sum: {other:?} of shape {shape:?} is not added; cast it"),
    };
    let of = shard.clone();
    Tensor::record(Op::Custom("all_sum"), y, &[x], move |p| vec![p.need(0, || all_sum(p.dy(), &of))])
}

/// The rows of all shards. `x` `(parts·n, …)` holds `parts` equal parts, such as views, one after another; the result
/// `(parts·shards·n, …)` holds as many, each with the rows of all shards in order.
///
/// What follows has to be computed on all shards alike: each then knows the whole gradient, and the adjoint takes the
/// shard's own rows of it, without any exchange.
///
/// # Panics
/// If `x` is neither f32 nor f64, or its rows are not so many equal parts.
#[track_caller]
pub fn all_gather(x: &Tensor, parts: usize, shard: &Shard) -> Tensor {
    let (shape, count, index) = (*x.shape(), shard.count(), shard.index());
    assert!(
        shape.rank() > 0 && parts > 0 && shape[0].is_multiple_of(parts),
        "all_gather: {shape:?} is not {parts} parts"
    );
    let n = shape[0] / parts;
    let whole = shape.with(0, shape[0] * count);
    let y = match x.dtype() {
        DType::F32 => {
            let all = crate::ranks::numbers(&shard.gather(&crate::ranks::bytes(&x.array().to_vec::<f32>())));
            Array::new(x.device(), whole, &by_part(&all, parts, count))
        }
        DType::F64 => {
            let all = doubles(&shard.gather(&double_bytes(&x.array().to_vec::<f64>())));
            Array::new(x.device(), whole, &by_part(&all, parts, count))
        }
        other => panic!("all_gather: {other:?} of shape {shape:?} is not gathered; cast it"),
    };
    Tensor::record(Op::Custom("all_gather"), y, &[x], move |p| {
        let own = |part: usize| p.dy().slice(0, (part * count + index) * n, n);
        let own = || Tensor::concat(&(0..parts).map(own).collect::<Vec<_>>().iter().collect::<Vec<_>>(), 0);
        vec![p.need(0, own)]
    })
}

/// From shards of parts to parts of shards.
fn by_part<T: Copy>(all: &[T], parts: usize, shards: usize) -> Vec<T> {
    let piece = all.len() / (parts * shards);
    let pieces = (0..parts).flat_map(|part| (0..shards).map(move |shard| shard * parts + part));
    pieces.flat_map(|at| &all[at * piece..(at + 1) * piece]).copied().collect()
}

fn double_bytes(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn doubles(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks().0.iter().map(|&eight| f64::from_le_bytes(eight)).collect()
}
