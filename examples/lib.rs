//! Numbered examples; README.md lists them. The library is empty: it has the snippets of the project's README compiled.

#![forbid(unsafe_code)]

/// The project's README, whose Rust is compiled and run with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
