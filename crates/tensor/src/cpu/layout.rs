//! Layout kernels: strided views, place, gather, scatter-add, casts.

use super::memory::{Block, Pooled};
use super::pointwise::Env;
use crate::backend::Strided;
use crate::shape::{Shape, Split};

/// The elements of a strided view, row-major.
pub(super) fn strided<E: Pooled>(env: &Env<'_>, x: &[E], shape: &Shape, view: &Strided) -> Block<E> {
    if shape.contains(&0) {
        return env.memory.block(0);
    }
    // The innermost axes that one step leads through make a row.
    let (mut rank, mut width, mut step) = (shape.rank(), 1, 1);
    while rank > 0 {
        let (extent, stride) = (shape[rank - 1], view.strides[rank - 1]);
        if width == 1 {
            (width, step) = (extent, stride);
        } else if extent == 1 || stride == width * step {
            width *= extent;
        } else {
            break;
        }
        rank -= 1;
    }
    let outer = |mut row: usize| {
        let mut start = view.offset;
        for axis in (0..rank).rev() {
            start += row % shape[axis] * view.strides[axis];
            row /= shape[axis];
        }
        start
    };
    let rows = shape.len() / width;
    if rank > 0 && step > 1 && view.strides[rank - 1] == 1 {
        let height = shape[rank - 1];
        return env.fill_rows(rows, width, |first, out| {
            let mut done = 0;
            while done < out.len() / width {
                let row = first + done;
                let tall = LINE.min(height - row % height).min(out.len() / width - done);
                transpose(&x[outer(row)..], step, &mut out[done * width..][..tall * width], width);
                done += tall;
            }
        });
    }
    env.fill_rows(rows, width, |first, out| {
        for (i, row) in out.chunks_exact_mut(width).enumerate() {
            let start = outer(first + i);
            match step {
                0 => row.fill(x[start]),
                1 => row.copy_from_slice(&x[start..start + width]),
                _ => {
                    for (y, &x) in row.iter_mut().zip(x[start..].iter().step_by(step)) {
                        *y = x;
                    }
                }
            }
        }
    })
}

/// Rows that are transposed together: so many neighbors share a cache line.
const LINE: usize = 16;

/// `out[i][j] = x[j·step + i]`, by squares: read and written along cache lines.
fn transpose<E: Pooled>(x: &[E], step: usize, out: &mut [E], width: usize) {
    let tall = out.len() / width;
    for first in (0..width).step_by(LINE) {
        let wide = LINE.min(width - first);
        let mut square = [[E::default(); LINE]; LINE];
        for (j, line) in square.iter_mut().enumerate().take(wide) {
            line[..tall].copy_from_slice(&x[(first + j) * step..][..tall]);
        }
        for (i, row) in out.chunks_exact_mut(width).enumerate() {
            for (y, line) in row[first..first + wide].iter_mut().zip(&square) {
                *y = line[i];
            }
        }
    }
}

/// Zeros with the parts placed at their starts.
pub(super) fn place<E: Pooled>(env: &Env<'_>, parts: &[(&[E], Shape, Shape)], shape: &Shape) -> Block<E> {
    let mut out = env.memory.block(shape.len());
    let covered: usize = parts.iter().map(|(data, ..)| data.len()).sum();
    if covered < shape.len() {
        out.fill(E::default());
    }
    let strides = shape.strides();
    for (data, extents, start) in parts {
        // The innermost axes that a part fills, and the one before them, are one row.
        let (mut rank, mut width) = (shape.rank(), 1);
        while rank > 0 {
            rank -= 1;
            width *= extents[rank];
            if extents[rank] != shape[rank] {
                break;
            }
        }
        for (row, values) in data.chunks_exact(width.max(1)).enumerate() {
            let mut rest = row;
            let mut to = if rank < shape.rank() { start[rank] * strides[rank] } else { 0 };
            for axis in (0..rank).rev() {
                to += (start[axis] + rest % extents[axis]) * strides[axis];
                rest /= extents[axis];
            }
            out[to..to + width].copy_from_slice(values);
        }
    }
    out
}

/// Rows of the middle axis by index.
pub(super) fn gather<E: Pooled>(env: &Env<'_>, x: &[E], index: &[u32], s: Split) -> Block<E> {
    check(index, s);
    env.fill_rows(s.outer * index.len(), s.inner, |first, out| {
        for (i, out) in out.chunks_exact_mut(s.inner).enumerate() {
            let (o, j) = ((first + i) / index.len(), (first + i) % index.len());
            out.copy_from_slice(&x[(o * s.extent + index[j] as usize) * s.inner..][..s.inner]);
        }
    })
}

/// Adds each row to its place; one thread, so that repeated indices add up in order.
pub(super) fn scatter_add<R: super::real::Real>(env: &Env<'_>, x: &[R], index: &[u32], s: Split) -> Block<R> {
    check(index, s);
    let mut out = env.fill(s.outer * s.extent * s.inner, |_, out| out.fill(R::ZERO));
    if s.inner == 0 {
        return out;
    }
    for (i, row) in x.chunks_exact(s.inner).enumerate() {
        let (o, j) = (i / index.len(), i % index.len());
        let to = &mut out[(o * s.extent + index[j] as usize) * s.inner..][..s.inner];
        for (y, &x) in to.iter_mut().zip(row) {
            *y += x;
        }
    }
    out
}

fn check(index: &[u32], s: Split) {
    if let Some(bad) = index.iter().find(|&&i| i as usize >= s.extent) {
        panic!("gather/scatter: index {bad} on an axis of extent {}", s.extent);
    }
}
