#!/usr/bin/env bash
# What: the Rust crate safetensors 0.8.0 writing named tensors in an order of the
#   caller's, and SafeTensors::iter, names and tensors reading them.
# Guess: the file keeps the caller's order, or that of the names, and reading goes
#   through the file.
# Behavior: the data lies by element size, largest first, then by name, whatever
#   the caller's order; and the reader's iterators come in an order that differs
#   from one opening of the same bytes to the next. So "the first tensor", a
#   momentum by position, or a sum over all tensors is another thing each time.
# TARRL: tensors are collected into a map ordered by name before anything is
#   computed or reported, and are found by name only.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cargo_with 'safetensors = "=0.8.0"' <<'RS'
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeSet, HashMap};

fn main() {
    let zeros = [0u8; 64];
    let tensor = |dtype, len: usize, bytes: usize| TensorView::new(dtype, vec![len], &zeros[..bytes]).unwrap();
    let given = vec![
        ("layer0", tensor(Dtype::F32, 1, 4)),
        ("layer1", tensor(Dtype::F16, 1, 2)),
        ("layer2", tensor(Dtype::F32, 2, 8)),
        ("layer3", tensor(Dtype::I64, 1, 8)),
        ("layer4", tensor(Dtype::F16, 2, 4)),
        ("layer5", tensor(Dtype::F32, 3, 12)),
    ];
    let bytes = safetensors::serialize(given, None::<HashMap<String, String>>).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut places: Vec<(usize, String)> =
        header.tensors().into_iter().map(|(name, info)| (info.data_offsets.0, name)).collect();
    places.sort();
    let stored: Vec<&str> = places.iter().map(|(_, name)| name.as_str()).collect();
    println!("in the file: {stored:?}");
    assert_eq!(stored, ["layer3", "layer0", "layer2", "layer5", "layer1", "layer4"]);

    let orders: BTreeSet<Vec<String>> = (0..20)
        .map(|_| SafeTensors::deserialize(&bytes).unwrap().iter().map(|(name, _)| name.to_string()).collect())
        .collect();
    println!("orders of 20 readings: {}, such as {:?}", orders.len(), orders.first().unwrap());
    assert!(orders.len() > 1);
}
RS
"$PROGRAM"
