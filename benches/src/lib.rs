//! Shapes and helpers shared by the benches.
