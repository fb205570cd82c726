//! Study context: profile, datasets and device, shared by all stages.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use tarrl_data::{Catalog, Dataset, Manifest, Source, SourceOptions, Splits};
use tarrl_encoders::{EncoderConfig, InferenceEncoder, checkpoint::load_encoder, encoder_multiply_adds};
use tarrl_eval::dataset_pixels;
use tarrl_jobs::JobContext;
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
    images: OnceLock<Images>,
    multiply_adds: OnceLock<f64>,
}

/// The images that a study uses.
#[derive(Clone)]
pub struct Images {
    /// For pre-training and heads.
    pub train: Arc<Dataset>,
    /// For evaluation alone: the test images, or the training images that are held out.
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

    /// A dataset by its name, or files without a manifest by their path or the name that they were imported by.
    ///
    /// # Errors
    /// Fails if there is neither.
    pub fn source(&self, name: &str) -> anyhow::Result<Source> {
        Source::open(name, &self.catalog, SourceOptions::default()).with_context(|| format!("dataset {name}"))
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
        let Splits { train, test } = self.source(name)?.load().with_context(|| format!("dataset {name}"))?;
        let cut = |data: Dataset, most: Option<usize>| -> anyhow::Result<Arc<Dataset>> {
            Ok(Arc::new(match most {
                Some(most) => data.balanced_subset(most / data.classes.len(), Key::new(0).fold("subset"))?,
                None => data,
            }))
        };
        let subset = self.profile.subset;
        let (train, test) = match subset.holdout {
            Some(held) => {
                train.validation_split(held as f64 / train.len() as f64, Key::new(0).fold("holdout"))
            }
            None => (train, test),
        };
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

    /// The encoder of job input `input` as a function of images, which leaves the job once it is told to stop at once.
    ///
    /// # Errors
    /// Fails if the file is missing or damaged.
    pub fn encode<'a>(
        &self,
        context: &'a JobContext<'_>,
        input: usize,
    ) -> anyhow::Result<impl Fn(&Tensor) -> Tensor + use<'a>> {
        let encoder = self.encoder(&context.input(input).folder)?;
        Ok(move |x: &Tensor| {
            context.stop().unwind();
            encoder.forward(x)
        })
    }

    /// All images of a dataset as pixels in [0, 1]: `(n, h, w, c)`.
    pub fn pixels(&self, data: &Dataset) -> Tensor {
        dataset_pixels(data, &self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Subset;

    #[test]
    fn held_out_images_take_the_place_of_the_test_images() {
        let root = crate::repository();
        let images = |subset| {
            let profile = Profile::read(&root.join("experiments/profiles"), "smoke").unwrap();
            let catalog = Catalog::new(root.join("datasets"), root.join("data"));
            let study = StudyContext::new(Profile { subset, ..profile }, catalog, tarrl_tensor::cpu());
            study.images().unwrap()
        };
        let all = images(Subset::default());
        let held = images(Subset { holdout: Some(2000), ..Subset::default() });
        assert_eq!((held.train.len(), held.test.len()), (8000, 2000));
        assert_eq!(held.test.counts(), [200; 10]);
        let pixels = |data: &Dataset, i: usize| data.image(i).iter().copied().collect::<Vec<u8>>();
        let known: std::collections::BTreeSet<_> =
            (0..all.train.len()).map(|i| pixels(&all.train, i)).collect();
        assert!((0..held.test.len()).all(|i| known.contains(&pixels(&held.test, i))));
        let kept: std::collections::BTreeSet<_> =
            (0..held.train.len()).map(|i| pixels(&held.train, i)).collect();
        assert!(known.len() > 9_900, "the images differ");
        let both = (0..held.test.len()).filter(|&i| kept.contains(&pixels(&held.test, i))).count();
        assert!(both <= all.train.len() - known.len(), "{both} images are in both parts");
    }
}
