//! Kernel sources: which file of `kernels/` holds which kernels, and for which element types it is compiled.

pub(crate) mod cache;

use tarrl_tensor::DType;

/// One kernel file for one element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelSource {
    /// The name of the file without its ending.
    pub file: &'static str,
    /// The element type.
    pub element: Element,
    /// The kernels in it, without the ending that tells the element.
    pub kernels: &'static [&'static str],
    text: &'static str,
    headers: &'static [&'static str],
}

/// What the elements of a kernel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// float
    F32,
    /// double
    F64,
    /// bf16 in memory, float in arithmetic
    Bf16,
    /// Anything of two bytes that is only moved.
    Word2,
    /// Anything of four bytes that is only moved.
    Word4,
    /// Anything of eight bytes that is only moved.
    Word8,
    /// Given by the kernel's name.
    Named,
}

impl Element {
    /// For arithmetic.
    ///
    /// # Panics
    /// If the elements are indices.
    #[track_caller]
    pub(crate) fn real(op: &str, dtype: DType) -> Element {
        match dtype {
            DType::F32 => Element::F32,
            DType::F64 => Element::F64,
            DType::Bf16 => Element::Bf16,
            DType::U32 => panic!("{op}: indices have no arithmetic (cast them first)"),
        }
    }

    /// For moving.
    pub(crate) fn word(dtype: DType) -> Element {
        match dtype {
            DType::F32 | DType::U32 => Element::Word4,
            DType::F64 => Element::Word8,
            DType::Bf16 => Element::Word2,
        }
    }

    /// What ends the names of the kernels.
    pub fn suffix(self) -> &'static str {
        match self {
            Element::F32 => "_f32",
            Element::F64 => "_f64",
            Element::Bf16 => "_bf16",
            Element::Word2 => "_w2",
            Element::Word4 => "_w4",
            Element::Word8 => "_w8",
            Element::Named => "",
        }
    }

    /// How many of them sixteen bytes hold: a pack.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Element::F64 | Element::Word8 => 2,
            Element::F32 | Element::Word4 => 4,
            Element::Bf16 | Element::Word2 => 8,
            Element::Named => 1,
        }
    }

    fn definitions(self) -> String {
        let ty = match self {
            Element::F32 => "#define REAL float\n#define STORED float\n",
            Element::F64 => "#define REAL double\n#define STORED double\n",
            Element::Bf16 => "#define REAL float\n#define STORED bf16\n",
            Element::Word2 => "#define WORD unsigned short\n",
            Element::Word4 => "#define WORD unsigned int\n",
            Element::Word8 => "#define WORD unsigned long long\n",
            Element::Named => "",
        };
        format!("{ty}#define SUFFIX {}\n", self.suffix())
    }
}

impl KernelSource {
    /// The text for the compiler.
    pub fn source(&self) -> String {
        let mut source = self.element.definitions();
        source.push_str(COMMON);
        self.headers.iter().chain([&self.text]).for_each(|part| source.push_str(part));
        source
    }

    /// The text without what all sources share: what the emulator puts into a namespace.
    pub fn body(&self) -> String {
        self.headers.iter().chain([&self.text]).copied().collect()
    }

    /// The definitions of the element type.
    pub fn definitions(&self) -> String {
        self.element.definitions()
    }

    /// The macros that the text defines.
    pub fn macros(&self) -> Vec<&'static str> {
        let lines = self.headers.iter().chain([&self.text]).flat_map(|part| part.lines());
        let names = lines.filter_map(|line| line.strip_prefix("#define "));
        names.filter_map(|rest| rest.split([' ', '(']).next()).collect()
    }

    /// Whether threads of a block wait for each other.
    pub fn has_barriers(&self) -> bool {
        self.headers.contains(&BLOCK) || self.text.contains("__syncthreads")
    }
}

/// What all sources share.
pub const COMMON: &str = include_str!("../../kernels/common.cuh");
const BF16: &str = include_str!("../../kernels/bf16.cuh");
const STORED: &str = include_str!("../../kernels/stored.cuh");
const MATH: &str = include_str!("../../kernels/math.cuh");
const BLOCK: &str = include_str!("../../kernels/block.cuh");

const REALS: &[Element] = &[Element::F32, Element::F64, Element::Bf16];
const WORDS: &[Element] = &[Element::Word2, Element::Word4, Element::Word8];

