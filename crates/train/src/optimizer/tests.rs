use super::*;
use tarrl_tensor::{DType, cpu};

const P: [f64; 4] = [1.0, 2.0, 3.0, 4.0];
const G: [f64; 4] = [0.1, -0.2, 0.3, 0.4];

fn parameter(decays: bool, dtype: DType) -> Parameter {
    let value = Tensor::new(&cpu(), [2, 2], &P).cast(dtype);
    Parameter { name: "fc.weight".into(), decays, value }
}

/// The parameter after each of the given gradients.
fn trajectory(config: OptimizerConfig, start: &Parameter, gradients: &[[f64; 4]]) -> Vec<Vec<f64>> {
    let mut optimizer = Optimizer::new(&config, std::slice::from_ref(start));
    let mut values = vec![start.value.clone()];
    let mut path = Vec::new();
    for g in gradients {
        let g = Tensor::new(start.value.device(), [2, 2], g).cast(start.value.dtype());
        values = optimizer.step(&values, &[g], config.lr());
        path.push(values[0].array().to_f64());
    }
    path
}

/// Both precisions against `expected`: f64 to the digits given, f32 to a few roundings of values near 4.
#[track_caller]
fn check(config: OptimizerConfig, decays: bool, gradients: &[[f64; 4]], expected: &[[f64; 4]], digits: f64) {
    for (dtype, tolerance) in
        [(DType::F64, digits), (DType::F32, digits + 8.0 * 4.0 * f64::from(f32::EPSILON))]
    {
        let path = trajectory(config, &parameter(decays, dtype), gradients);
        for (step, (got, want)) in path.iter().zip(expected).enumerate() {
            let close = got.iter().zip(want).all(|(g, w)| (g - w).abs() <= tolerance);
            assert!(close, "{dtype:?}, step {}: {got:?} is not {want:?}", step + 1);
        }
    }
}

/// Published-form LARS with clipping: six decimals of two steps computed in f64 outside this program.
#[test]
fn clipped_lars_has_its_golden_values() {
    let config = OptimizerConfig::Lars(Lars {
        lr: 0.3,
        momentum: 0.9,
        weight_decay: 1e-4,
        trust: 0.02,
        form: LarsForm::Clipped,
    });
    let expected = [[0.98, 2.039920, 2.940000, 3.920000], [0.942292, 2.115186, 2.826875, 3.769167]];
    check(config, true, &[G, G], &expected, 6e-7);
}

/// Official LARS, one step, six decimals.
#[test]
fn official_lars_has_its_golden_values() {
    let config = OptimizerConfig::Lars(Lars {
        lr: 0.2,
        momentum: 0.9,
        weight_decay: 1e-6,
        trust: 0.001,
        form: LarsForm::Official,
    });
    check(config, true, &[G], &[[0.9998, 2.000400, 2.999400, 3.999200]], 6e-7);
}

/// Without the clip, r = η‖p‖/(‖g‖ + wd‖p‖ + 1e-8) with ‖p‖ = √30 and ‖g‖ = √.3, here wd = 0.
#[test]
fn apex_lars_is_not_clipped() {
    let lr = 0.001;
    let config = OptimizerConfig::Lars(Lars {
        lr,
        weight_decay: 0.0,
        trust: 0.02,
        form: LarsForm::Apex,
        ..Lars::default()
    });
    let r = 0.02 * 30f64.sqrt() / (0.3f64.sqrt() + 1e-8);
    let expected = std::array::from_fn(|i| P[i] - lr * r * G[i]);
    check(config, true, &[G], &[expected], 1e-14);
    // The clip would not have let it pass: r / lr is far above one.
    let clipped = OptimizerConfig::Lars(Lars { lr, weight_decay: 0.0, trust: 0.02, ..Lars::default() });
    check(clipped, true, &[G], &[std::array::from_fn(|i| P[i] - lr * G[i])], 1e-14);
}

