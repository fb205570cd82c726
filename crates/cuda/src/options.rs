//! Options of a GPU: which one, its arithmetic, its libraries and where they are looked for.

use crate::libraries::Places;

/// How to open a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cuda {
    /// Its place among the GPUs of the machine.
    pub ordinal: usize,
    /// How f32 products are computed.
    pub arithmetic: Arithmetic,
    /// Whether convolutions go to cuDNN where it is installed.
    pub cudnn: bool,
    /// Whether work that comes again and again is captured and queued as a whole ([`tarrl_tensor::CapturedFn`]).
    pub graphs: bool,
    /// Where libraries are looked for and compiled kernels are kept.
    pub places: Places,
}

impl Cuda {
    /// Exact products, cuDNN where it is, graphs, and the usual folders.
    pub fn new(ordinal: usize) -> Cuda {
        Cuda {
            ordinal,
            arithmetic: Arithmetic::default(),
            cudnn: true,
            graphs: true,
            places: Places::usual(),
        }
    }
}

/// How products and convolutions of f32 are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// In f32.
    #[default]
    Exact,
    /// On tensor cores with factors rounded to ten bits of mantissa and sums in f32.
    Tf32,
}
