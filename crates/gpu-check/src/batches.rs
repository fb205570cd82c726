//! What a GPU does for whole batches: augmentation of bytes and optimizer updates of all parameters, compared with the host.

use std::sync::Arc;

use ndarray::Array4;
use tarrl_benches::uniform;
use tarrl_data::augment::{Blur, Crop, Jitter, Recipe, View};
use tarrl_data::{Dataset, Loader, LoaderConfig};
use tarrl_tensor::{Device, Key, Tensor};
use tarrl_train::{AdamW, Lars, LarsForm, Optimizer, OptimizerConfig, Parameter, Sgd};

/// Images of a batch.
const IMAGES: usize = 12;

/// Every transform alone and all together, in gray and in color.
pub(super) fn views(device: &Device) -> Vec<(&'static str, Tensor)> {
    let jitter = |change: fn(&mut Jitter)| {
        let mut jitter = Jitter { probability: 1.0, ..Jitter::default() };
        change(&mut jitter);
        Recipe { jitter, ..Recipe::default() }
    };
    let crop = Crop::Resized { scale: [0.08, 1.0], ratio: [0.75, 4.0 / 3.0] };
    let blur = Blur { probability: 0.7, ..Blur::default() };
    let recipes = [
        ("the clean view", Recipe::default()),
        ("a resized crop", Recipe { crop, ..Recipe::default() }),
        ("a padded crop", Recipe { crop: Crop::Padded { pixels: 4 }, ..Recipe::default() }),
        ("a mirrored view", Recipe { flip: 0.5, ..Recipe::default() }),
        ("brightness", jitter(|j| j.brightness = 0.8)),
        ("contrast", jitter(|j| j.contrast = 0.8)),
        ("saturation", jitter(|j| j.saturation = 0.8)),
        ("hue", jitter(|j| j.hue = 0.5)),
        ("gray", Recipe { grayscale: 0.5, ..Recipe::default() }),
        ("blur", Recipe { blur: Blur { probability: 0.7, kernel: 7, ..blur }, ..Recipe::default() }),
        ("solarize", Recipe { solarize: 0.5, ..Recipe::default() }),
        ("the strong view", View::Strong.recipe((32, 32, 3))),
        ("all of it", Recipe { blur, solarize: 0.3, grayscale: 0.3, ..View::Strong.recipe((32, 32, 3)) }),
        ("a high-pass, which the host computes", View::HighFrequency.recipe((32, 32, 3))),
    ];
    let mut found = Vec::new();
    // One plane of a size that no lane of a sum divides, and colors.
    for shape in [(9, 11, 1), (32, 32, 3)] {
        let mut noise = Key::new(11).stream();
        let images =
            Array4::from_shape_simple_fn((IMAGES, shape.0, shape.1, shape.2), || noise.below(256) as u8);
        let data = Arc::new(Dataset::new("noise", images, vec![0; IMAGES], vec!["all".into()]));
        let fits: Vec<_> = recipes.iter().filter(|(_, recipe)| recipe.check(shape).is_ok()).collect();
        let config = LoaderConfig {
            batch: IMAGES,
            views: fits.iter().map(|(_, recipe)| View::Custom(recipe.clone())).collect(),
            bytes: device.augment().is_some(),
            ..LoaderConfig::default()
        };
        let batch = Loader::new(data, Key::new(12), &config)
            .and_then(|mut loader| loader.next().ok_or_else(|| unreachable!("an epoch has a step")))
            .expect("the recipes were checked");
        let views = batch.on(device).into_iter().map(Tensor::from);
        found.extend(fits.iter().map(|(name, _)| *name).zip(views));
    }
    found
}

/// Parameters and memory after three steps of each rule, of lengths that fill no chunk, one, and several.
pub(super) fn updates(device: &Device) -> Vec<(&'static str, Tensor)> {
    let draw = |name: &str, i: usize, n: usize| {
        uniform(device, &[n], Key::new(13).fold(name).fold(i)).add_scalar(-0.4)
    };
    let lars = |form| OptimizerConfig::Lars(Lars { form, ..Lars::default() });
    let mut found = Vec::new();
    for (name, config) in [
        ("steps of SGD", OptimizerConfig::Sgd(Sgd { weight_decay: 0.0, ..Sgd::default() })),
        (
            "steps of SGD with Nesterov's momentum",
            OptimizerConfig::Sgd(Sgd { nesterov: true, ..Sgd::default() }),
        ),
        ("steps of AdamW", OptimizerConfig::AdamW(AdamW::default())),
        ("steps of LARS", lars(LarsForm::Clipped)),
        ("steps of LARS in the form of Apex", lars(LarsForm::Apex)),
        ("steps of LARS in its official form", lars(LarsForm::Official)),
    ] {
        let parameters: Vec<Parameter> = [1, 100, 2048, 5000]
            .into_iter()
            .enumerate()
            .map(|(i, n)| Parameter { name: i.to_string(), decays: i % 2 == 0, value: draw("value", i, n) })
            .collect();
        let mut optimizer = Optimizer::new(&config, &parameters);
        let mut values: Vec<Tensor> = parameters.iter().map(|p| p.value.clone()).collect();
        for step in 0..3 {
            let gradients: Vec<Tensor> = values
                .iter()
                .enumerate()
                .map(|(i, v)| draw("gradient", 10 * step + i, v.array().len()))
                .collect();
            values = optimizer.step(&values, &gradients, 0.05);
        }
        found.extend(
            values.into_iter().chain(optimizer.state().into_iter().map(|(_, m)| m)).map(|t| (name, t)),
        );
    }
    found
}