/// The third gradient is 0, and without decay the ratio stays. Nine decimals of timm 1.0.31 (`Lars` with `always_adapt`,
/// `eps = 1e-8`, and `trust_clip` for the clipped form) with torch 2.15.0 in f64.
#[test]
fn lars_steps_as_that_of_timm() {
    let gradients = [G, [0.3, 0.1, -0.2, 0.4], [0.0; 4]];
    for (form, weight_decay, expected) in [
        (
            LarsForm::Apex,
            1e-2,
            [
                [0.994, 2.009818182, 2.982, 3.976],
                [0.971763964, 2.012130775, 2.975044231, 3.930512102],
                [0.948836239, 2.008175716, 2.959858905, 3.877781457],
            ],
        ),
        (
            LarsForm::Apex,
            0.0,
            [
                [0.994, 2.012, 2.982, 3.976],
                [0.97067905, 2.01682635, 2.977747301, 3.930505401],
                [0.949690195, 2.021170064, 2.973919871, 3.889560261],
            ],
        ),
        (
            LarsForm::Clipped,
            1e-2,
            [
                [0.98, 2.032727272, 2.940000001, 3.920000001],
                [0.906445674, 2.040604346, 2.91659254, 3.769241253],
                [0.837527442, 2.041571899, 2.886776047, 3.622250657],
            ],
        ),
        (
            LarsForm::Clipped,
            0.0,
            [
                [0.98, 2.039999999, 2.940000001, 3.920000001],
                [0.902874373, 2.056291456, 2.925417087, 3.769165832],
                [0.833461308, 2.070953767, 2.912292465, 3.63341508],
            ],
        ),
    ] {
        let config = OptimizerConfig::Lars(Lars { lr: 0.3, momentum: 0.9, weight_decay, trust: 0.02, form });
        check(config, true, &gradients, &expected, 6e-10);
    }
}

#[test]
fn lars_moves_biases_by_plain_momentum() {
    for form in [LarsForm::Clipped, LarsForm::Apex, LarsForm::Official] {
        let config =
            OptimizerConfig::Lars(Lars { lr: 0.1, momentum: 0.5, weight_decay: 0.3, trust: 0.02, form });
        let expected = [0.1, 0.1 + 0.15].map(|moved| std::array::from_fn(|i| P[i] - moved * G[i]));
        check(config, false, &[G, G], &expected, 1e-14);
    }
}

/// With a constant gradient and no decay, momentum gives steps of 1, 1 + μ, 1 + μ + μ² times lr·g.
#[test]
fn sgd_sums_a_geometric_series() {
    let config = OptimizerConfig::Sgd(Sgd { lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0 });
    let expected = [1.0, 2.9, 2.9 + 2.71].map(|k| std::array::from_fn(|i| P[i] - 0.1 * k * G[i]));
    check(config, true, &[G, G, G], &expected, 1e-13);
    let nesterov = OptimizerConfig::Sgd(Sgd { lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.0 });
    let expected = [1.9, 1.9 + 2.71].map(|k| std::array::from_fn(|i| P[i] - 0.1 * k * G[i]));
    check(nesterov, true, &[G, G], &expected, 1e-13);
}

#[test]
fn sgd_decays_weights_only() {
    let config = OptimizerConfig::Sgd(Sgd { lr: 0.1, momentum: 0.0, nesterov: false, weight_decay: 0.5 });
    check(config, true, &[[0.0; 4]], &[P.map(|p| 0.95 * p)], 1e-14);
    check(config, false, &[[0.0; 4]], &[P], 0.0);
}

/// With one gradient over and over, m̂ = g and v̂ = g²: each step moves by lr·g/(|g| + eps).
#[test]
fn adamw_follows_the_sign_of_a_constant_gradient() {
    let config = OptimizerConfig::AdamW(AdamW { lr: 0.01, weight_decay: 0.0, ..AdamW::default() });
    let step = G.map(|g| 0.01 * g / (g.abs() + 1e-8));
    let expected = [1.0, 2.0, 3.0].map(|k| std::array::from_fn(|i| P[i] - k * step[i]));
    check(config, true, &[G, G, G], &expected, 1e-13);
}

