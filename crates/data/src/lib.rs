//! Datasets, augmentations and loaders: files in, arrays out.
//!
//! An encoder is trained on pairs of views of the same image and never sees a label:
//!
//! ```text
//! view(x; seed, epoch, index, v) = apply(sample(recipe_v; seed, epoch, index, v), x)
//! ```
//!
//! All randomness is in `sample`, which depends on nothing but the five arguments named; so the batches are the
//! same for any number of threads, and a run that is resumed goes on with the batches it would have
//! had. Images are stored as bytes `(n, h, w, c)` and become `f32` in [0, 1]; nothing here subtracts a mean,
//! because attacks and the bound count in pixels.
//!
//! - [`Catalog`] finds, verifies, downloads, imports and loads datasets by name. A [`Manifest`] states
//!   the size and SHA-256 of every file. The readers [`idx`], [`cifar`] and [`folder`] work alone too.
//! - [`Dataset`] holds labeled images; [`Grouping`] and [`Task`] make other questions out of its
//!   classes.
//! - [`augment`] describes ([`augment::Recipe`]), samples ([`augment::SampledTransform`]) and applies
//!   ([`augment::Augmenter`]) augmentations.
//! - [`Loader`] delivers batches of views from other threads.
//!
//! ```
//! use std::sync::Arc;
//! use tarrl_data::{Catalog, Grouping, Loader, LoaderConfig, augment::View};
//! use tarrl_tensor::Key;
//!
//! let datasets = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets");
//! let splits = Catalog::new(datasets, "data").load("fashion-mnist-sample")?;
//! assert_eq!(splits.train.images.dim(), (10_000, 28, 28, 1));
//!
//! let shoes = Grouping::one_vs_rest(&splits.test.classes, 7).apply(&splits.test);
//! assert_eq!(shoes.name, "Sneaker against the rest");
//!
//! let views = vec![View::Strong, View::Clean];
//! let config = LoaderConfig { batch: 250, views, threads: 2, ..LoaderConfig::default() };
//! let mut loader = Loader::new(Arc::new(splits.train), Key::new(1), &config)?;
//! let batch = loader.next().expect("an epoch has 40 steps");
//! assert_eq!((loader.len(), batch.views[0].dim()), (39, (250, 28, 28, 1)));
//! # Ok::<(), tarrl_data::Error>(())
//! ```
#![forbid(unsafe_code)]

mod acquire;
pub mod augment;
mod catalog;
pub mod cifar;
mod dataset;
mod error;
mod files;
pub mod folder;
pub mod idx;
mod loader;
mod manifest;
mod task;

pub use acquire::Progress;
pub use catalog::{Catalog, Check, Verified};
pub use dataset::{Dataset, Splits};
pub use error::{Error, Result};
pub use loader::{Batch, Loader, LoaderConfig, view_key};
pub use manifest::{Entry, Format, Manifest};
pub use task::{Grouping, Task};
