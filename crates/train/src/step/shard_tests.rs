//! Steps of shards beside the step of the whole batch.

use super::*;
use crate::ema_model::EmaModel;
use crate::method::{Method, Plan};
use crate::model::{Model, fixed_projector};
use crate::train_config::TrainConfig;
use tarrl_encoders::{Encoder, EncoderConfig, ProjectorConfig, track};
use tarrl_parallel::{Group, Shard};
use tarrl_tensor::{Array, DType, Key, Random, Tensor, cpu};

const IMAGES: usize = 8;

fn method(text: &str) -> Method {
    let method: Method = toml::from_str(&format!("title = 't'\n{text}")).unwrap();
    method.check().unwrap();
    Method { projector: ProjectorConfig { hidden: 8, out: 4, ..ProjectorConfig::default() }, ..method }
}

/// The step of one shard of eight images, or of all.
fn step(method: &Method, shard: Option<&Shard>) -> StepOutput {
    let device = cpu();
    let encoder = EncoderConfig { width: 0.125, ..EncoderConfig::default() };
    let config = TrainConfig { encoder, ..TrainConfig::new(method.clone()) };
    let mut model = Model::new(&config, &method.classifiers(3), &device);
    track(&mut model);
    let (index, count) = shard.map_or((0, 1), |shard| (shard.index(), shard.count()));
    let n = IMAGES / count;
    let own = index * n..(index + 1) * n;
    let all: Vec<Key> = (0..IMAGES).map(|i| Key::new(2).fold(i)).collect();
    let keys = &all[own.clone()];
    let plan = Plan::new(method);
    let view = |view: usize| {
        let keys: Vec<Key> = keys.iter().map(|key| key.fold(view)).collect();
        Tensor::random(&device, Random::Uniform, &keys, &[8, 8, 1], DType::F32)
    };
    let views: Vec<Tensor> = (0..plan.images.len()).map(view).collect();
    let labels: Vec<u32> = (0..IMAGES as u32).map(|i| i % 3).collect();
    let [some, whole] = [&labels[own], &labels].map(|labels| Array::new(&device, [labels.len()], labels));
    let ema = method.network.momentum.map(|_| EmaModel::new(&model));
    let input = StepInput {
        initial_points: &InitialPoints::sample(method, &plan, &views, 1.0, keys, model.encoder.dim()),
        views: &views,
        labels: &some,
        clusters: &[],
        state: None,
        key: Key::new(4),
        share: 0.0,
        epsilon_scale: 1.0,
        weight_scale: 1.0,
        certified_scale: 1.0,
        keys,
        batch: shard.map(|shard| ShardedBatch { shard, labels: &whole }),
    };
    let teacher =
        method.teacher.as_ref().map(|_| Encoder::new(&config.encoder, &device, Key::new(9)).inference());
    let projector = fixed_projector(&config, model.encoder.dim(), &device);
    let networks = Networks {
        model: &model,
        ema: ema.as_ref(),
        teacher: teacher.as_ref(),
        projector: projector.as_ref(),
    };
    compute_step(&networks, method, &input)
}

