//! Golden values: networks with closed-form weights, whose outputs were computed in f64 with PyTorch and by separate code.
//!
//! Weight `i` of a tensor, in PyTorch's order, is `0.5·sin(0.37·(i + o))`, pixel `i` is `((37·i) mod 101) / 101`.

use super::builder::{Builder, assert_close, float, forward, int, ints, none};
use crate::onnx::Graph;
use tarrl_tensor::cpu;

/// Weights are rounded to f32, and sums of up to 72 terms of size 0.5 are taken in f32.
const TOLERANCE: f64 = 1e-6;

fn w(o: usize, len: usize) -> Vec<f64> {
    (0..len).map(|i| 0.5 * (0.37 * (i + o) as f64).sin()).collect()
}

fn one_plus(o: usize, len: usize) -> Vec<f64> {
    w(o, len).into_iter().map(|v| 1.0 + v).collect()
}

fn pixels(len: usize) -> Vec<f64> {
    (0..len).map(|i| (37 * i % 101) as f64 / 101.0).collect()
}

impl Builder {
    fn weights(self, name: &str, o: usize, dims: &[i64]) -> Self {
        self.floats(name, dims, &w(o, dims.iter().product::<i64>() as usize))
    }

    /// Batch normalization of `c` channels with the constants from `o` on.
    fn norm(self, o: usize, c: i64, input: &str, output: &str) -> Self {
        let n = c as usize;
        let name = |part: &str| format!("{output}.{part}");
        let names = ["weight", "bias", "mean", "var"].map(name);
        self.floats(&names[0], &[c], &one_plus(o, n))
            .floats(&names[1], &[c], &w(o + 1, n))
            .floats(&names[2], &[c], &w(o + 2, n))
            .floats(&names[3], &[c], &one_plus(o + 3, n))
            .node(
                "BatchNormalization",
                &format!("{input} {}", names.join(" ")),
                output,
                &[float("epsilon", 1e-5)],
            )
    }
}

fn conv(kernel: i64, stride: i64, pad: i64) -> [crate::onnx::proto::AttributeProto<'static>; 3] {
    [ints("kernel_shape", &[kernel; 2]), ints("strides", &[stride; 2]), ints("pads", &[pad; 4])]
}

/// Convolutions, batch norm, max-pool, flatten and a matrix.
fn net_a(batch: i64, flatten: bool) -> Builder {
    let net = Builder::new(13, &[batch, 2, 8, 8])
        .weights("w1", 0, &[3, 2, 3, 3])
        .node("Conv", "x w1", "c1", &conv(3, 1, 1))
        .norm(100, 3, "c1", "n1")
        .node("Relu", "n1", "r1", &[])
        .node("MaxPool", "r1", "p1", &conv(3, 2, 1))
        .weights("w2", 200, &[4, 3, 3, 3])
        .weights("b2", 300, &[4])
        .node("Conv", "p1 w2 b2", "c2", &conv(3, 2, 1))
        .node("Relu", "c2", "r2", &[]);
    let net = if flatten {
        net.node("Flatten", "r2", "f", &[int("axis", 1)])
    } else {
        net.ints("shape", &[if batch == 0 { -1 } else { batch }, 16]).node("Reshape", "r2 shape", "f", &[])
    };
    net.weights("w3", 400, &[3, 16]).weights("b3", 500, &[3]).node(
        "Gemm",
        "f w3 b3",
        "y",
        &[int("transB", 1)],
    )
}

const A: [f64; 6] = [
    0.3672099618067427,
    0.1559608102703146,
    -0.07559583395971695,
    0.28897180455927685,
    0.09714004824997458,
    -0.1073254413216991,
];

#[test]
fn a_convolutional_network_gives_its_golden_values_with_a_free_and_a_fixed_batch() {
    for (batch, flatten) in [(0, true), (0, false), (1, true), (1, false), (2, false), (3, false)] {
        let found = net_a(batch, flatten).run(2, &pixels(256));
        assert_close(&found, &A, TOLERANCE);
    }
}

