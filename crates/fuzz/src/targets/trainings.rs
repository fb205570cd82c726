//! Target of the checkpoints of trainings, from which a step is taken.

use crate::target::Target;
use crate::{repair, scratch::Scratch};
use ndarray::Array4;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use tarrl_data::Dataset;
use tarrl_encoders::EncoderConfig;
use tarrl_train::{
    AdamW, Finish, Lars, Method, OptimizerConfig, Options, Pretraining, Sgd, TrainConfig, TrainError,
};

pub(super) const TRAINING: Target = Target {
    name: "training-checkpoint",
    seeds: checkpoints,
    words: &[
        "F32",
        "F64",
        "U64",
        "training.step",
        "training.passes",
        "training.losses",
        "optimizer.",
        ".momentum",
        ".second",
        "momentum.",
        "average.",
        "memory.queue.next",
        "memory.queue.rows",
        "running_var",
        "\"shape\":[",
        "\"data_offsets\":[0,0]",
    ],
    repair: repair::checkpoint,
    read,
};

/// A momentum network and a predictor, a queue of keys, an average over the steps.
const METHODS: [&str; 3] = [
    r#"title = "momentum network"
views = ["weak", "weak"]
objective = { kind = "byol" }
projector = { hidden = 3, out = 2, layers = 2 }
network = { predictor = { hidden = 2 }, momentum = { start = 0.9, end = 1.0 } }"#,
    r#"title = "queue of keys"
views = ["weak", "weak"]
objective = { kind = "moco-v2", temperature = 0.2, queue = 8 }
projector = { hidden = 3, out = 2, layers = 2, hidden_norm = "nothing" }
network = { momentum = { start = 0.9, end = 0.9 } }"#,
    r#"title = "mean of steps"
views = ["weak", "weak"]
objective = { kind = "nt-xent", temperature = 0.5 }
projector = { hidden = 3, out = 2, layers = 2 }
network = { average = 0.9 }"#,
];

/// Steps of a training: two epochs of two batches.
const STEPS: u64 = 4;

/// The trainings, each with another method and another optimizer.
static TRAININGS: LazyLock<Vec<TrainConfig>> = LazyLock::new(|| {
    let optimizers = [
        OptimizerConfig::Sgd(Sgd::default()),
        OptimizerConfig::AdamW(AdamW::default()),
        OptimizerConfig::Lars(Lars::default()),
    ];
    let config = |(text, optimizer): (&str, OptimizerConfig)| {
        let method: Method = toml::from_str(text).expect("the method is valid TOML");
        let encoder = EncoderConfig { width: 0.02, ..EncoderConfig::default() };
        let config =
            TrainConfig { encoder, epochs: 2, batch: 4, warmup_epochs: 0.5, ..TrainConfig::new(method) };
        TrainConfig { optimizer, ..config }
    };
    METHODS.into_iter().zip(optimizers).map(config).collect()
});

/// Eight gray images of 6 × 6 pixels.
static IMAGES: LazyLock<Arc<Dataset>> = LazyLock::new(|| {
    let pixel = |(n, y, x, _): (usize, usize, usize, usize)| ((n * 53 + y * 17 + x * 29) % 251) as u8;
    let (images, labels) = (Array4::from_shape_fn((8, 6, 6, 1), pixel), vec![0, 1, 0, 1, 0, 1, 0, 1]);
    Arc::new(Dataset::new("noise", images, labels, vec!["a".into(), "b".into()]))
});

/// Runs a training in a folder, from the checkpoint that is there, for some steps.
fn run(config: &TrainConfig, folder: &Path, steps: u64, scratch: &Scratch) -> Result<Finish, TrainError> {
    let options = Options {
        stop_after_steps: Some(steps),
        checkpoint_every_steps: Some(1),
        checkpoint_every_seconds: None,
        ..Options::default()
    };
    let (data, device) = (&*IMAGES, &scratch.device);
    Pretraining { config, data, teacher: None, start: None, device, folder, options }.run(&mut |_| {})
}

/// Checkpoints of each training after its first and its third step.
fn checkpoints() -> Vec<Vec<u8>> {
    let after = |config: &TrainConfig, steps| {
        let scratch = Scratch::new();
        let folder = scratch.path("run");
        run(config, &folder, steps, &scratch).expect("it trains");
        std::fs::read(folder.join("checkpoint.safetensors")).expect("it was written")
    };
    TRAININGS.iter().flat_map(|config| [1, 3].map(|steps| after(config, steps))).collect()
}

fn read(bytes: &[u8], scratch: &Scratch) -> bool {
    let path = scratch.file("run/checkpoint.safetensors", bytes);
    let folder = path.parent().expect("it lies in a folder");
    // The training that the file names, or the first.
    let names = |config: &&TrainConfig| {
        let title = config.method.title.as_bytes();
        bytes.windows(title.len()).any(|window| window == title)
    };
    let config = TRAININGS.iter().find(names).unwrap_or(&TRAININGS[0]);
    match run(config, folder, 1, scratch) {
        Ok(Finish::Trained(_)) | Err(TrainError::Diverged { .. }) => true,
        Ok(Finish::Stopped { step }) => {
            assert!((1..=STEPS).contains(&step), "step {step} of {STEPS}");
            true
        }
        Err(TrainError::Resume { .. } | TrainError::Foreign { .. }) => false,
        // Values that overflow in the step, which is found when they are to be stored.
        Err(TrainError::Save(error)) if error.to_string().contains("training diverged") => true,
        Err(error) => panic!("{error}"),
    }
}
