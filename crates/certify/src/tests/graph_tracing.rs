//! Graph tracing: supported ops, and refusals that name the op.

use super::{Net, device, pixels};
use crate::{CertifyConfig, CertifyError, Network, certify};
use tarrl_attacks::Threat;
use tarrl_tensor::{DType, Key, Norm, Tensor};

fn refusal(encode: &dyn Fn(&Tensor) -> Tensor) -> String {
    Network::trace(encode, &pixels(&device(), Key::new(1), &[2, 6])).unwrap_err().to_string()
}

/// The steps of the network compute what the encoder does in f64, from the same f32 weights.
#[test]
fn the_network_is_the_encoder() {
    let key = Key::new(5);
    let net = Net::new(key);
    let x = pixels(&net.device, key, &[3, 8, 8, 1]);
    let network = Network::trace(&|x| net.encode(x), &x).unwrap();
    let double = net.encode(&x.cast(DType::F64)).array().to_f64();
    let found = network.forward(&x).array().to_f64();
    for (a, b) in found.iter().zip(&double) {
        assert!((a - b).abs() < 1e-13, "{a} {b}");
    }
    assert_eq!((network.features(), &network.input_shape()[..]), (5, &[8, 8, 1][..]));
    assert_eq!(network.units(), 8 * 8 * 3 + 4 * 4 * 4 + 4 * 4 * 4);
}

#[test]
fn ops_without_a_rule_are_refused_by_name() {
    type Encode = fn(&Tensor) -> Tensor;
    let cases: [(&str, Encode); 8] = [
        ("`gelu`", |x| x.gelu()),
        ("`tanh`", |x| x.tanh()),
        ("`softmax`", |x| x.softmax()),
        ("`exp`", |x| x.exp()),
        ("`max`", |x| x.max(1)),
        ("`div`", |x| x / &x.add_scalar(2.0)),
        ("`custom op`", |x| {
            Tensor::record(tarrl_tensor::Op::Custom("custom op"), x.array().clone(), &[x], |_| vec![None])
        }),
        ("`batch_norm`", |x| {
            let one = Tensor::full(x.device(), [6], x.dtype(), 1.0);
            x.batch_norm(&one, &one, Norm { eps: 1e-5, relu: false }).y
        }),
    ];
    for (name, encode) in cases {
        let error = refusal(&encode);
        assert!(error.contains(&format!("no rule for the op {name}")), "{name}: {error}");
    }
}

#[test]
fn forms_without_a_rule_are_refused_with_the_reason() {
    let mixed = refusal(&|x: &Tensor| x - &x.mean(0));
    assert!(mixed.contains("samples"), "{mixed}");
    let product = refusal(&|x: &Tensor| x * x);
    assert!(product.contains("`mul`") && product.contains("constant"), "{product}");
    let learned = refusal(&|x: &Tensor| x + &Tensor::full(x.device(), [6], x.dtype(), 1.0).requires_grad());
    assert!(learned.contains("does not come from the input"), "{learned}");
    let own = refusal(&|x: &Tensor| x + &x.detach());
    assert!(own.contains("differs between samples"), "{own}");
    let map = refusal(&|x: &Tensor| x.reshape([2, 2, 3]));
    assert!(map.contains("vectors (d)"), "{map}");
    let nan = refusal(&|x: &Tensor| x * &Tensor::full(x.device(), [6], x.dtype(), f64::NAN));
    assert!(nan.contains("not finite"), "{nan}");
    assert_eq!(refusal(&|x: &Tensor| x.detach()), CertifyError::Constant.to_string());
}

#[test]
fn settings_and_inputs_are_checked() {
    let device = device();
    let encode = |x: &Tensor| x.relu();
    let x = Tensor::new(&device, [1, 2], &[0.5f32, 1.5]);
    let network = Network::trace(&encode, &x).unwrap();
    let usual = CertifyConfig::default();
    let error = |x: &Tensor, config: CertifyConfig| certify(&network, x, &config).unwrap_err().to_string();
    assert!(error(&x, usual).contains("1.5"), "out of the pixel range");
    let inside = x.clamp(0.0, 1.0);
    let nan = Tensor::new(&device, [1, 2], &[0.5f32, f32::NAN]);
    assert!(error(&nan, usual).contains("not finite"));
    assert!(error(&inside, CertifyConfig { batch: 0, ..usual }).contains("batch is 0"));
    assert!(
        error(&inside, CertifyConfig { threat: Threat::linf(-1.0), ..usual })
            .contains("threat.epsilon is -1")
    );
}
