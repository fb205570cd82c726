//! Names, numbers of parameters and operation counts of the networks at full width.

mod common;

use common::images;
use tarrl_encoders::{
    Arch, Encoder, EncoderConfig, Module, Pass, Projector, ProjectorConfig, parameter_count,
};
use tarrl_tensor::{Edge, Key, Op, Tensor, cpu, history};

fn encoder(arch: Arch, in_channels: usize) -> Encoder {
    let config = EncoderConfig { arch, in_channels, ..Default::default() };
    Encoder::new(&config, &cpu(), Key::new(1))
}

/// Multiply-adds of the convolutions in the history of `y`.
fn macs(y: &Tensor) -> usize {
    let of_node = |node: &std::sync::Arc<tarrl_tensor::Node>| match node.op() {
        Op::Conv2d(_) => {
            let kernel = match &node.edges()[1] {
                Edge::Tracked(weight) => *weight.shape(),
                Edge::Constant(weight) => *weight.shape(),
            };
            node.shape().len() * kernel[0] * kernel[1] * kernel[2]
        }
        _ => 0,
    };
    history(y).iter().map(of_node).sum()
}

fn macs_of_image(encoder: &Encoder, side: usize) -> usize {
    let x = images(&cpu(), Key::new(2), [1, side, encoder.config().in_channels]).tracked();
    let y = encoder.forward(&x, &mut Pass::eval());
    assert_eq!(y.shape()[..], [1, encoder.dim()]);
    assert_eq!(macs(&encoder.frozen().forward(&x)), macs(&y));
    macs(&y)
}

/// Weights k²·in·out and two parameters per channel of a batch norm; a multiply-add per weight and
/// position of the result. Published: 11,168,832 parameters, 0.5554 G at 32×32×3 and 0.4558 G at 28×28×1.
#[test]
fn resnet18_has_the_published_size() {
    let color = encoder(Arch::ResNet18Cifar, 3);
    assert_eq!(parameter_count(&color), 11_168_832);
    assert_eq!(macs_of_image(&color, 32), 555_417_600);
    assert_eq!(color.dim(), 512);
    let gray = encoder(Arch::ResNet18Cifar, 1);
    assert_eq!(parameter_count(&gray), 11_168_832 - 1_152);
    assert_eq!(macs_of_image(&gray, 28), 455_795_712);
}

/// 9·(1·32 + 32·64 + 64·64 + 64·128) weights and 2·(32 + 64 + 64 + 128) of the batch norms; maps of
/// 28², 14², 14² and 7² positions: 14.7 M.
#[test]
fn conv_small_has_the_documented_size() {
    let net = encoder(Arch::ConvSmall, 1);
    assert_eq!(parameter_count(&net), 129_888);
    assert_eq!(macs_of_image(&net, 28), 14_676_480);
    assert_eq!(net.dim(), 128);
}

#[test]
fn a_projector_has_the_size_of_its_layers() {
    let net = Projector::new(&ProjectorConfig::default(), 128, &cpu(), Key::new(1));
    assert_eq!(parameter_count(&net), 128 * 512 + 2 * 512 + 512 * 128 + 128);
    let deep = ProjectorConfig { hidden: 7, out: 3, layers: 3 };
    let net = Projector::new(&deep, 5, &cpu(), Key::new(1));
    assert_eq!(parameter_count(&net), 5 * 7 + 14 + 7 * 7 + 14 + 7 * 3 + 3);
    let names = names(&net).into_iter().filter(|name| name.ends_with(".weight")).collect::<Vec<_>>();
    assert_eq!(names, ["0", "1", "3", "4", "6"].map(|i| format!("projector.{i}.weight")));
    let linear = ProjectorConfig { layers: 1, ..deep };
    assert_eq!(parameter_count(&Projector::new(&linear, 5, &cpu(), Key::new(1))), 5 * 3 + 3);
}

/// The layers of torchvision's ResNet-18, in its order, without the classifier.
const RESNET18: [&str; 40] = [
    "conv1",
    "bn1",
    "layer1.0.conv1",
    "layer1.0.bn1",
    "layer1.0.conv2",
    "layer1.0.bn2",
    "layer1.1.conv1",
    "layer1.1.bn1",
    "layer1.1.conv2",
    "layer1.1.bn2",
    "layer2.0.conv1",
    "layer2.0.bn1",
    "layer2.0.conv2",
    "layer2.0.bn2",
    "layer2.0.downsample.0",
    "layer2.0.downsample.1",
    "layer2.1.conv1",
    "layer2.1.bn1",
    "layer2.1.conv2",
    "layer2.1.bn2",
    "layer3.0.conv1",
    "layer3.0.bn1",
    "layer3.0.conv2",
    "layer3.0.bn2",
    "layer3.0.downsample.0",
    "layer3.0.downsample.1",
    "layer3.1.conv1",
    "layer3.1.bn1",
    "layer3.1.conv2",
    "layer3.1.bn2",
    "layer4.0.conv1",
    "layer4.0.bn1",
    "layer4.0.conv2",
    "layer4.0.bn2",
    "layer4.0.downsample.0",
    "layer4.0.downsample.1",
    "layer4.1.conv1",
    "layer4.1.bn1",
    "layer4.1.conv2",
    "layer4.1.bn2",
];

#[test]
fn resnet18_has_the_names_of_its_state_dict() {
    let mut expected = Vec::new();
    for layer in RESNET18 {
        let is_norm = layer.contains("bn") || layer.ends_with("downsample.1");
        let parts: &[&str] = match is_norm {
            true => &["weight", "bias", "running_mean", "running_var", "num_batches_tracked"],
            false => &["weight"],
        };
        expected.extend(parts.iter().map(|part| format!("{layer}.{part}")));
    }
    assert_eq!(names(&encoder(Arch::ResNet18Cifar, 3)), expected);
}

#[test]
fn widths_scale_and_never_vanish() {
    let of = |width| {
        let config = EncoderConfig { width, ..Default::default() };
        Encoder::new(&config, &cpu(), Key::new(1))
    };
    assert_eq!(of(0.5).dim(), 64);
    assert_eq!(of(0.001).dim(), 1);
    assert_eq!(of(1.25).dim(), 160);
}

fn names(module: &dyn Module) -> Vec<String> {
    let mut names = Vec::new();
    module.visit(&mut |name, _, _| names.push(name.to_string()));
    names
}
