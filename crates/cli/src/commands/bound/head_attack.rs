//! Attacks on heads: where PGD on the loss of a head, through its encoder, ends.

use tarrl_attacks::{LabelLoss, Pgd, Start, Threat, attack_classifier, pgd};
use tarrl_eval::DeviceHead;
use tarrl_study::heads::{AnyHead, Layer};
use tarrl_tensor::{Key, Tensor};

/// Where PGD on the loss of this head ends, from images `x (n, …)` and `labels (n)`.
pub(super) fn attack(
    head: &AnyHead,
    encode: &dyn Fn(&Tensor) -> Tensor,
    x: &Tensor,
    labels: &[u32],
    threat: &Threat,
) -> Tensor {
    let keys: Vec<Key> = (0..x.shape()[0]).map(|i| Key::new(0).fold("attack").fold(i)).collect();
    let attack = Pgd { steps: 20, step_size: threat.epsilon / 8.0, include_clean: true, ..Pgd::default() };
    let classify = |logits: &dyn Fn(&Tensor) -> Tensor| {
        attack_classifier(logits, x, labels, LabelLoss::CrossEntropy, threat, &attack, &keys).worst
    };
    match head {
        AnyHead::Linear(head) => {
            let head = DeviceHead::new(head, x.device(), x.dtype());
            classify(&|u| head.forward(&encode(u)))
        }
        AnyHead::Mlp { layers, .. } => {
            let [first, second] = layers.each_ref().map(|layer| on_device(layer, x));
            classify(&|u| second.forward(&first.forward(&encode(u)).relu()))
        }
        AnyHead::Regression { layer, targets, .. } => {
            let (o, head) = (layer.bias.len(), on_device(layer, x));
            let error = |u: &Tensor, of: &[usize]| {
                let target: Vec<f64> = of.iter().flat_map(|&i| targets[i * o..][..o].to_vec()).collect();
                let target = Tensor::new(u.device(), [of.len(), o], &target).cast(u.dtype());
                (&head.forward(&encode(u)) - &target).square().sum(1).reshape([of.len()])
            };
            pgd(x, &error, threat, &Pgd { start: Start::Random, ..attack }, &keys).best
        }
    }
}

/// The map where the images `x` are.
fn on_device(layer: &Layer, x: &Tensor) -> DeviceHead {
    DeviceHead::from_rows(&layer.weight, &layer.bias, x.device(), x.dtype())
}
