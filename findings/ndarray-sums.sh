#!/usr/bin/env bash
# What: sum, sum_axis and dot of the Rust crate ndarray 0.17.2 on f32 arrays that
#   are equal (==) but lie differently in memory.
# Guess: equal arrays of one type have the same sums to the bit, and a row times a
#   matrix is that row of the product.
# Behavior: sum goes through memory in its order, eight partial sums where it is
#   contiguous, so an array, its copy in column-major order and a view of it give
#   other last bits; sum_axis too; and `a.row(i).dot(&b)` is not row i of
#   `a.dot(&b)` in more than half of the entries (a matrix of one row is).
# TARRL: no figure comes from ndarray's sums; reductions are its own, in an order
#   that shapes alone decide, and arrays are brought to standard layout first.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cargo_with 'ndarray = "=0.17.2"' <<'RS'
use ndarray::prelude::*;

fn noise(i: usize, seed: usize) -> f32 {
    ((i * 2654435761 + seed) % 1009) as f32 / 1009.0 - 0.37
}

fn differ<'a>(a: impl IntoIterator<Item = &'a f32>, b: impl IntoIterator<Item = &'a f32>) -> usize {
    a.into_iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count()
}

fn main() {
    let a = Array2::from_shape_fn((37, 53), |(i, j)| noise(i * 53 + j, 1));
    let mut columns = Array2::zeros((37, 53).f());
    columns.assign(&a);
    assert_eq!(a, columns);
    println!("sum: {} and, column-major, {}", a.sum(), columns.sum());
    assert_ne!(a.sum().to_bits(), columns.sum().to_bits());

    let view = a.slice(s![.., 1..50]);
    println!("a view: {} and its copy {}", view.sum(), view.to_owned().sum());
    assert_eq!(view, view.to_owned());
    assert_ne!(view.sum().to_bits(), view.to_owned().sum().to_bits());

    let sums = differ(&a.sum_axis(Axis(0)), &columns.sum_axis(Axis(0)));
    println!("sum_axis: {sums} of 53 differ");
    assert!(sums > 0);

    let b = Array2::from_shape_fn((53, 29), |(i, j)| noise(i * 29 + j, 7));
    let product = a.dot(&b);
    let rows: usize = (0..37).map(|i| differ(&a.row(i).dot(&b), &product.row(i))).sum();
    let single: usize = (0..37).map(|i| differ(&a.slice(s![i..=i, ..]).dot(&b), &product.row(i))).sum();
    println!("entries of the product that differ: row by row {rows}, matrices of one row {single}, of {}", 37 * 29);
    assert!(rows > 500 && single == 0);
}
RS
"$PROGRAM"