/// The step of each of `count` shards on a thread of its own.
fn steps(method: &Method, count: usize) -> Vec<StepOutput> {
    let group = Group::alone(count).unwrap();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            group.shards().into_iter().map(|shard| scope.spawn(move || step(method, Some(&shard)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

const PAIR: &str = "views = ['strong', 'strong']";

/// What is a function of the whole batch, or a mean over its images, is the same however many shards it is cut into, but for
/// the order of sums.
#[test]
fn shards_compute_the_step_of_the_whole_batch() {
    let attack = "attack = { kind = 'pgd', epsilon = 0.1, steps = 2 }";
    let methods = [
        format!("{PAIR}\nobjective = {{ kind = 'nt-xent' }}"),
        format!("{PAIR}\nobjective = {{ kind = 'barlow-twins' }}"),
        format!("{PAIR}\nobjective = {{ kind = 'vicreg' }}"),
        format!("{PAIR}\nobjective = {{ kind = 'w-mse', block = 8, epsilon = 0.1 }}"),
        format!("{PAIR}\nobjective = {{ kind = 'supcon' }}"),
        format!(
            "{PAIR}\nobjective = {{ kind = 'byol' }}\nnetwork = {{ predictor = {{ hidden = 8 }}, momentum = {{ start = 0.9 }} }}"
        ),
        "views = ['weak']\nobjective = { kind = 'cross-entropy' }".to_owned(),
        // An attack on running statistics sees each image alone, and a plain divergence is a mean over images.
        format!(
            "{PAIR}\nobjective = {{ kind = 'nt-xent' }}\n[regularizer]\nweight = 2.0\ndivergence = 'l2'\n\
             inner = {{ kind = 'pgd', epsilon = 0.1 }}"
        ),
        // R relative to the spread of the batch, at the points of an attack that sees each image alone.
        format!(
            "{PAIR}\nobjective = {{ kind = 'nt-xent' }}\n[adversary]\nascends = 'representation'\nattacks = 'both'\n{attack}\n\
             [regularizer]\nweight = 3.0\nanchor = 'strong'\ninner = {{ kind = 'adversary' }}"
        ),
        format!(
            "{PAIR}\nobjective = {{ kind = 'nt-xent' }}\n[certified]\nweight = 0.5\nepsilon = 0.01\ncontrast = {{ group = 4 }}"
        ),
        // Every shard computes the norms of the layers, which no image enters.
        format!("{PAIR}\nobjective = {{ kind = 'nt-xent' }}\n[spectral_norm]\nweight = 0.1"),
        format!("teacher = 'simclr'\n[distillation]\nprojected = 0.5\nconsistency = 2.0\n{attack}"),
    ];
    for text in &methods {
        let method = method(text);
        let whole = step(&method, None);
        let expected = whole.read();
        for count in [2, 4] {
            let parts = steps(&method, count);
            let found = parts[0].read();
            assert!(parts.iter().all(|part| part.read() == found), "{text}: all shards report the same");
            let numbers = |m: &StepMetrics| {
                [
                    m.loss,
                    m.objective,
                    m.regularizer,
                    m.certified,
                    m.embedding_std,
                    m.feature_std,
                    m.feature_spread,
                ]
            };
            for (a, b) in numbers(&found).into_iter().zip(numbers(&expected)) {
                // Roundings of f32; the attack's signs could only differ where a gradient is zero.
                assert!(
                    (a - b).abs() <= 2e-4 * b.abs().max(1.0),
                    "{text} on {count}: {found:?} and {expected:?}"
                );
            }
            assert_eq!(parts[0].passes, whole.passes, "{text}");
            assert_eq!(parts[0].features.as_ref().unwrap().shape(), whole.features.as_ref().unwrap().shape());
            // A wrong factor of a shard would be 2 or 4; batch norm of eight images loses two digits of f32.
            let near = |a: &[f64], b: &[f64], scale: f64| {
                a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 5e-3 * scale)
            };
            let top =
                |values: &[Vec<f64>]| values.iter().flatten().fold(1e-3, |top: f64, v| top.max(v.abs()));
            let all = |tensors: &[Tensor]| tensors.iter().map(|t| t.array().to_f64()).collect::<Vec<_>>();
            for (a, b) in [
                (all(&parts[0].gradients), all(&whole.gradients)),
                (all(&parts[0].buffers), all(&whole.buffers)),
                (all(&parts[0].ema_buffers), all(&whole.ema_buffers)),
                (all(&parts[0].ema_targets), all(&whole.ema_targets)),
            ] {
                assert_eq!(a.len(), b.len());
                let scale = top(&b);
                for (i, (a, b)) in a.iter().zip(&b).enumerate() {
                    assert!(
                        a.len() == b.len() && near(a, b, scale),
                        "{text} on {count}, {i}: {a:?} and {b:?}"
                    );
                }
            }
            for part in &parts[1..] {
                assert!(
                    all(&part.gradients) == all(&parts[0].gradients)
                        && all(&part.buffers) == all(&parts[0].buffers)
                );
            }
        }
    }
}
