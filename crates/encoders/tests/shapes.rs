//! Names, numbers of parameters and operation counts of the networks at full width.

mod common;

use common::images;
use tarrl_encoders::{
    Arch, Encoder, EncoderConfig, ForwardContext, Module, Projector, ProjectorConfig, parameter_count,
};
use tarrl_tensor::{Edge, Key, Op, Tensor, cpu, topological_order};

fn encoder(arch: Arch, in_channels: usize) -> Encoder {
    let side = match (arch.needs_side(), in_channels) {
        (false, _) => 0,
        (true, 1) => 28,
        (true, _) => 32,
    };
    let config = EncoderConfig { arch, in_channels, side, ..Default::default() };
    Encoder::new(&config, &cpu(), Key::new(1))
}

/// Multiply-adds of the convolutions and matrix products in the history of `y`.
fn macs(y: &Tensor) -> usize {
    let shape = |edge: &Edge| match edge {
        Edge::Tracked(operand) => *operand.shape(),
        Edge::Constant(operand) => *operand.shape(),
    };
    let of_node = |node: &std::sync::Arc<tarrl_tensor::Node>| match node.op() {
        Op::Conv2d(_) => {
            let kernel = shape(&node.edges()[1]);
            node.shape().len() * kernel[0] * kernel[1] * kernel[2]
        }
        Op::Matmul(transpose) => {
            let left = shape(&node.edges()[0]);
            node.shape().len() * left[left.rank() - if transpose.a { 2 } else { 1 }]
        }
        _ => 0,
    };
    topological_order(y).iter().map(of_node).sum()
}

fn macs_of_image(encoder: &Encoder, side: usize) -> usize {
    let x = images(&cpu(), Key::new(2), [1, side, encoder.config().in_channels]).requires_grad();
    let y = encoder.forward(&x, &mut ForwardContext::eval());
    assert_eq!(y.shape()[..], [1, encoder.dim()]);
    assert_eq!(macs(&encoder.inference().forward(&x)), macs(&y));
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

/// Parameters without a classifier, billions of multiply-adds at 32×32×3, dimension. The published counts of torchvision's
/// ResNets with this stem, of the WideResNets of TRADES without an unused block, of VGG-11 with batch norm and biases, and
/// of timm's tiny transformer with patches of four, whose attention counts.
#[test]
fn networks_have_their_published_sizes() {
    for (arch, parameters, (billions, half), dim) in [
        (Arch::ResNet34Cifar, 21_276_992, (1.1594, 5e-5), 512),
        (Arch::ResNet50Cifar, 23_500_352, (1.2978, 5e-5), 2048),
        (Arch::Wrn28x10, 36_472_784, (5.243, 5e-4), 640),
        (Arch::Wrn34x10, 46_154_064, (6.659, 5e-4), 640),
        (Arch::Vgg11, 9_225_984, (0.1528, 5e-5), 512),
        (Arch::Vgg13, 9_410_880, (0.2283, 5e-5), 512),
        (Arch::Vgg16, 14_723_136, (0.3132, 5e-5), 512),
        (Arch::Vgg19, 20_035_392, (0.3981, 5e-5), 512),
        (Arch::VitTiny, 5_360_832, (0.3651, 5e-5), 192),
    ] {
        let net = encoder(arch, 3);
        assert_eq!((parameter_count(&net), net.dim()), (parameters, dim), "{}", arch.name());
        let found = macs_of_image(&net, 32) as f64 / 1e9;
        // Within half of the last digit that is published.
        assert!((found - billions).abs() <= half, "{}: {found}", arch.name());
    }
    let gray = encoder(Arch::VitTiny, 1);
    assert!((macs_of_image(&gray, 28) as f64 / 1e9 - 0.2771).abs() < 5e-5);
}

/// The published 11,689,512, 21,797,672 and 25,557,032 parameters of torchvision's ResNets, without their classifiers of a
/// thousand classes.
#[test]
fn resnets_for_large_images_have_their_published_sizes() {
    for (arch, total, dim) in [
        (Arch::ResNet18, 11_689_512, 512),
        (Arch::ResNet34, 21_797_672, 512),
        (Arch::ResNet50, 25_557_032, 2048),
    ] {
        let net = encoder(arch, 3);
        assert_eq!((parameter_count(&net), net.dim()), (total - 1000 * (dim + 1), dim), "{}", arch.name());
    }
}

/// Matrices of 784·512 + 2·512² and two parameters for each of 3·512 units.
#[test]
fn the_perceptron_has_the_documented_size() {
    let net = encoder(Arch::Mlp, 1);
    assert_eq!(parameter_count(&net), 784 * 512 + 2 * 512 * 512 + 3 * 1024);
    assert_eq!((macs_of_image(&net, 28), net.dim()), (784 * 512 + 2 * 512 * 512, 512));
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
    let deep = ProjectorConfig { hidden: 7, out: 3, layers: 3, ..Default::default() };
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

/// Every layer of a name pattern, so that files of others fit.
#[test]
fn other_networks_have_the_names_of_their_state_dicts() {
    let narrow = |arch: Arch| {
        let config = EncoderConfig { arch, width: 0.0625, in_channels: 3, side: 32, ..Default::default() };
        names(&Encoder::new(&config, &cpu(), Key::new(1)))
    };
    let norm = |layer: String| {
        ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
            .map(|part| format!("{layer}.{part}"))
    };
    let mut wide = vec!["conv1.weight".to_string()];
    for (block, i) in (1..4).flat_map(|block| (0..5).map(move |i| (block, i))) {
        let at = |part: &str| format!("block{block}.layer.{i}.{part}");
        wide.extend(norm(at("bn1")));
        wide.push(at("conv1.weight"));
        wide.extend(norm(at("bn2")));
        wide.push(at("conv2.weight"));
        wide.extend((i == 0).then(|| at("convShortcut.weight")));
    }
    wide.extend(norm("bn1".into()));
    assert_eq!(narrow(Arch::Wrn34x10), wide);

    let mut vgg = Vec::new();
    for at in [0, 4, 8, 11, 15, 18, 22, 25] {
        vgg.extend(["weight", "bias"].map(|part| format!("features.{at}.{part}")));
        vgg.extend(norm(format!("features.{}", at + 1)));
    }
    assert_eq!(narrow(Arch::Vgg11), vgg);

    let mut vit = vec!["cls_token".to_string(), "pos_embed".into()];
    let both = |layer: String| ["weight", "bias"].map(|part| format!("{layer}.{part}"));
    vit.extend(both("patch_embed.proj".into()));
    for i in 0..12 {
        for layer in ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"] {
            vit.extend(both(format!("blocks.{i}.{layer}")));
        }
    }
    vit.extend(both("norm".into()));
    assert_eq!(narrow(Arch::VitTiny), vit);

    let bottleneck = narrow(Arch::ResNet50Cifar);
    for name in ["layer1.0.conv3.weight", "layer1.0.downsample.0.weight", "layer4.2.bn3.running_var"] {
        assert!(bottleneck.iter().any(|n| n == name), "{name}");
    }
    // 53 convolutions, of which each has a batch norm of five tensors.
    assert_eq!(bottleneck.len(), 53 * 6);
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