/// A residual block between normalized pixels and a mean, on the sphere.
fn net_b(sphere: bool) -> Builder {
    let net = Builder::new(17, &[0, 3, 8, 8])
        .floats("mean", &[1, 3, 1, 1], &[0.4914, 0.4822, 0.4465])
        .floats("std", &[1, 3, 1, 1], &[0.2471, 0.2435, 0.2616])
        .node("Sub", "x mean", "x1", &[])
        .node("Div", "x1 std", "x2", &[])
        .weights("w1", 0, &[4, 3, 3, 3])
        .node("Conv", "x2 w1", "c1", &conv(3, 1, 1))
        .norm(10, 4, "c1", "n1")
        .node("Relu", "n1", "h", &[])
        .weights("w2", 20, &[6, 4, 3, 3])
        .node("Conv", "h w2", "c2", &conv(3, 2, 1))
        .norm(30, 6, "c2", "n2")
        .node("Relu", "n2", "r2", &[])
        .weights("w3", 40, &[6, 6, 3, 3])
        .node("Conv", "r2 w3", "c3", &conv(3, 1, 1))
        .norm(50, 6, "c3", "n3")
        .weights("w4", 60, &[6, 4, 1, 1])
        .node("Conv", "h w4", "c4", &conv(1, 2, 0))
        .norm(70, 6, "c4", "n4")
        .node("Add", "n3 n4", "s", &[])
        .node("Relu", "s", "r", &[]);
    if !sphere {
        return net.node("ReduceMean", "r", "y", &[ints("axes", &[2, 3]), int("keepdims", 0)]);
    }
    net.node("ReduceMean", "r", "m", &[ints("axes", &[2, 3]), int("keepdims", 0)])
        .node("ReduceL2", "m", "l", &[ints("axes", &[1]), int("keepdims", 1)])
        .floats("floor", &[], &[1e-12])
        .node("Clip", "l floor _", "k", &[])
        .node("Shape", "m", "shape", &[])
        .node("Expand", "k shape", "e", &[])
        .node("Div", "m e", "y", &[])
}

#[test]
fn a_residual_network_on_the_sphere_gives_its_golden_values() {
    let expected = [
        0.04143625502767476,
        0.0,
        0.07159764711480776,
        0.8822227554265284,
        0.39648541482073885,
        0.240081526442489,
        0.0781577726150773,
        0.01954282647105769,
        0.10546277085867997,
        0.4586036256718563,
        0.5238782425365356,
        0.7054228136328171,
    ];
    assert_close(&net_b(true).run(2, &pixels(384)), &expected, TOLERANCE);
}

/// Certificates read the normalization to the sphere, the residual sum and the constants of the pixels by themselves.
#[test]
fn the_residual_network_has_certificates() {
    use tarrl_certify::Network;
    use tarrl_tensor::Tensor;
    for sphere in [false, true] {
        let graph = net_b(sphere).read().unwrap();
        let x = Tensor::full(&cpu(), [1, 8, 8, 3], tarrl_tensor::DType::F32, 0.5);
        let network = Network::trace(&|x| graph.forward(x), &x).unwrap();
        assert_eq!((network.features(), network.units()), (6, 4 * 64 + 6 * 16 + 6 * 16));
    }
}

