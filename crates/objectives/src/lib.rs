//! Self-supervised losses: pure functions of embeddings.
