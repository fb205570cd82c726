//! A method is a file: compose views, objective and regularizer as text, and train.
//!
//! `cargo run -p tarrl-examples --example 05_a_method_file`

#![forbid(unsafe_code)]

use std::sync::Arc;

use ndarray::Array4;
use tarrl_data::Dataset;
use tarrl_encoders::EncoderConfig;
use tarrl_train::{Event, Method, TrainConfig, pretrain};

/// As in `experiments/methods`, where each published method that the study compares is such a file.
const METHOD: &str = r#"
    title = "SimCLR with the regularizer"
    views = ["strong", "strong"]
    objective = { kind = "nt-xent", temperature = 0.5 }
    projector = { hidden = 16, out = 8, layers = 2 }

    [regularizer]
    weight = 3.0
    inner = { kind = "pgd", steps = 2, norm = "linf", epsilon = "8/255", start = "random" }
"#;

/// Prints the regularizer of the last of eight steps, and what is said of a method that makes no sense.
pub fn main() -> anyhow::Result<()> {
    let method: Method = toml::from_str(METHOD)?;
    method.check().expect("the parts fit together");

    // Parts that make no method together are refused by name, before anything is trained.
    let wrong: Method = toml::from_str(&METHOD.replace("[\"strong\", \"strong\"]", "[\"strong\"]"))?;
    println!("with one view: {}", wrong.check().unwrap_err());

    // The config and the images determine the result to the bit, on any number of threads.
    let config = TrainConfig {
        epochs: 2,
        batch: 8,
        encoder: EncoderConfig { width: 0.125, ..EncoderConfig::default() },
        ..TrainConfig::new(method)
    };
    let images = Array4::from_shape_fn((32, 12, 12, 1), |(i, y, x, _)| (i * 7 + y * x) as u8);
    let data = Arc::new(Dataset::new("ramps", images, vec![0; 32], vec!["all".into()]));

    // The folder gets metrics, checkpoints and the encoder. A second call goes on where the first was interrupted.
    let folder = tempfile::tempdir()?;
    let mut steps = 0;
    let mut count = |event: &Event<'_>| steps += usize::from(matches!(event, Event::Stepped { .. }));
    let trained = pretrain(&config, &data, &tarrl_tensor::cpu(), folder.path(), &mut count)?;
    let last = trained.last.expect("there was an epoch");
    println!("{steps} steps, mean regularizer of the last epoch: {:.3}", last.regularizer);
    assert_eq!(steps, 8);
    assert!((last.regularizer - 0.363).abs() < 0.005 && folder.path().join("encoder.safetensors").exists());
    Ok(())
}
