//! The output of a model file for images in a raw file: what a script compares with other runtimes.
//!
//! `forward MODEL N C SIDE IMAGES OUTPUT`: `IMAGES` holds `n·c·side²` floats of 32 bits in the order `(n, c, h, w)`,
//! `OUTPUT` gets `n·d`.

use std::error::Error;
use std::path::Path;

use tarrl_interop::{Model, ReadOptions};
use tarrl_tensor::{Tensor, cpu};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, n, c, side, images, output] = &arguments[..] else {
        return Err("usage: forward MODEL N C SIDE IMAGES OUTPUT".into());
    };
    let [n, c, side] = [n.parse::<usize>()?, c.parse()?, side.parse()?];
    let model = Model::open(Path::new(model), &ReadOptions::default(), &cpu())?;
    let pixels: Vec<f32> =
        std::fs::read(images)?.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect();
    let images = Tensor::new(&cpu(), [n, c, side, side], &pixels).permute(&[0, 2, 3, 1]);
    let y = model.forward(&images).to_vec::<f32>();
    let bytes: Vec<u8> = y.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(output, bytes)?;
    Ok(())
}
