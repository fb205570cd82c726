//! Targets of the readers of other programs' files.

use crate::scratch::Scratch;
use crate::target::{Target, none};
use tarrl_interop::onnx::{Export, ExportBatch, Graph, export};
use tarrl_tensor::{Conv, DType, Key, Pool, Random, Tensor, Transpose};
use tarrl_vnnlib::{Claim, Query, Version, classification_claim};

pub(super) const ONNX: Target = Target {
    name: "onnx",
    seeds: models,
    words: &[
        "Conv",
        "Gemm",
        "MatMul",
        "Relu",
        "Add",
        "Mul",
        "Div",
        "Reshape",
        "Transpose",
        "Concat",
        "Slice",
        "Gather",
        "Expand",
        "Pad",
        "Shape",
        "Split",
        "Squeeze",
        "Unsqueeze",
        "Softmax",
        "ReduceMean",
        "ReduceL2",
        "Clip",
        "MaxPool",
        "AveragePool",
        "BatchNormalization",
        "LayerNormalization",
        "Attention",
        "Range",
        "ConstantOfShape",
        "Where",
        "axis",
        "axes",
        "perm",
        "pads",
        "strides",
        "dilations",
        "group",
        "ceil_mode",
        "auto_pad",
        "SAME_UPPER",
        "keepdims",
        "location",
    ],
    repair: none,
    read: read_model,
};

pub(super) const VNNLIB: Target = Target {
    name: "vnnlib",
    seeds: queries,
    words: &[
        "(vnnlib-version <2.0>)",
        "(declare-network f",
        "(declare-input X real [1,3])",
        "(declare-output Y real [2])",
        "(declare-const X_0 Real)",
        "(assert (or ",
        "(and ",
        "(<= ",
        "(== ",
        "(!= ",
        "(+ ",
        "(- ",
        "(* ",
        "X[0,0]",
        "Y[0]",
        "Y_1",
        "0.5",
        "-1.0",
        "1e-5",
        "(equal-to g)",
        "; ",
    ],
    repair: none,
    read: read_query,
};

/// A model with a bias, a pool, a residual sum and a norm, and one of tokens, each of few weights.
fn models() -> Vec<Vec<u8>> {
    let device = Scratch::new().device;
    let normal = |name: &str, shape: &[usize]| {
        let keys = [Key::new(5).fold(name)];
        Tensor::random(&device, Random::Normal, &keys, shape, DType::F32).reshape(shape)
    };
    let (kernel, bias) = (normal("kernel", &[3, 3, 2, 4]), normal("bias", &[4]));
    let matrix = normal("matrix", &[3, 4]);
    let images = |x: &Tensor| {
        let y = x.conv2d(&kernel, Conv { stride: 1, pad: 1, groups: 1 });
        let y = y.channel_affine(&bias.abs(), &bias, true);
        let y = y.max_pool(Pool { window: 2, stride: 2, pad: 0 });
        let y = (&y.mul_scalar(0.5) + &y.relu()).avg_pool(Pool { window: 2, stride: 1, pad: 1 });
        y.global_avg_pool().matmul_with(&matrix, Transpose::RIGHT).l2_normalize(1e-12)
    };
    let (token, norm) = (normal("token", &[1, 1, 4]), normal("norm", &[4]));
    let patch = normal("patch", &[2, 2, 2, 4]);
    let tokens = |x: &Tensor| {
        let n = x.shape()[0];
        let patches = x.conv2d(&patch, Conv { stride: 2, pad: 0, groups: 1 }).reshape([n, 4, 4]);
        let all = Tensor::concat(&[&token.broadcast_to([n, 1, 4]), &patches], 1);
        let z = all.layer_norm(&norm.abs(), &norm, 1e-6);
        let weights = z.matmul_with(&z, Transpose::RIGHT).softmax();
        weights.matmul(&z).gelu().slice(1, 0, 1).reshape([n, 4])
    };
    let write = |function: &dyn Fn(&Tensor) -> Tensor, batch| {
        let what = Export { image: [4, 4, 2], dtype: DType::F32, batch, names: &[], metadata: &[] };
        export(function, &what, &device).expect("its ops have nodes")
    };
    let mut all = Vec::new();
    for batch in [ExportBatch::One, ExportBatch::Any] {
        all.push(write(&images, batch));
        all.push(write(&tokens, batch));
    }
    all
}

fn read_model(bytes: &[u8], scratch: &Scratch) -> bool {
    let external = |_: &str, _: u64, _: usize| Err("there is no other file".to_owned());
    let Ok(graph) = Graph::from_bytes(bytes, &external, &scratch.device) else { return false };
    assert!(graph.dim() > 0 && graph.channels() > 0);
    let side = graph.side().unwrap_or(8);
    // What a model computes may be long, though it is bounded.
    if graph.constant_count() <= 1 << 12
        && graph.channels() * side * side <= 1 << 8
        && graph.widest() <= 1 << 12
    {
        let x = Tensor::full(&scratch.device, [2, side, side, graph.channels()], DType::F32, 0.5);
        if graph.side().is_some() {
            let y = graph.forward(&x);
            assert_eq!(y.shape()[..], [2, graph.dim()]);
        }
    }
    true
}

/// Queries of both versions, as certificates are written.
fn queries() -> Vec<Vec<u8>> {
    let claim =
        Claim { pixels: &[0.25, 0.5, 1.0, 0.0], image: [1, 2, 2], epsilon: 0.1, range: Some((0.0, 1.0)) };
    let write =
        |version| classification_claim(&claim, 3, 1, version).to_text("a query").expect("it has a text");
    let sums = "(vnnlib-version <2.0>)(declare-network f(declare-input X float32 [2])(declare-output Y float32 [1,2]))
        (assert (>= X[0] -1.0))(assert (<= X[0] 1.0))(assert (and (>= X[1] 0.0) (<= X[1] 0.5)))
        (assert (>= X[1] 0.0))(assert (<= X[1] 0.5))
        (assert (or (and (<= (+ (* 0.5 Y[0,0]) (- Y[0,1]) 0.125) X[0]) (!= Y[0,1] 3.0)) (== Y[0,0] (- 2.0 1.0))))";
    [write(Version::One), write(Version::Two), sums.to_owned()].map(String::into_bytes).into()
}

fn read_query(bytes: &[u8], _: &Scratch) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(query) = Query::parse(text) else { return false };
    assert_eq!((query.bounds.len(), query.output.is_empty()), (query.input.len(), false));
    let (x, y) = (vec![0.5; query.input.len()], vec![0.0; query.output.len()]);
    query.is_satisfied(&x, &y);
    if let Some(written) = query.to_text("written again") {
        let again = Query::parse(&written).expect("what was written is read");
        assert_eq!((again.bounds, again.cases.len()), (query.bounds, query.cases.len()));
    }
    true
}
