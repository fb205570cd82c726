//! A model file of any supported format, as a function of images.

use std::path::Path;

use tarrl_encoders::InferenceEncoder;
use tarrl_encoders::checkpoint::load_encoder;
use tarrl_tensor::{Device, Tensor};

use crate::error::InteropError;

/// An encoder in eval mode, whatever program wrote it: differentiable in its input, with constant weights.
#[derive(Clone, Debug)]
pub struct Model {
    network: Network,
    dim: usize,
    channels: usize,
    side: Option<usize>,
}

#[derive(Clone, Debug)]
enum Network {
    /// One of our architectures.
    Encoder(Box<InferenceEncoder>),
}

impl Model {
    /// Reads the encoder in a file, whose format is recognized by its content.
    ///
    /// # Errors
    /// If the file cannot be read or holds no encoder of a known format.
    pub fn open(path: &Path, device: &Device) -> Result<Self, InteropError> {
        let encoder = load_encoder(path, device)?;
        let config = encoder.config();
        Ok(Model {
            dim: encoder.dim(),
            channels: config.in_channels,
            side: config.arch.needs_side().then_some(config.side),
            network: Network::Encoder(Box::new(encoder.inference())),
        })
    }

    /// From images `(n, h, w, c)` with pixels in `[0, 1]` to representations `(n, d)`.
    ///
    /// # Panics
    /// If the images have another number of channels or another side than [`Model::channels`] and [`Model::side`] say.
    #[track_caller]
    pub fn forward(&self, images: &Tensor) -> Tensor {
        match &self.network {
            Network::Encoder(encoder) => encoder.forward(images),
        }
    }

    /// The width `d` of a representation.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Channels of an image.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The side of an image in pixels, where it is fixed.
    pub fn side(&self) -> Option<usize> {
        self.side
    }
}
