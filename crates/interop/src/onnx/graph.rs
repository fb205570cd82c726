//! An ONNX model as a function of images.

use super::constant::External;
use super::error::OnnxError;
use super::lower::{Batch, Input, Lowering};
use super::program::Program;
use super::proto::{Extent, ModelProto};
use super::size::Size;
use super::source::Source;
use std::path::PathBuf;
use std::sync::Arc;
use tarrl_tensor::{DType, Device, Tensor};

/// Sides at which a model of any side is tried for the width of its output.
const SIDES: [usize; 7] = [32, 224, 64, 28, 96, 128, 299];

/// The largest value of a batch with which a program for any batch is tried.
const MOST_TRIED: usize = 1 << 24;

/// The longest side, and the most channels, of an image.
const MOST: usize = 4096;

/// The encoder in an ONNX file, recorded with ops of ours: differentiable in its input, with constant weights.
///
/// Attacks, probes and bounds take it as any other function of tensors; certificates do where all its ops have rules.
#[derive(Clone, Debug)]
pub struct Graph {
    source: Arc<Source>,
    device: Device,
    /// For the side in the file, or for the first that fits where it is free.
    program: Program,
    channels: usize,
    side: Option<usize>,
    dim: usize,
    input: Input,
    /// The number of images that a file of fixed extents takes at once, where others do not fit.
    chunk: Option<usize>,
    dtype: DType,
    files: Vec<PathBuf>,
}

impl Graph {
    /// The model in `bytes`; `external` reads the bytes of tensors that lie in other files: location, offset, length.
    ///
    /// # Errors
    /// If it is no model, or one that is not supported; the node is named.
    pub fn from_bytes(bytes: &[u8], external: &External<'_>, device: &Device) -> Result<Self, OnnxError> {
        let source = Source::new(&ModelProto::decode(bytes)?, external)?;
        Graph::new(Arc::new(source), device)
    }

    fn new(source: Arc<Source>, device: &Device) -> Result<Self, OnnxError> {
        let fault = |reason: String| Err(OnnxError::form(format!("its input {}: {reason}", source.input)));
        let known = |extent: &Extent| match *extent {
            Extent::Known(value) if value > 0 => Ok(Some(value)),
            Extent::Known(value) => Err(OnnxError::form(format!("an extent of its input is {value}"))),
            _ => Ok(None),
        };
        let extents = source.extents.iter().map(known).collect::<Result<Vec<_>, _>>()?;
        let short = |extent: i64| usize::try_from(extent).ok().filter(|&extent| extent <= MOST);
        let (channels, side, input) = match extents[..] {
            // Channels are 1 or 3, where the height may be anything.
            [_, h, w, Some(c @ (1 | 3))] if h == w && h != Some(c) => {
                match h.map(|h| short(h).ok_or(h)).transpose() {
                    Ok(side) => (c as usize, side, Input::ChannelsLast),
                    Err(h) => return fault(format!("images with a side of {h} are more than is read")),
                }
            }
            [_, None, ..] => {
                return fault(
                    "the number of channels is not declared; export it with constant channels".into(),
                );
            }
            [_, Some(c), h, w] if h == w => {
                let channels = short(c);
                let side = h.map(|h| short(h).ok_or(h)).transpose();
                match (channels, side) {
                    (Some(c), Ok(side)) => (c, side, Input::ChannelsFirst),
                    _ => {
                        return fault(format!(
                            "images of {c} channels and a side of {h:?} are more than is read"
                        ));
                    }
                }
            }
            [_, Some(_), h, w] => {
                return fault(format!(
                    "its height {h:?} and width {w:?} differ; only square images are read"
                ));
            }
            [_, Some(d)] => {
                let d = usize::try_from(d).unwrap_or(0);
                let square = |d: usize| (1..=MOST).find(|side| side * side == d);
                let image = square(d).map(|side| (1, side));
                let image = image
                    .or_else(|| d.is_multiple_of(3).then(|| square(d / 3)).flatten().map(|side| (3, side)));
                match image {
                    Some((channels, side)) => (channels, Some(side), Input::Rows),
                    None => {
                        return fault(format!(
                            "rows of {d} numbers are no square images of one or three channels"
                        ));
                    }
                }
            }
            _ => {
                return fault(format!(
                    "it has {} axes; an encoder takes (n, c, h, w) or (n, h, w, c)",
                    extents.len()
                ));
            }
        };
        let program = |side: usize, batch: Batch| {
            Lowering::program(&source, device, batch, [channels, side, side], input)
        };
        let any = |batch: Batch| match side {
            Some(side) => program(side, batch),
            None => {
                let mut first = None;
                for side in SIDES {
                    match program(side, batch) {
                        Ok(program) => return Ok(program),
                        Err(error) => first = first.or(Some(error)),
                    }
                }
                Err(first.unwrap_or_else(|| OnnxError::form("it takes no image")))
            }
        };
        let is_per_image = |program: &Program| program.shape[0] == Size::BATCH;
        let (program, chunk) = match extents[0] {
            None => (any(Batch::Any)?, None),
            Some(batch) => match any(Batch::Replaced(batch)) {
                Ok(program)
                    if is_per_image(&program)
                        && is_confirmed(&program, &any, batch, [channels, side.unwrap_or(0)], device) =>
                {
                    (program, None)
                }
                _ => (any(Batch::Fixed(batch))?, usize::try_from(batch).ok()),
            },
        };
        let expected = chunk.map_or(Size::BATCH, |chunk| Size::of(chunk as i64));
        if program.shape[0] != expected {
            return Err(OnnxError::form(format!(
                "its output {} is not one vector for each image",
                source.output
            )));
        }
        let dim = program.shape[1].at(1);
        let device = device.clone();
        let files = Vec::new();
        Ok(Graph { source, device, program, channels, side, dim, input, chunk, dtype: DType::F32, files })
    }

