//! Losses, one file each, and their registry: the choice that a method file makes.

mod air;
mod barlow_twins;
mod byol;
mod cross_entropy;
mod deacl;
mod dino;
mod fare;
mod moco_v2;
mod moco_v3;
mod nt_xent;
mod nt_xent_together;
mod simsiam;
mod sup_con;
mod swav;
mod trades;
mod vicreg;
mod w_mse;

pub use air::{adversarial_invariance, invariance};
pub use barlow_twins::{BarlowTwins, barlow_twins};
pub use byol::{Byol, byol};
pub use cross_entropy::{CrossEntropy, cross_entropy};
pub use deacl::{deacl, negative_cosine};
pub use dino::{Center, Dino, dino};
pub use fare::{fare, squared_distance};
pub use moco_v2::{MocoV2, moco_v2};
pub use moco_v3::{MocoV3, moco_v3};
pub use nt_xent::{NtXent, nt_xent};
pub use nt_xent_together::{NtXentTogether, nt_xent_together};
pub use simsiam::{SimSiam, simsiam};
pub use sup_con::{Sides, SupCon, sup_con};
pub use swav::{SwAv, sinkhorn, swav};
pub use trades::{Trades, kl_divergence, trades};
pub use vicreg::{VicReg, vicreg};
pub use w_mse::{WMse, w_mse, whiten};

use crate::loss::SslLoss;
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
mod extremes;
#[cfg(test)]
mod tests;
