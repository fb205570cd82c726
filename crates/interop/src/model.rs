//! A model file of any supported format, as a function of images.

use std::path::{Path, PathBuf};

use tarrl_encoders::InferenceEncoder;
use tarrl_tensor::{Device, Tensor};

use crate::error::InteropError;
use crate::format::{Format, recognize};
use crate::onnx::Graph;
use crate::options::{Normalization, ReadOptions};
use crate::state_dict::{self, Imported};

/// An encoder in eval mode, whatever program wrote it: differentiable in its input, with constant weights.
#[derive(Clone, Debug)]
pub struct Model {
    network: Network,
    dim: usize,
    channels: usize,
    side: Option<usize>,
    summary: Vec<String>,
    is_own: bool,
}

#[derive(Clone, Debug)]
enum Network {
    /// One of our architectures.
    Encoder(Box<InferenceEncoder>),
    /// An ONNX graph, with the scale and shift of its pixels.
    Graph(Box<Graph>, Option<Box<[Tensor; 2]>>),
}

impl Model {
    /// Reads the encoder in a file, whose format is recognized by its content.
    ///
    /// # Errors
    /// If the file cannot be read or holds no encoder of a known format.
    pub fn open(path: &Path, options: &ReadOptions, device: &Device) -> Result<Self, InteropError> {
        match recognize(path)? {
            format @ (Format::PyTorch | Format::Safetensors) => {
                open_state_dict(path, format, options, device)
            }
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
            Network::Graph(graph, None) => graph.forward(images),
            Network::Graph(graph, Some(affine)) => {
                let [scale, shift] = &**affine;
                graph.forward(&images.channel_affine(scale, shift, false))
            }
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

    /// Files beside the model file that hold tensors of it, as PyTorch's exporter of ONNX writes them.
    pub fn files(&self) -> &[PathBuf] {
        match &self.network {
            Network::Encoder(_) => &[],
            Network::Graph(graph, _) => graph.files(),
        }
    }

    /// Whether the file is a checkpoint of this program, of which nothing had to be guessed.
    pub fn is_own(&self) -> bool {
        self.is_own
    }
}

/// A state dict: a checkpoint of ours, or one of another program.
fn open_state_dict(
    path: &Path,
    format: Format,
    options: &ReadOptions,
    device: &Device,
) -> Result<Model, InteropError> {
    if options.both_branches {
        return Err(InteropError::refused(
            path,
            "is to be read with both sets of batch norms, and a network computes with one",
            "choose the set 0 or 1 by the branch",
        ));
    }
    let Imported { encoder, summary, notes } = state_dict::open(path, format, options, device)?;
    let config = encoder.config();
    Ok(Model {
        dim: encoder.dim(),
        channels: config.in_channels,
        side: config.arch.needs_side().then_some(config.side),
        network: Network::Encoder(Box::new(encoder.inference())),
        summary,
        // A checkpoint of ours has no source to note.
        is_own: notes.is_empty(),
    })
}

/// Reads a state dict, ours or of another program, as an encoder that can be saved and trained.
///
/// # Errors
/// If the file cannot be read, or holds no state dict of an encoder that is read.
pub fn import_encoder(path: &Path, options: &ReadOptions, device: &Device) -> Result<Imported, InteropError> {
    state_dict::open(path, state_dict_format(path)?, options, device)
}

/// What a state dict contains, line by line, and which name maps fit.
///
/// # Errors
/// If the file cannot be read, or is no state dict.
pub fn list_state_dict(path: &Path, options: &ReadOptions) -> Result<Vec<String>, InteropError> {
    state_dict::describe(path, state_dict_format(path)?, options)
}

fn state_dict_format(path: &Path) -> Result<Format, InteropError> {
    match recognize(path)? {
        Format::Onnx => Err(InteropError::refused(
            path,
            "is neither a PyTorch file nor safetensors",
            "give what torch.save wrote, or safetensors; a graph cannot be made a checkpoint again",
        )),
        format => Ok(format),
    }
}

/// An ONNX graph.
fn open_onnx(path: &Path, options: &ReadOptions, device: &Device) -> Result<Model, InteropError> {
    let read = crate::onnx::read(path, device);
    let graph = read.map_err(|source| InteropError::Read { path: path.to_path_buf(), source })?;
    let graph = graph.map_err(|error| {
        InteropError::refused(path, error.to_string(), "docs/bring-your-own.md says what ONNX files are read")
    })?;
    let normalization = match &options.normalization {
        None | Some(Normalization::None) => None,
        Some(Normalization::Constants { mean, std }) => Some(affine(path, mean, std, &graph, device)?),
    };
    if let (Some(asked), Some(own)) = (options.side, graph.side())
        && asked != own
    {
        let cause = format!("takes images of {own}×{own}, not of {asked}×{asked}");
        return Err(InteropError::refused(
            path,
            cause,
            "leave the side out, or export the model for that side",
        ));
    }
    let mut summary = vec![format!("format: {}", graph.notes().join("; "))];
    summary.push(match &options.normalization {
        Some(Normalization::Constants { mean, std }) => {
            format!("normalization: mean {mean:?}, std {std:?}, before the graph")
        }
        _ => "normalization: what the graph itself does to pixels in [0, 1]".to_owned(),
    });
    Ok(Model {
        dim: graph.dim(),
        channels: graph.channels(),
        side: graph.side().or(options.side),
        network: Network::Graph(Box::new(graph), normalization.map(Box::new)),
        summary,
        is_own: false,
    })
}

/// Scale and shift `(c)` of `(x − mean) / std`.
fn affine(
    path: &Path,
    mean: &[f64],
    std: &[f64],
    graph: &Graph,
    device: &Device,
) -> Result<[Tensor; 2], InteropError> {
    let c = graph.channels();
    if mean.len() != c || std.len() != c || std.iter().any(|s| !(*s > 0.0 && s.is_finite())) {
        let cause = format!("takes images of {c} channels, which mean {mean:?} and std {std:?} do not fit");
        return Err(InteropError::refused(
            path,
            cause,
            "give one mean and one positive deviation for each channel",
        ));
    }
    let scale: Vec<f32> = std.iter().map(|s| (1.0 / s) as f32).collect();
    let shift: Vec<f32> = mean.iter().zip(std).map(|(m, s)| (-m / s) as f32).collect();
    Ok([scale, shift].map(|values| Tensor::new(device, [c], &values)))
}
