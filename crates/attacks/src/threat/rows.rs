//! Operations on the rows of a batch: one number per sample, unit rows, gathering and replacing rows.

use tarrl_tensor::{Array, DType, Tensor};

/// The index that gathers the rows at `positions`.
pub(crate) fn row_index(like: &Tensor, positions: &[usize]) -> Array {
    let positions: Vec<u32> = positions.iter().map(|&i| i as u32).collect();
    Array::new(like.device(), [positions.len()], &positions)
}

/// `all` with row `to` replaced by row `from` of `some`, for each pair `(to, from)`.
pub(crate) fn with_rows(all: &Tensor, some: &Tensor, pairs: &[(usize, usize)]) -> Tensor {
    let n = all.shape()[0];
    if pairs.is_empty() {
        return all.clone();
    }
    if pairs.len() == n && pairs.iter().all(|(to, from)| to == from) {
        return some.detach();
    }
    let mut rows: Vec<usize> = (0..n).collect();
    for &(to, from) in pairs {
        rows[to] = n + from;
    }
    Tensor::concat(&[all, &some.detach()], 0).gather(0, &row_index(all, &rows))
}

/// `(n, 1, …)`: a number for each sample of a batch `(n, …)`, to be broadcast over its coordinates.
pub(crate) fn per_sample(like: &Tensor, values: &[f64]) -> Tensor {
    let extents: Vec<usize> =
        (0..like.shape().rank()).map(|axis| if axis == 0 { values.len() } else { 1 }).collect();
    // One number need not be brought from the host.
    if let Some((first, rest)) = values.split_first()
        && rest.iter().all(|value| value.to_bits() == first.to_bits())
    {
        return Tensor::full(like.device(), &extents[..], DType::F64, *first).cast(like.dtype());
    }
    Tensor::new(like.device(), &extents[..], values).cast(like.dtype())
}

/// Applies `f` to the batch as rows `(n, d)`.
pub(crate) fn by_rows(batch: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let shape = *batch.shape();
    let width: usize = shape[1..].iter().product();
    f(&batch.reshape([shape[0], width])).reshape(shape)
}

/// Rows divided by their length, zero rows left: first by their largest element, so that squares
/// neither vanish nor overflow.
pub(crate) fn unit_rows(rows: &Tensor) -> Tensor {
    let largest = rows.abs().max(1);
    let zero = largest.equal(&largest.zeros_like());
    let scaled = rows / &(&largest + &zero);
    &scaled / &(&scaled.norm(1) + &zero)
}

/// Points on the host as a batch `(m, …)` of samples shaped as those of `like`.
pub(crate) fn stack<'a>(points: impl Iterator<Item = &'a [f32]>, like: &Tensor) -> Tensor {
    stack_in(&mut Vec::new(), points, like)
}

/// The same through the buffer `room`.
pub(crate) fn stack_in<'a>(
    room: &mut Vec<f32>,
    points: impl Iterator<Item = &'a [f32]>,
    like: &Tensor,
) -> Tensor {
    room.clear();
    let mut count = 0;
    for point in points {
        room.extend_from_slice(point);
        count += 1;
    }
    Tensor::new(like.device(), like.shape().with(0, count), room).cast(like.dtype())
}
