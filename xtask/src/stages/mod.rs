//! The kinds of jobs that a study is made of, one file each.

pub mod data;
