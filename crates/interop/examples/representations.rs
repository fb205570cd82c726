//! Representations of raw images by a model file, for comparisons with other programs:
//!
//! ```text
//! cargo run -p tarrl-interop --example representations -- MODEL IMAGES SIDE OUT [HEADS]
//! ```
//!
//! IMAGES are f32 in the order `(n, h, w, c)`, little-endian, without a header; so is OUT, `(n, d)`.

use std::error::Error;
use std::path::Path;

use tarrl_interop::{Model, ReadOptions};
use tarrl_tensor::{Tensor, cpu};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, images, side, out, rest @ ..] = &arguments[..] else {
        return Err("give MODEL IMAGES SIDE OUT [HEADS]".into());
    };
    let heads = rest.first().map(|heads| heads.parse()).transpose()?;
    let options = ReadOptions { heads, ..ReadOptions::default() };
    let model = Model::open(Path::new(model), &options, &cpu())?;
    model.summary().iter().for_each(|line| println!("{line}"));
    let bytes = std::fs::read(images)?;
    let (words, _) = bytes.as_chunks::<4>();
    let pixels: Vec<f32> = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
    let (side, channels) = (side.parse::<usize>()?, model.channels());
    let n = pixels.len() / (side * side * channels);
    let found = model.forward(&Tensor::new(&cpu(), [n, side, side, channels], &pixels)).to_vec::<f32>();
    let bytes: Vec<u8> = found.iter().flat_map(|v| v.to_le_bytes()).collect();
    tarrl_files::write_atomic(Path::new(out), &bytes)?;
    Ok(())
}