    /// From images `(n, h, w, c)` with pixels in `[0, 1]` to representations `(n, d)`.
    ///
    /// # Panics
    /// If the images have another number of channels, another side where that is fixed, a side that the model cannot take,
    /// or another element type than the constants.
    #[track_caller]
    pub fn forward(&self, images: &Tensor) -> Tensor {
        let &[n, h, w, c] = &images.shape()[..] else {
            panic!("onnx: images of {:?}, expected (n, h, w, {})", images.shape(), self.channels)
        };
        let right = c == self.channels && h == w && n > 0 && self.side.is_none_or(|side| side == h);
        let side = self.side.map_or("h".to_owned(), |side| side.to_string());
        assert!(right, "onnx: images {:?}, expected (n, {side}, {side}, {})", images.shape(), self.channels);
        let fresh;
        let program = match self.side {
            Some(_) => &self.program,
            None => {
                // A model of any side has other windows at each; its weights are those of the file.
                fresh = self
                    .program_for(h)
                    .unwrap_or_else(|error| panic!("onnx: images {:?}: {error}", images.shape()));
                &fresh
            }
        };
        match self.chunk {
            Some(chunk) if chunk != n => chunks(program, images, chunk),
            _ => program.run(images),
        }
    }

    fn program_for(&self, side: usize) -> Result<Program, OnnxError> {
        let batch = match (self.chunk, &self.source.extents[0]) {
            (Some(chunk), _) => Batch::Fixed(chunk as i64),
            (None, Extent::Known(batch)) => Batch::Replaced(*batch),
            (None, _) => Batch::Any,
        };
        let image = [self.channels, side, side];
        Ok(Lowering::program(&self.source, &self.device, batch, image, self.input)?.cast(self.dtype))
    }

    /// The same function in another type of floats, F64 for checks.
    pub fn cast(&self, dtype: DType) -> Self {
        Graph { program: self.program.cast(dtype), dtype, ..self.clone() }
    }

    /// The constants by the names that they have in the file.
    pub fn constants(&self) -> Vec<(String, Tensor)> {
        self.program.constants.clone()
    }

    /// The numbers that the constants of the graph have together.
    pub fn constant_count(&self) -> usize {
        self.program.constants.iter().map(|(_, tensor)| tensor.array().len()).sum()
    }

    /// The elements of the largest value that it computes for one image.
    pub fn widest(&self) -> usize {
        self.program.widest
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

    /// The name of the input and its declared extents, 1 for what is free.
    pub fn input(&self) -> (&str, Vec<usize>) {
        let extent = |extent: &Extent| match extent {
            Extent::Known(value) => usize::try_from(*value).unwrap_or(1),
            _ => 1,
        };
        (&self.source.input, self.source.extents.iter().map(extent).collect())
    }

    /// What a user should know of the file: its producer and version, and what was changed when it was read.
    pub fn notes(&self) -> Vec<String> {
        let Source { producer, opset, notes, .. } = &*self.source;
        let mut all = vec![format!("ONNX of {producer}, opset {opset}, {} nodes", self.source.nodes.len())];
        if let Some(chunk) = self.chunk {
            all.push(format!("its shapes are those of a batch of {chunk}, so it runs on {chunk} at a time"));
        }
        all.extend(notes.iter().cloned());
        all
    }

    /// The same graph with more to be known of its file.
    pub(crate) fn with_notes(mut self, notes: impl Iterator<Item = String>) -> Self {
        Arc::make_mut(&mut self.source).notes.extend(notes);
        self
    }

    /// The files beside the model that its tensors were read from.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The same graph, with the files beside the model that its tensors were read from.
    pub(crate) fn with_files(self, files: Vec<PathBuf>) -> Self {
        Graph { files, ..self }
    }

    /// The entries of the file's metadata.
    pub fn metadata(&self) -> &[(String, String)] {
        &self.source.metadata
    }
}

/// Whether a program for any number of images gives what the file's own batch does, where that was a guess.
fn is_confirmed(
    program: &Program,
    any: &dyn Fn(Batch) -> Result<Program, OnnxError>,
    batch: i64,
    [channels, side]: [usize; 2],
    device: &Device,
) -> bool {
    if !program.is_guess {
        return true;
    }
    let (Ok(fixed), Ok(chunk)) = (any(Batch::Fixed(batch)), usize::try_from(batch)) else { return false };
    if side == 0 || chunk.saturating_mul(program.widest) > MOST_TRIED {
        return false;
    }
    let n = 2 * chunk;
    let pixels: Vec<f32> = (0..n * side * side * channels).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
    let x = Tensor::new(device, [n, side, side, channels], &pixels);
    let bits = |y: Tensor| -> Vec<u32> { y.to_vec::<f32>().into_iter().map(f32::to_bits).collect() };
    // An image has the same bits in any batch.
    bits(program.run(&x)) == bits(chunks(&fixed, &x, chunk))
}

/// The output of `chunk` images at a time; the last of them are repeated where they are fewer.
fn chunks(program: &Program, images: &Tensor, chunk: usize) -> Tensor {
    let n = images.shape()[0];
    let mut parts = Vec::new();
    for start in (0..n).step_by(chunk) {
        let len = chunk.min(n - start);
        let part = images.slice(0, start, len);
        let filled = match chunk - len {
            0 => part,
            more => {
                let last = images.slice(0, n - 1, 1).detach();
                let shape = last.shape().with(0, more);
                Tensor::concat(&[&part, &last.broadcast_to(shape)], 0)
            }
        };
        parts.push(program.run(&filled).slice(0, 0, len));
    }
    match &parts[..] {
        [only] => only.clone(),
        _ => Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0),
    }
}
