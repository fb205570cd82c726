#![doc = include_str!("../README.md")]
//!
//! ## What is in it
//!
//! - [`Catalog`] finds, verifies, downloads (by the HTTP client of its caller), imports and loads datasets by name. A [`Manifest`] states
//!   the size and SHA-256 of every file. The readers [`idx`], [`cifar`] and [`folder`] work alone too.
//! - [`Source`] recognizes files and folders of other programs by their content, without a manifest; [`npy`], [`mat`] and [`stl10`]
//!   read single files. [`Resizing`] brings images to one size.
//! - [`Dataset`] holds labeled images; [`Grouping`] and [`Task`] make other questions out of its
//!   classes.
//! - [`augment`] describes ([`augment::Recipe`]), samples ([`augment::SampledTransform`]) and applies
//!   ([`augment::Augmenter`]) augmentations.
//! - [`Loader`] delivers batches of views from other threads.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod arrays;
pub mod augment;
mod catalog;
pub mod cifar;
mod dataset;
mod download;
mod error;
mod files;
pub mod folder;
pub mod idx;
mod jpeg;
mod loader;
mod manifest;
pub mod mat;
mod name;
pub mod npy;
#[cfg(feature = "parquet")]
mod parquet;
mod png;
mod resize;
mod source;
pub mod stl10;
mod task;
mod zip;

pub use catalog::{Catalog, Check, Verified};
pub use dataset::{Dataset, Splits};
pub use download::{Ask, Delivery, Progress};
pub use error::{Error, Result};
pub use files::read_at_most;
pub use loader::{Batch, Loader, LoaderConfig, view_key};
pub use manifest::{Entry, Format, Manifest};
pub use name::is_plain_name;
pub use resize::Resizing;
pub use source::{Source, SourceOptions};
pub use task::{Grouping, Task};
pub use zip::write_zip;