/// A block of a vision transformer with two heads.
fn net_c(batch: i64, opset: i64) -> Builder {
    let n = if batch == 0 { -1 } else { batch };
    let net = Builder::new(opset, &[batch, 1, 4, 4])
        .weights("w0", 0, &[8, 1, 2, 2])
        .weights("b0", 1, &[8])
        .node("Conv", "x w0 b0", "p", &conv(2, 2, 0))
        .ints("flat", &[n, 8, 4])
        .node("Reshape", "p flat", "p1", &[])
        .node("Transpose", "p1", "tokens", &[ints("perm", &[0, 2, 1])])
        .weights("cls", 2, &[1, 1, 8])
        .node("Shape", "x", "sizes", &[])
        .ints("zero", &[0])
        .node("Gather", "sizes zero", "n", &[int("axis", 0)])
        .ints("rest", &[1, 8])
        .node("Concat", "n rest", "cls_shape", &[int("axis", 0)])
        .node("Expand", "cls cls_shape", "class", &[])
        .node("Concat", "class tokens", "all", &[int("axis", 1)])
        .weights("pos", 3, &[1, 5, 8])
        .node("Add", "all pos", "h0", &[]);
    let net = layer_norm(net, "h0", "z1", [10, 20])
        .floats("wqkv", &[8, 24], &transposed(&w(30, 192), 24, 8))
        .weights("bqkv", 40, &[24])
        .node("MatMul", "z1 wqkv", "qkv0", &[])
        .node("Add", "bqkv qkv0", "qkv1", &[])
        .ints("heads", &[n, 5, 3, 2, 4])
        .node("Reshape", "qkv1 heads", "qkv2", &[])
        .node("Transpose", "qkv2", "qkv", &[ints("perm", &[2, 0, 3, 1, 4])]);
    let net = (0..3).fold(net, |net, i| {
        net.int(&format!("i{i}"), i).node(
            "Gather",
            &format!("qkv i{i}"),
            &format!("part{i}"),
            &[int("axis", 0)],
        )
    });
    let root = 4f64.powf(-0.25);
    let net = net
        .floats("root", &[], &[root])
        .node("Mul", "part0 root", "q", &[])
        .node("Transpose", "part1", "kt", &[ints("perm", &[0, 1, 3, 2])])
        .node("Mul", "kt root", "k", &[])
        .node("MatMul", "q k", "scores", &[])
        .node("Softmax", "scores", "attention", &[int("axis", -1)])
        .node("MatMul", "attention part2", "o0", &[])
        .node("Transpose", "o0", "o1", &[ints("perm", &[0, 2, 1, 3])])
        .ints("joined", &[n, 5, 8])
        .node("Reshape", "o1 joined", "o2", &[])
        .floats("wproj", &[8, 8], &transposed(&w(31, 64), 8, 8))
        .weights("bproj", 41, &[8])
        .node("MatMul", "o2 wproj", "o3", &[])
        .node("Add", "o3 bproj", "o", &[])
        .node("Add", "h0 o", "h1", &[]);
    let net = layer_norm(net, "h1", "z2", [11, 21])
        .floats("wfc1", &[8, 32], &transposed(&w(32, 256), 32, 8))
        .weights("bfc1", 42, &[32])
        .node("MatMul", "z2 wfc1", "f0", &[])
        .node("Add", "f0 bfc1", "f1", &[]);
    let net = if opset >= 20 {
        net.node("Gelu", "f1", "f2", &[])
    } else {
        net.floats("root2", &[], &[2f64.sqrt()])
            .floats("one", &[], &[1.0])
            .floats("half", &[], &[0.5])
            .node("Div", "f1 root2", "g1", &[])
            .node("Erf", "g1", "g2", &[])
            .node("Add", "g2 one", "g3", &[])
            .node("Mul", "f1 g3", "g4", &[])
            .node("Mul", "g4 half", "f2", &[])
    };
    let net = net
        .floats("wfc2", &[32, 8], &transposed(&w(33, 256), 8, 32))
        .weights("bfc2", 43, &[8])
        .node("MatMul", "f2 wfc2", "f3", &[])
        .node("Add", "f3 bfc2", "f", &[])
        .node("Add", "h1 f", "h2", &[]);
    layer_norm(net, "h2", "z3", [12, 22]).int("first", 0).node("Gather", "z3 first", "y", &[int("axis", 1)])
}

/// Layer normalization of rows of 8, with weights `1 + w(o)` and biases `w(p)`.
fn layer_norm(net: Builder, input: &str, output: &str, [o, p]: [usize; 2]) -> Builder {
    let [weight, bias] = [format!("{output}.weight"), format!("{output}.bias")];
    let net = net.floats(&weight, &[8], &one_plus(o, 8)).weights(&bias, p, &[8]);
    if net.opset >= 17 {
        let attributes = [int("axis", -1), float("epsilon", 1e-6)];
        return net.node("LayerNormalization", &format!("{input} {weight} {bias}"), output, &attributes);
    }
    // As it was written before there was a node for it.
    let name = |i: usize| format!("{output}.{i}");
    let mean = [ints("axes", &[-1]), int("keepdims", 1)];
    net.floats(&name(10), &[], &[2.0])
        .floats(&name(11), &[], &[1e-6])
        .node("ReduceMean", input, &name(0), &mean)
        .node("Sub", &format!("{input} {}", name(0)), &name(1), &[])
        .node("Pow", &format!("{} {}", name(1), name(10)), &name(2), &[])
        .node("ReduceMean", &name(2), &name(3), &mean)
        .node("Add", &format!("{} {}", name(3), name(11)), &name(4), &[])
        .node("Sqrt", &name(4), &name(5), &[])
        .node("Div", &format!("{} {}", name(1), name(5)), &name(6), &[])
        .node("Mul", &format!("{} {weight}", name(6)), &name(7), &[])
        .node("Add", &format!("{} {bias}", name(7)), output, &[])
}