type File =
    (&'static str, &'static str, &'static [&'static str], &'static [Element], &'static [&'static str]);

macro_rules! file {
    ($name:literal, $headers:expr, $elements:expr, $kernels:expr) => {
        ($name, include_str!(concat!("../../kernels/", $name, ".cu")), $headers, $elements, $kernels)
    };
}

const FILES: &[File] = &[
    file!(
        "pointwise",
        &[BF16, STORED, MATH],
        REALS,
        &[
            "unary_neg",
            "unary_exp",
            "unary_log",
            "unary_sqrt",
            "unary_relu",
            "unary_gelu",
            "unary_silu",
            "unary_tanh",
            "unary_sigmoid",
            "unary_erf",
            "unary_sign",
            "unary_abs",
            "unary_powf",
            "unary_add_scalar",
            "unary_mul_scalar",
            "unary_clamp",
            "binary_add",
            "binary_sub",
            "binary_mul",
            "binary_div",
            "binary_max",
            "binary_min",
            "binary_greater",
            "binary_greater_equal",
            "binary_equal",
            "binary_mask",
            "add_relu",
            "add_mask",
            "select",
            "channel_affine",
        ]
    ),
    file!(
        "cast",
        &[BF16],
        &[Element::Named],
        &[
            "f32_to_f64",
            "f32_to_u32",
            "f64_to_f32",
            "f64_to_u32",
            "u32_to_f32",
            "u32_to_f64",
            "f64_to_bf16",
            "u32_to_bf16",
            "bf16_to_f64",
            "bf16_to_u32",
            "f32_to_bf16",
            "bf16_to_f32",
        ]
    ),
    file!("copy", &[], &[Element::Named], &["copy"]),
    file!("layout", &[], WORDS, &["fill", "strided", "transpose", "place", "gather"]),
    file!("scatter", &[BF16, STORED], REALS, &["scatter_link", "scatter_sum"]),
    file!(
        "reduce",
        &[BF16, STORED, BLOCK],
        REALS,
        &["sum_short", "sum_rows", "sum_columns", "sum_pieces", "extreme_short", "extreme_long"]
    ),
    file!(
        "softmax",
        &[BF16, STORED, MATH, BLOCK],
        REALS,
        &["softmax", "softmax_adjoint", "cross_entropy", "cross_entropy_adjoint"]
    ),
    file!(
        "norm",
        &[BF16, STORED, MATH],
        REALS,
        &[
            "moments",
            "moments_by_pack",
            "moments_finish",
            "norm_adjoint_sums",
            "norm_adjoint_sums_by_pack",
            "norm_adjoint_finish",
            "norm_adjoint_input",
            "norm_add_relu",
            "norm_add_relu_sums",
            "norm_add_relu_sums_by_pack",
        ]
    ),
    file!("conv", &[BF16, STORED], REALS, &["patches", "patches_by_pack", "pixels", "pixels_by_pack"]),
    file!("pool", &[BF16, STORED], REALS, &["sum_pool", "sum_pool_adjoint", "max_pool"]),
    file!("random", &[BF16, STORED], REALS, &["uniform", "normal"]),
    file!(
        "optimizer",
        &[MATH, BLOCK],
        &[Element::F32, Element::F64],
        &["update_sgd", "update_adam", "update_squares", "update_lars"]
    ),
    file!("augment", &[BLOCK], &[Element::Named], &["augment"]),
];

/// Every source, in the order of the files.
pub fn kernel_sources() -> impl Iterator<Item = KernelSource> {
    FILES.iter().flat_map(|&(file, text, headers, elements, kernels)| {
        elements.iter().map(move |&element| KernelSource { file, element, kernels, text, headers })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_of_kernels_are_unique_and_stand_in_their_file() {
        let mut names = BTreeSet::new();
        for source in kernel_sources() {
            for kernel in source.kernels {
                assert!(names.insert(format!("{kernel}{}", source.element.suffix())), "{kernel} twice");
                // Families are written by a macro each, with the rest of the name as its first argument.
                let short = kernel.trim_start_matches("unary_").trim_start_matches("binary_");
                let forms = ["KERNEL", "UNARY", "BINARY", "CAST"].map(|word| format!("{word}({short}"));
                assert!(forms.iter().any(|form| source.text.contains(form)), "{kernel} in {}", source.file);
            }
        }
    }

    #[test]
    fn every_kernel_of_a_file_is_in_the_table() {
        for source in kernel_sources() {
            let starts = ["\nKERNEL(", "\nUNARY(", "\nBINARY(", "\nCAST("];
            let written: usize = starts.iter().map(|start| source.text.matches(start).count()).sum();
            assert_eq!(written, source.kernels.len(), "{}", source.file);
        }
    }
}
