//! Names and sizes of what is timed.

use std::fmt;
use std::str::FromStr;
use tarrl_encoders::{Arch, EncoderConfig};

/// An activity on one of the encoders. In text: `train:conv-small`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// What is done.
    pub activity: Activity,
    /// On which encoder.
    pub arch: Arch,
}

/// What is done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Inference of the frozen encoder, batch norm folded into the convolutions.
    Forward,
    /// The loss `Σ z² / n` of the representations with the statistics of the batch, and its gradient in every
    /// parameter.
    Train,
    /// The gradient of `Σ z² / n` in the input of the frozen encoder: what a step of an attack needs.
    InputGrad,
    /// One update of training: two views through encoder and projector into NT-Xent; five steps of PGD around the
    /// first view that maximize the squared displacement of its representation, on the frozen encoder; that
    /// displacement, with the statistics of the batch, added to the loss; the gradient; SGD with momentum.
    SslStep,
}

impl Workload {
    /// Every activity on ConvSmall, then on ResNet-18.
    pub const ALL: [Workload; 8] = {
        use Activity::{Forward, InputGrad, SslStep, Train};
        let [small, resnet] = [Arch::ConvSmall, Arch::ResNet18Cifar];
        [
            Workload { activity: Forward, arch: small },
            Workload { activity: Train, arch: small },
            Workload { activity: InputGrad, arch: small },
            Workload { activity: SslStep, arch: small },
            Workload { activity: Forward, arch: resnet },
            Workload { activity: Train, arch: resnet },
            Workload { activity: InputGrad, arch: resnet },
            Workload { activity: SslStep, arch: resnet },
        ]
    };

    /// The number of images that its figures are quoted for.
    pub fn usual_batch(self) -> usize {
        match self.arch {
            Arch::ConvSmall | Arch::ConvFlat => 256,
            _ => 64,
        }
    }
}

impl Activity {
    /// How often each image's multiply-adds are counted: one for a forward pass, one for the adjoint in the
    /// activations, one for the adjoint in the weights.
    ///
    /// A [`SslStep`](Activity::SslStep) trains on three images, both views and the attacked one (9), and its attack
    /// takes a reference (1), five steps there and back (10) and a look at the last point (1).
    pub fn passes(self) -> u64 {
        match self {
            Activity::Forward => 1,
            Activity::InputGrad => 2,
            Activity::Train => 3,
            Activity::SslStep => 21,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Activity::Forward => "forward",
            Activity::Train => "train",
            Activity::InputGrad => "input-grad",
            Activity::SslStep => "ssl-step",
        }
    }
}

/// The encoder at its published width, for images of [`image_shape`].
pub fn encoder_config(arch: Arch) -> EncoderConfig {
    let [side, _, in_channels] = image_shape(arch);
    EncoderConfig {
        arch,
        in_channels,
        side: if arch.needs_side() { side } else { 0 },
        ..EncoderConfig::default()
    }
}

/// `[h, w, c]` of the images that an encoder is made for: Fashion-MNIST and CIFAR.
pub fn image_shape(arch: Arch) -> [usize; 3] {
    match arch {
        Arch::ConvSmall | Arch::ConvFlat => [28, 28, 1],
        _ => [32, 32, 3],
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.activity.name(), self.arch.name())
    }
}

impl FromStr for Workload {
    type Err = UnknownWorkload;

    fn from_str(name: &str) -> Result<Self, UnknownWorkload> {
        let found = Workload::ALL.into_iter().find(|workload| workload.to_string() == name);
        found.ok_or_else(|| UnknownWorkload(name.to_owned()))
    }
}

/// A name that no [`Workload`] has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no workload `{0}`; take one of {names}", names = names())]
pub struct UnknownWorkload(String);

fn names() -> String {
    Workload::ALL.map(|workload| workload.to_string()).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_is_found_under_its_name() {
        for workload in Workload::ALL {
            assert_eq!(workload.to_string().parse(), Ok(workload));
        }
        assert_eq!(Workload::ALL[1].to_string(), "train:conv-small");
        let message = "train:resnet".parse::<Workload>().unwrap_err().to_string();
        assert!(
            message.contains("`train:resnet`") && message.contains("ssl-step:resnet18-cifar"),
            "{message}"
        );
    }
}
