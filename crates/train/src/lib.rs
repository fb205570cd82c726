//! Optimisers, schedules, methods as compositions, and the pre-training loop.
