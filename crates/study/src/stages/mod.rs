//! The kinds of jobs that a study is made of, one file each.
//!
//! ```text
//! data → pretrain → head → attack, autoattack
//!         └──→ certify → bound
//! ```

pub mod attack;
pub mod autoattack;
pub mod bound;
pub mod certify;
pub mod data;
pub mod head;
pub mod pretrain;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::Context;
use tarrl_data::{Catalog, Dataset, Splits};
use tarrl_encoders::{InferenceEncoder, checkpoint::load_encoder};
use tarrl_tensor::{Device, Key, Tensor};

use crate::profile::Profile;
use crate::published::Figures;

/// What all stages of a study share: its profile, where its data lies, and the device.
pub struct StudyContext {
    /// The size of the study.
    pub profile: Profile,
    /// Where datasets are.
    pub catalog: Catalog,
    /// Where tensors are computed.
    pub device: Device,
    /// Figures of others, for the tables.
    pub published: Vec<Figures>,
    /// When to stop, if at any time: nothing begins after it, and a training that is under way saves and ends.
    pub deadline: Option<Instant>,
    images: OnceLock<Images>,
}

/// The images that a study uses.
#[derive(Clone)]
pub struct Images {
    /// For pre-training and heads.
    pub train: Arc<Dataset>,
    /// For evaluation alone.
    pub test: Arc<Dataset>,
}

impl StudyContext {
    /// The shared parts of a study.
    pub fn new(profile: Profile, catalog: Catalog, device: Device) -> Self {
        Self { profile, catalog, device, published: Vec::new(), deadline: None, images: OnceLock::new() }
    }

    /// The images, cut to the profile's subset; read once.
    ///
    /// # Errors
    /// Fails if the dataset is missing or damaged, or the subset is larger than the dataset.
    pub fn images(&self) -> anyhow::Result<Images> {
        if let Some(images) = self.images.get() {
            return Ok(images.clone());
        }
        let name = &self.profile.dataset;
        let Splits { train, test } = self.catalog.load(name).with_context(|| format!("dataset {name}"))?;
        let cut = |data: Dataset, most: Option<usize>| -> anyhow::Result<Arc<Dataset>> {
            Ok(Arc::new(match most {
                Some(most) => data.balanced_subset(most / data.classes.len(), Key::new(0).fold("subset"))?,
                None => data,
            }))
        };
        let subset = self.profile.subset;
        let images = Images { train: cut(train, subset.train)?, test: cut(test, subset.test)? };
        Ok(self.images.get_or_init(|| images).clone())
    }

    /// The encoder in a job's folder, in inference.
    ///
    /// # Errors
    /// Fails if the file is missing or damaged.
    pub fn encoder(&self, folder: &Path) -> anyhow::Result<InferenceEncoder> {
        Ok(load_encoder(&folder.join(pretrain::ENCODER), &self.device)?.inference())
    }

    /// All images of a dataset as pixels in [0, 1]: `(n, h, w, c)`.
    pub fn pixels(&self, data: &Dataset) -> Tensor {
        autoattack::pixels(data, &self.device)
    }
}

/// Labels as the losses take them.
pub fn labels(data: &[u16]) -> Vec<u32> {
    data.iter().map(|&label| label.into()).collect()
}
