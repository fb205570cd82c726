//! An untrained encoder of every architecture, narrow, for images of 32×32, as checkpoints: what a script exports.
//!
//! `checkpoints FOLDER`

use std::error::Error;
use std::path::Path;

use tarrl_encoders::checkpoint::save_encoder;
use tarrl_encoders::{Arch, Encoder, EncoderConfig};
use tarrl_tensor::{Key, cpu};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: checkpoints FOLDER")?;
    for arch in Arch::ALL {
        let config = EncoderConfig {
            arch,
            width: 0.125,
            in_channels: 3,
            mean: vec![0.4914, 0.4822, 0.4465],
            std: vec![0.2471, 0.2435, 0.2616],
            side: if arch.needs_side() { 32 } else { 0 },
            ..EncoderConfig::default()
        };
        let encoder = Encoder::new(&config, &cpu(), Key::new(1));
        save_encoder(
            &Path::new(&folder).join(format!("{}.safetensors", arch.name())),
            &encoder,
            &Default::default(),
        )?;
    }
    Ok(())
}