/// The transpose of a matrix `(rows, columns)`.
fn transposed(values: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

#[test]
fn a_transformer_gives_its_golden_values_in_every_form_that_exporters_write() {
    let expected = [
        0.6247636408920637,
        1.3635525551269019,
        -0.06839332529939082,
        0.5562634599885179,
        -1.2827505187733026,
        -0.24681987326410196,
        -1.7211860259532001,
        -0.19353711507673685,
        0.647696828327966,
        1.36195597676695,
        -0.06805831774551381,
        0.5311259123554828,
        -1.2979222962573043,
        -0.26673539909600047,
        -1.707600909638929,
        -0.16280641628967826,
    ];
    for (batch, opset) in [(0, 17), (0, 20), (0, 13), (1, 17), (2, 14), (3, 20)] {
        assert_close(&net_c(batch, opset).run(2, &pixels(32)), &expected, TOLERANCE);
    }
}

/// Groups, padding of two, a leaky ReLU, a rounded-up max-pool and an average that does not count its padding.
#[test]
fn pools_give_their_golden_values() {
    let net = Builder::new(13, &[1, 2, 11, 11])
        .weights("w1", 0, &[4, 1, 3, 3])
        .weights("b1", 5, &[4])
        .node("Conv", "x w1 b1", "c", &[&conv(3, 2, 2)[..], &[int("group", 2)]].concat())
        .node("LeakyRelu", "c", "l", &[float("alpha", 0.1)])
        .node("MaxPool", "l", "m", &[&conv(2, 2, 0)[..], &[int("ceil_mode", 1)]].concat())
        .node("AveragePool", "m", "a", &[&conv(3, 1, 1)[..], &[int("count_include_pad", 0)]].concat())
        .node("Flatten", "a", "f", &[])
        .weights("w2", 100, &[3, 64])
        .weights("b2", 200, &[3])
        .node("Gemm", "f w2 b2", "y", &[int("transB", 1)]);
    let expected = [1.3122826705487762, -1.9887913593854907, -2.478330320056599];
    assert_close(&net.run(1, &pixels(242)), &expected, TOLERANCE);
}

/// A file that PyTorch 2.15 wrote (`torch.onnx.export` with `dynamo=False`, opset 20), raw DEFLATE: a convolution from 1 to 2
/// channels with batch norm folded, ReLU, flatten and a matrix of 2×8.
const TORCH: &str = "4+AUYi+oLMkvSs6QYjPSMzTVM7DqYuVawMjFWMHFm5+XV2Fl5ZyfVxZvaIrKNRMS0E/WB7PzS0sKSkviDaTYoSJKLCBSS4iLMyUzJ7EkMz+v2IHRgXEBI7sWDxdrelF+aYEEkMekJcrFk51alJeaE1+ckViQ6sDkwARSJMjFUpCYUuzAAIEgIQEu9uKSosyUVJhJXPpcGA4Q4tMPSs0pRTiIFcxXYgGRXM5caNJCgvpuQOeVpOYhdHDAhJTYoQwtbi6WxIrMYrCLudK5MDVxcaTpladmpmeUcLGl6SVlJhYLMVYCAyNN3z01N1eJBURq8XOxJuYUZCSKMjA02C9gZNTi42JJSi1B8Hm52EqKEvOKncAWCXHlJmbmxacXJRZkaAVxMHFwCDA6we3xcghf3L6v4ceZfQf6v+3jOvFvX3/Lk31+wav3nX5sui/CN946KNXG7uWztXZ7BJ/ZsUv+t5s+86td051TdrNXtdiJCWyy1RLjYAKaCHWvF8f8SP19UeXqNlrWQLsYgRgkixr/XgoMQJCtamn3cu4aO3Ofp3Y7Pv6zuyj6za7k9Wm7meptdlqymNrMvDi0xBT2hex4tDdKBpiohMS5RDkYhQS5mIUY87iAdgExMwgniXAxVgrxc/ECZTlhskxOTAIiAA==";

#[test]
fn a_file_of_pytorch_gives_its_golden_values() {
    use std::io::Read;
    let mut bytes = Vec::new();
    flate2::read::DeflateDecoder::new(&base64(TORCH)[..]).read_to_end(&mut bytes).unwrap();
    let graph = Graph::from_bytes(&bytes, &none, &cpu()).unwrap();
    assert!(
        graph.notes()[0].contains("pytorch") && graph.notes()[0].contains("opset 20"),
        "{:?}",
        graph.notes()
    );
    let found = forward(&graph, 1, &pixels(9));
    assert_close(&found, &[-1.2757056850949202, 1.2437418304996715], TOLERANCE);
}

/// Base64 (RFC 4648).
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for digit in text.bytes().filter(|byte| *byte != b'=') {
        let value = DIGITS.iter().position(|&d| d == digit).expect("a digit of base64") as u32;
        (bits, count) = (bits << 6 | value, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
