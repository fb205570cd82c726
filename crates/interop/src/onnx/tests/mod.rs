//! Tests of ONNX: small models written field by field, golden values, round trips, hostile files.

mod builder;
mod equality;
mod golden;
mod hostile;
mod round_trips;
mod semantics;
