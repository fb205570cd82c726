//! The registry of losses: the choice that a method file makes.

use crate::loss::SslLoss;
use crate::{
    BarlowTwins, Byol, CrossEntropy, Dino, MocoV2, MocoV3, NtXent, NtXentTogether, SimSiam, SupCon, SwAv,
    Trades, VicReg, WMse,
};
use serde::{Deserialize, Serialize};

/// Declares [`Objective`]: one line for each loss, with its name in method files.
macro_rules! objectives {
    ($($loss:ident = $kind:literal,)*) => {
        /// A loss, as method files name it: `{ kind = "nt-xent", temperature = 0.5 }`. A setting that a file leaves out
        /// has its published value.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum Objective {
            $(
                #[doc = concat!("`kind = \"", $kind, "\"`")]
                #[serde(rename = $kind)]
                $loss($loss),
            )*
        }

        impl Objective {
            /// The names of all losses in method files.
            pub const KINDS: &[&str] = &[$($kind),*];

            /// The loss.
            pub fn as_loss(&self) -> &dyn SslLoss {
                match self {
                    $(Objective::$loss(loss) => loss,)*
                }
            }
        }
    };
}

objectives! {
    NtXent = "nt-xent",
    NtXentTogether = "nt-xent-together",
    MocoV2 = "moco-v2",
    MocoV3 = "moco-v3",
    Byol = "byol",
    SimSiam = "simsiam",
    BarlowTwins = "barlow-twins",
    VicReg = "vicreg",
    WMse = "w-mse",
    SwAv = "swav",
    Dino = "dino",
    SupCon = "supcon",
    CrossEntropy = "cross-entropy",
    Trades = "trades",
}

/// NT-Xent at the temperature that SimCLR uses on CIFAR-10.
impl Default for Objective {
    fn default() -> Self {
        Objective::NtXent(NtXent::default())
    }
}

#[cfg(test)]
mod tests;