/// After gradients a, b: m̂ = (β₁a + b)/(1 + β₁) and v̂ = (β₂a² + b²)/(1 + β₂).
#[test]
fn adamw_weighs_two_gradients() {
    let (lr, wd, [b1, b2]) = (0.1, 0.2, [0.8, 0.95]);
    let config = OptimizerConfig::AdamW(AdamW { lr, betas: [b1, b2], eps: 0.0, weight_decay: wd });
    let second = [0.3, 0.1, -0.2, 0.4];
    let shrink = 1.0 - lr * wd;
    let one: [f64; 4] = std::array::from_fn(|i| shrink * P[i] - lr * G[i].signum());
    let two = std::array::from_fn(|i| {
        let m = (b1 * G[i] + second[i]) / (1.0 + b1);
        let v = (b2 * G[i] * G[i] + second[i] * second[i]) / (1.0 + b2);
        shrink * one[i] - lr * m / v.sqrt()
    });
    check(config, true, &[G, second], &[one, two], 1e-13);
    let plain = std::array::from_fn(|i| P[i] - lr * G[i].signum());
    check(config, false, &[G], &[plain], 1e-13);
}

#[test]
fn a_restored_optimizer_goes_on_with_the_same_bits() {
    for config in [
        OptimizerConfig::Sgd(Sgd::default()),
        OptimizerConfig::Lars(Lars::default()),
        OptimizerConfig::AdamW(AdamW::default()),
    ] {
        let start = parameter(true, DType::F32);
        let g = Tensor::new(start.value.device(), [2, 2], &G).cast(DType::F32);
        let mut whole = Optimizer::new(&config, std::slice::from_ref(&start));
        let halfway = whole.step(std::slice::from_ref(&start.value), std::slice::from_ref(&g), 0.1);
        let saved = whole.state();
        let end = whole.step(&halfway, std::slice::from_ref(&g), 0.1);

        let mut resumed = Optimizer::new(&config, std::slice::from_ref(&start));
        let find = |name: &str| saved.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone());
        resumed.restore(1, &find).unwrap();
        let again = resumed.step(&halfway, &[g], 0.1);
        assert_eq!(end[0].to_vec::<f32>(), again[0].to_vec::<f32>(), "{config:?}");

        let error = resumed.restore(1, &|_| None).unwrap_err().to_string();
        assert!(error.contains("fc.weight."), "{error}");
        let narrow = |_: &str| Some(Tensor::new(&cpu(), [2], &[0f32; 2]));
        assert!(resumed.restore(1, &narrow).unwrap_err().to_string().contains("(2, 2)"));
        let wide = |_: &str| Some(Tensor::new(&cpu(), [2, 2], &[0f64; 4]));
        assert!(resumed.restore(1, &wide).unwrap_err().to_string().contains("is of type F64, not F32"));
        let negative = |_: &str| Some(Tensor::new(&cpu(), [2, 2], &[-1f32; 4]));
        let squares = config.memory().contains(&"second");
        assert_eq!(resumed.restore(1, &negative).is_err(), squares, "{config:?}");
    }
}

#[test]
fn configurations_are_parsed_and_checked() {
    let read = |text: &str| toml::from_str::<OptimizerConfig>(text);
    assert_eq!(read("kind = \"adamw\"\nlr = 0.002").unwrap(), OptimizerConfig::default());
    let official = read("kind = \"lars\"\nform = \"official\"\nlr = 0.2").unwrap();
    assert_eq!(
        official,
        OptimizerConfig::Lars(Lars { lr: 0.2, form: LarsForm::Official, ..Lars::default() })
    );
    assert!(read("kind = \"sgd\"\nmomentun = 0.9").unwrap_err().to_string().contains("momentun"));
    for (text, word) in [
        ("kind = \"sgd\"\nlr = -1.0", "lr = -1"),
        ("kind = \"sgd\"\nlr = nan", "lr = NaN"),
        ("kind = \"sgd\"\nmomentum = 1.0", "momentum = 1"),
        ("kind = \"adamw\"\nweight_decay = -0.1", "weight_decay = -0.1"),
        ("kind = \"adamw\"\nbetas = [0.9, 1.5]", "betas[1] = 1.5"),
    ] {
        let message = read(text).unwrap().check().unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
}
