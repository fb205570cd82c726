//! A model file of any supported format, as a function of images.

use std::path::Path;

use tarrl_encoders::InferenceEncoder;
use tarrl_encoders::checkpoint::load_encoder;
use tarrl_tensor::{Device, Tensor};

use crate::error::InteropError;
use crate::format::{Format, recognize};
use crate::options::ReadOptions;

/// An encoder in eval mode, whatever program wrote it: differentiable in its input, with constant weights.
#[derive(Clone, Debug)]
pub struct Model {
    network: Network,
    dim: usize,
    channels: usize,
    side: Option<usize>,
    summary: Vec<String>,
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
    pub fn open(path: &Path, options: &ReadOptions, device: &Device) -> Result<Self, InteropError> {
        match recognize(path)? {
            Format::PyTorch => open_pytorch(path, options, device),
            Format::Safetensors => open_safetensors(path, options, device),
            Format::Onnx => open_onnx(path, options, device),
        }
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

    /// What was read and how it was understood, line by line: format, container, name map, architecture, normalization,
    /// what was left out.
    pub fn summary(&self) -> &[String] {
        &self.summary
    }
}

/// A state dict that `torch.save` wrote.
fn open_pytorch(path: &Path, _: &ReadOptions, _: &Device) -> Result<Model, InteropError> {
    Err(InteropError::refused(path, "is a PyTorch file", "convert it to safetensors"))
}

/// A checkpoint of ours, or a state dict of another program.
fn open_safetensors(path: &Path, _: &ReadOptions, device: &Device) -> Result<Model, InteropError> {
    let encoder = load_encoder(path, device)?;
    let config = encoder.config();
    let summary = vec![
        "format: a checkpoint of this program".to_owned(),
        format!("architecture: {}, width {}", config.arch.name(), config.width),
    ];
    Ok(Model {
        dim: encoder.dim(),
        channels: config.in_channels,
        side: config.arch.needs_side().then_some(config.side),
        network: Network::Encoder(Box::new(encoder.inference())),
        summary,
    })
}

/// An ONNX graph.
fn open_onnx(path: &Path, _: &ReadOptions, _: &Device) -> Result<Model, InteropError> {
    Err(InteropError::refused(
        path,
        "is neither a PyTorch file nor safetensors",
        "give a model file of a format that is read",
    ))
}
