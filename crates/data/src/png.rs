//! PNG files: their pixels in 8 bits, without an alpha channel that says nothing.

use std::io::Cursor;

use ::png::{BitDepth, Decoder, DecodingError, Limits, Transformations};
use ndarray::Array3;

/// Why a file gives no pixels.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is damaged, too large or of another format.
    Undecodable(String),
    /// The first pixel that is not opaque.
    Transparent { row: usize, column: usize },
}

impl From<DecodingError> for Refusal {
    fn from(error: DecodingError) -> Self {
        Self::Undecodable(error.to_string())
    }
}

/// The pixels `(h, w, c)` of a file, gray (c = 1) or in color (c = 3). No side may be longer than `longest_side`, and the
/// decoder may take `most_memory` bytes beside the pixels.
pub(crate) fn decode(bytes: &[u8], longest_side: u32, most_memory: usize) -> Result<Array3<u8>, Refusal> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: most_memory });
    let (width, height) = decoder.read_header_info()?.size();
    if width.max(height) > longest_side {
        let cause =
            format!("it has {width} columns and {height} rows, of which at most {longest_side} are read");
        return Err(Refusal::Undecodable(cause));
    }
    // Palettes become colors, fewer than 8 bits become 8, and a color that stands for transparency becomes an alpha channel.
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info()?;
    let mut samples = vec![0; reader.output_buffer_size().ok_or(DecodingError::LimitsExceeded)?];
    reader.next_frame(&mut samples)?;
    let (color, depth) = reader.output_color_type();
    let deep = depth == BitDepth::Sixteen;
    let bytes_per_sample = if deep { 2 } else { 1 };
    let channels = if color.samples() < 3 { 1 } else { 3 };
    let (width, height) = (width as usize, height as usize);
    let mut pixels = Vec::with_capacity(height * width * channels);
    for (i, pixel) in samples.chunks_exact(color.samples() * bytes_per_sample).enumerate() {
        let (color, alpha) = pixel.split_at(channels * bytes_per_sample);
        if alpha.iter().any(|&byte| byte != u8::MAX) {
            return Err(Refusal::Transparent { row: i / width, column: i % width });
        }
        if deep {
            pixels.extend(color.as_chunks().0.iter().map(|&sample| rounded(u16::from_be_bytes(sample))));
        } else {
            pixels.extend(color);
        }
    }
    Ok(Array3::from_shape_vec((height, width, channels), pixels).expect("a decoder gives all pixels"))
}

/// The level of 8 bits that is nearest to one of 16: 65,535 is 255 · 257, so no level lies between two.
fn rounded(sample: u16) -> u8 {
    ((u32::from(sample) + 128) / 257) as u8
}

#[cfg(test)]
pub(crate) mod tests;
