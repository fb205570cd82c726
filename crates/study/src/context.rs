//! Study context: profile, datasets and device, shared by all stages.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::Context;
use tarrl_data::{Catalog, Dataset, Manifest, Splits};
use tarrl_encoders::{EncoderConfig, InferenceEncoder, checkpoint::load_encoder, encoder_multiply_adds};
use tarrl_eval::dataset_pixels;
use tarrl_tensor::{Device, Key, Tensor};

use crate::profile::Profile;
use crate::published::PublishedFigures;

/// The file with a trained encoder, in the folder of its pre-training job.
pub const ENCODER: &str = "encoder.safetensors";

/// What all stages of a study share: its profile, where its data lies, and the device.
pub struct StudyContext {
    /// The size of the study.
    pub profile: Profile,
    /// Where datasets are.
    pub catalog: Catalog,
    /// Where tensors are computed.
    pub device: Device,
    /// Figures of others, for the tables.
    pub published: Vec<PublishedFigures>,
    /// When to stop, if at any time: nothing begins after it, and a training that is under way saves and ends.
    pub deadline: Option<Instant>,
    images: OnceLock<Images>,
    multiply_adds: OnceLock<f64>,
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
        Self {
            profile,
            catalog,
            device,
            published: Vec::new(),
            deadline: None,
            images: OnceLock::new(),
            multiply_adds: OnceLock::new(),
        }
    }

    /// The encoder that the profile trains on a dataset.
    pub fn encoder_config(&self, manifest: &Manifest) -> EncoderConfig {
        let encoder = self.profile.encoder;
        EncoderConfig {
            arch: encoder.arch,
            width: encoder.width,
            in_channels: manifest.shape[2],
            mean: manifest.mean.clone(),
            std: manifest.std.clone(),
            side: if encoder.arch.needs_side() { manifest.shape[0] } else { 0 },
            ..EncoderConfig::default()
        }
    }

    /// Multiply-adds of one image through that encoder, read from its graph once; for estimates of time.
    pub fn multiply_adds(&self, manifest: &Manifest) -> f64 {
        *self
            .multiply_adds
            .get_or_init(|| encoder_multiply_adds(&self.encoder_config(manifest), manifest.shape) as f64)
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

    /// The encoder in a job's folder, in inference mode.
    ///
    /// # Errors
    /// Fails if the file is missing or damaged.
    pub fn encoder(&self, folder: &Path) -> anyhow::Result<InferenceEncoder> {
        Ok(load_encoder(&folder.join(ENCODER), &self.device)?.inference())
    }

    /// All images of a dataset as pixels in [0, 1]: `(n, h, w, c)`.
    pub fn pixels(&self, data: &Dataset) -> Tensor {
        dataset_pixels(data, &self.device)
    }
}
