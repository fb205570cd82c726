//! Layers, encoders, projectors and checkpoints.
