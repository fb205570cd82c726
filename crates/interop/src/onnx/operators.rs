//! The operators that are read, with their attributes.

/// The oldest and the newest version of the operators that are read.
pub(crate) const OLDEST: i64 = 9;
pub(crate) const NEWEST: i64 = 23;

const WINDOW: &[&str] = &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];
const POOL: &[&str] = &[
    "auto_pad",
    "ceil_mode",
    "count_include_pad",
    "dilations",
    "kernel_shape",
    "pads",
    "storage_order",
    "strides",
];
const REDUCE: &[&str] = &["axes", "keepdims", "noop_with_empty_axes"];
const NONE: &[&str] = &[];

/// Every operator that is read and the attributes that it may have.
pub(crate) const OPERATORS: &[(&str, &[&str])] = &[
    ("Abs", NONE),
    ("Add", NONE),
    ("And", NONE),
    ("Attention", &["is_causal", "kv_num_heads", "q_num_heads", "qk_matmul_output_mode", "scale", "softcap"]),
    ("AveragePool", POOL),
    ("BatchNormalization", &["epsilon", "momentum", "training_mode", "spatial"]),
    ("Cast", &["to", "saturate"]),
    ("Clip", &["min", "max"]),
    ("Concat", &["axis"]),
    ("Constant", &["value", "value_float", "value_floats", "value_int", "value_ints"]),
    ("ConstantOfShape", &["value"]),
    ("Conv", WINDOW),
    ("Div", NONE),
    ("Dropout", &["ratio", "seed"]),
    ("Elu", &["alpha"]),
    ("Equal", NONE),
    ("Erf", NONE),
    ("Exp", NONE),
    ("Expand", NONE),
    ("Flatten", &["axis"]),
    ("Gather", &["axis"]),
    ("Gelu", &["approximate"]),
    ("Gemm", &["alpha", "beta", "transA", "transB"]),
    ("GlobalAveragePool", NONE),
    ("GlobalMaxPool", NONE),
    ("GroupNormalization", &["epsilon", "num_groups", "stash_type"]),
    ("HardSigmoid", &["alpha", "beta"]),
    ("HardSwish", NONE),
    ("Identity", NONE),
    ("InstanceNormalization", &["epsilon"]),
    ("LayerNormalization", &["axis", "epsilon", "stash_type"]),
    ("LeakyRelu", &["alpha"]),
    ("Log", NONE),
    ("LogSoftmax", &["axis"]),
    ("LpNormalization", &["axis", "p"]),
    ("MatMul", NONE),
    ("Max", NONE),
    ("MaxPool", POOL),
    ("Min", NONE),
    ("Mish", NONE),
    ("Mod", &["fmod"]),
    ("Mul", NONE),
    ("Neg", NONE),
    ("Not", NONE),
    ("PRelu", NONE),
    ("Pad", &["mode", "pads", "value"]),
    ("Pow", NONE),
    ("Range", NONE),
    ("Reciprocal", NONE),
    ("ReduceL1", REDUCE),
    ("ReduceL2", REDUCE),
    ("ReduceMax", REDUCE),
    ("ReduceMean", REDUCE),
    ("ReduceMin", REDUCE),
    ("ReduceProd", REDUCE),
    ("ReduceSum", REDUCE),
    ("ReduceSumSquare", REDUCE),
    ("Relu", NONE),
    ("Reshape", &["allowzero"]),
    ("Selu", &["alpha", "gamma"]),
    ("Shape", &["start", "end"]),
    ("Sigmoid", NONE),
    ("Slice", &["axes", "ends", "starts"]),
    ("Softmax", &["axis"]),
    ("Softplus", NONE),
    ("Split", &["axis", "num_outputs", "split"]),
    ("Sqrt", NONE),
    ("Squeeze", &["axes"]),
    ("Sub", NONE),
    ("Tanh", NONE),
    ("Transpose", &["perm"]),
    ("Unsqueeze", &["axes"]),
    ("Where", NONE),
];

/// The versions of the ONNX operators that are read.
pub const OPSETS: std::ops::RangeInclusive<i64> = OLDEST..=NEWEST;

/// The names of the ONNX operators that are read.
pub fn operators() -> impl Iterator<Item = &'static str> {
    OPERATORS.iter().map(|(name, _)| *name)
}

/// The attributes of an operator; `None` if it is not read.
pub(crate) fn attributes_of(op: &str) -> Option<&'static [&'static str]> {
    let place = OPERATORS.binary_search_by_key(&op, |(name, _)| name).ok()?;
    Some(OPERATORS[place].1)
}

#[cfg(test)]
mod tests {
    use super::OPERATORS;

    #[test]
    fn the_operators_are_in_the_order_of_their_names() {
        assert!(OPERATORS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
