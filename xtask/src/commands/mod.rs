//! One file per command: its options and what it does.

pub(crate) mod bench;
pub(crate) mod bound;
pub(crate) mod certify;
pub(crate) mod check;
pub(crate) mod data;
pub(crate) mod reproduce;
