//! Operators beside the ones of the golden networks, against values computed by hand or by the formula beside them.

use super::builder::{Builder, assert_close, float, int, ints};

/// Two rounding errors of f32 on values below 4.
const TOLERANCE: f64 = 5e-7;

const X: [f64; 8] = [-2.0, -1.0, -0.25, 0.0, 0.5, 1.0, 1.5, 2.0];

/// `(1, 2, 2, 2)` images through one elementwise node, as a row of eight.
fn elementwise(op: &str, attributes: &[crate::onnx::proto::AttributeProto<'static>]) -> Vec<f64> {
    let net = Builder::new(20, &[0, 2, 2, 2]).node(op, "x", "z", attributes).node("Flatten", "z", "y", &[]);
    net.run(1, &X)
}

#[test]
fn elementwise_functions_are_those_of_their_formulas() {
    type Case<'a> = (&'a str, Vec<crate::onnx::proto::AttributeProto<'static>>, fn(f64) -> f64);
    let cases: Vec<Case<'_>> = vec![
        ("Relu", vec![], |x| x.max(0.0)),
        ("LeakyRelu", vec![float("alpha", 0.25)], |x| if x < 0.0 { 0.25 * x } else { x }),
        ("Elu", vec![float("alpha", 2.0)], |x| if x < 0.0 { 2.0 * (x.exp() - 1.0) } else { x }),
        ("Selu", vec![], |x| {
            let gamma = 1.0507009873554805;
            if x < 0.0 { gamma * 1.6732632423543772 * (x.exp() - 1.0) } else { gamma * x }
        }),
        ("Softplus", vec![], |x| (1.0 + x.exp()).ln()),
        ("Mish", vec![], |x| x * (1.0 + x.exp()).ln().tanh()),
        ("Sigmoid", vec![], |x| 1.0 / (1.0 + (-x).exp())),
        ("HardSigmoid", vec![], |x| (0.2 * x + 0.5).clamp(0.0, 1.0)),
        ("HardSwish", vec![], |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        ("Tanh", vec![], f64::tanh),
        ("Exp", vec![], f64::exp),
        ("Abs", vec![], f64::abs),
        ("Neg", vec![], |x| -x),
    ];
    for (op, attributes, formula) in cases {
        let expected: Vec<f64> = X.iter().map(|&x| formula(x)).collect();
        // e² is 7.4: twice the rounding of the others.
        assert_close(&elementwise(op, &attributes), &expected, 2.0 * TOLERANCE);
    }
}

/// The two forms of GELU differ by at most 5e-4, and each by less than that from the values of its definition.
#[test]
fn both_forms_of_gelu_are_read() {
    let text = crate::onnx::proto::AttributeProto {
        name: "approximate".into(),
        text: b"tanh".into(),
        kind: 3,
        ..Default::default()
    };
    let tanh =
        |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh());
    let expected: Vec<f64> = X.iter().map(|&x| tanh(x)).collect();
    assert_close(&elementwise("Gelu", &[text]), &expected, TOLERANCE);
    let exact = elementwise("Gelu", &[]);
    // Φ(1) and Φ(2), tables of the normal distribution.
    assert_close(&[exact[5], exact[7]], &[0.841_344_746, 2.0 * 0.977_249_868], TOLERANCE);
}

#[test]
fn a_constant_meets_channels_or_columns_as_its_axes_say() {
    // (2, 1, 1) is one number for each channel; (2) one for each column.
    for (dims, expected) in [
        (vec![2, 1, 1], vec![11.0, 12.0, 13.0, 14.0, 25.0, 26.0, 27.0, 28.0]),
        (vec![2], vec![11.0, 22.0, 13.0, 24.0, 15.0, 26.0, 17.0, 28.0]),
        (vec![1, 1, 2, 1], vec![11.0, 12.0, 23.0, 24.0, 15.0, 16.0, 27.0, 28.0]),
    ] {
        let net = Builder::new(13, &[0, 2, 2, 2])
            .floats("c", &dims, &[10.0, 20.0])
            .node("Add", "x c", "z", &[])
            .node("Flatten", "z", "y", &[]);
        let x: Vec<f64> = (1..=8).map(f64::from).collect();
        assert_close(&net.run(1, &x), &expected, TOLERANCE);
    }
}

#[test]
fn operands_of_a_constant_first_difference_and_quotient_are_not_exchanged() {
    let run = |op: &str, swapped: bool| {
        let inputs = if swapped { "c x" } else { "x c" };
        let net = Builder::new(13, &[0, 1, 1, 1])
            .floats("c", &[1, 1, 1, 1], &[3.0])
            .node(op, inputs, "z", &[])
            .node("Flatten", "z", "y", &[]);
        net.run(1, &[0.5])[0]
    };
    assert_eq!([run("Sub", false), run("Sub", true)], [-2.5, 2.5]);
    assert_eq!([run("Div", true), run("Pow", false)], [6.0, 0.125]);
    // For each of two channels.
    let net = Builder::new(13, &[0, 2, 1, 1])
        .floats("c", &[1, 2, 1, 1], &[3.0, 4.0])
        .node("Sub", "c x", "s", &[])
        .node("Div", "c s", "d", &[])
        .node("Flatten", "d", "y", &[]);
    assert_close(&net.run(1, &[0.5, 2.0]), &[3.0 / 2.5, 2.0], TOLERANCE);
}

#[test]
fn windows_with_unequal_padding_strides_and_dilation_walk_as_the_format_says() {
    let conv = |attributes: &[crate::onnx::proto::AttributeProto<'static>]| {
        let net = Builder::new(13, &[0, 1, 4, 4])
            .floats("w", &[1, 1, 2, 2], &[1.0, 10.0, 100.0, 1000.0])
            .node("Conv", "x w", "c", attributes)
            .node("Flatten", "c", "y", &[]);
        net.run(1, &(0..16).map(f64::from).collect::<Vec<_>>())
    };
    let at =
        |r: i64, c: i64| if (0..4).contains(&r) && (0..4).contains(&c) { (4 * r + c) as f64 } else { 0.0 };
    let expected = |rows: &[i64], columns: &[i64], step: i64| -> Vec<f64> {
        let window = |r: i64, c: i64| {
            at(r, c) + 10.0 * at(r, c + step) + 100.0 * at(r + step, c) + 1000.0 * at(r + step, c + step)
        };
        rows.iter().flat_map(|&r| columns.iter().map(move |&c| (r, c))).map(|(r, c)| window(r, c)).collect()
    };
    assert_eq!(conv(&[ints("pads", &[1, 0, 0, 1])]), expected(&[-1, 0, 1, 2], &[0, 1, 2, 3], 1));
    assert_eq!(conv(&[ints("strides", &[1, 2])]), expected(&[0, 1, 2], &[0, 2], 1));
    assert_eq!(conv(&[ints("dilations", &[2, 2])]), expected(&[0, 1], &[0, 1], 2));
    let same = |name: &'static str| crate::onnx::proto::AttributeProto {
        name: "auto_pad".into(),
        text: name.as_bytes().into(),
        kind: 3,
        ..Default::default()
    };
    assert_eq!(conv(&[same("SAME_UPPER")]), expected(&[0, 1, 2, 3], &[0, 1, 2, 3], 1));
    assert_eq!(conv(&[same("SAME_LOWER")]), expected(&[-1, 0, 1, 2], &[-1, 0, 1, 2], 1));
}

/// A rounded-up pool of five cells by two: cells behind the input do not count, those of the declared padding do if asked.
#[test]
fn averages_count_the_cells_that_the_format_counts() {
    let pool = |attributes: &[crate::onnx::proto::AttributeProto<'static>]| {
        let all = [&[ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])][..], attributes].concat();
        let net = Builder::new(13, &[0, 1, 3, 3]).node("AveragePool", "x", "p", &all).node(
            "Flatten",
            "p",
            "y",
            &[],
        );
        net.run(1, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])
    };
    assert_close(&pool(&[]), &[3.0], TOLERANCE);
    assert_close(&pool(&[int("ceil_mode", 1)]), &[3.0, 4.5, 7.5, 9.0], TOLERANCE);
    let padded = [ints("pads", &[1, 1, 1, 1])];
    assert_close(&pool(&padded), &[1.0, 2.5, 5.5, 7.0], TOLERANCE);
    let counted = [ints("pads", &[1, 1, 1, 1]), int("count_include_pad", 1)];
    assert_close(&pool(&counted), &[0.25, 1.25, 2.75, 7.0], TOLERANCE);
}

#[test]
fn a_max_pool_never_chooses_its_padding() {
    let attributes = [ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2]), int("ceil_mode", 1)];
    let net =
        Builder::new(13, &[0, 1, 3, 3]).node("MaxPool", "x", "p", &attributes).node("Flatten", "p", "y", &[]);
    let x: Vec<f64> = (1..=9).map(|i| f64::from(-i)).collect();
    assert_close(&net.run(1, &x), &[-1.0, -3.0, -7.0, -9.0], TOLERANCE);
}

/// Rows `(0, 1)`, `(2, 3)`, `(4, 5)` of each image moved, cut, joined and picked.
#[test]
fn elements_are_moved_as_the_format_says() {
    let base = || Builder::new(18, &[0, 1, 2, 2]).ints("rows", &[0, 4]).node("Reshape", "x rows", "r", &[]);
    let x = [0.0, 1.0, 2.0, 3.0];
    let cases = [
        (
            base().ints("s", &[-3]).ints("e", &[i64::MAX]).ints("a", &[1]).ints("t", &[2]).node(
                "Slice",
                "r s e a t",
                "y",
                &[],
            ),
            vec![1.0, 3.0],
        ),
        (base().ints("i", &[-1, 0]).node("Gather", "r i", "y", &[int("axis", 1)]), vec![3.0, 0.0]),
        (
            base().node("Split", "r", "a b", &[int("axis", 1), int("num_outputs", 2)]).node(
                "Concat",
                "b a",
                "y",
                &[int("axis", 1)],
            ),
            vec![2.0, 3.0, 0.0, 1.0],
        ),
        (
            base().ints("p", &[0, 1, 0, 2]).floats("v", &[], &[7.0]).node("Pad", "r p v", "y", &[]),
            vec![7.0, 0.0, 1.0, 2.0, 3.0, 7.0, 7.0],
        ),
        (
            base()
                .ints("u", &[2])
                .node("Unsqueeze", "r u", "z", &[])
                .ints("to", &[1, 4, 2])
                .node("Expand", "z to", "e", &[])
                .node("Flatten", "e", "y", &[]),
            vec![0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0],
        ),
    ];
    for (net, expected) in cases {
        assert_eq!(net.run(1, &x), expected);
        let both = [x, [10.0, 11.0, 12.0, 13.0]].concat();
        assert_eq!(net.run(2, &both)[..expected.len()], expected);
    }
}

#[test]
fn reductions_take_the_axes_of_their_version() {
    let x = [3.0, -1.0, 2.0, 0.0, 4.0, 1.0, -5.0, 2.0];
    let run = |op: &str, opset: i64, axes: &[i64]| {
        let net = Builder::new(opset, &[0, 2, 2, 2]);
        let net = if opset >= 18 {
            net.ints("axes", axes).node(op, "x axes", "r", &[int("keepdims", 1)])
        } else {
            net.node(op, "x", "r", &[int("keepdims", 1), ints("axes", axes)])
        };
        net.node("Flatten", "r", "y", &[]).run(1, &x)
    };
    for opset in [13, 18] {
        assert_close(&run("ReduceMean", opset, &[2, 3]), &[1.0, 0.5], TOLERANCE);
        assert_close(&run("ReduceMax", opset, &[-1]), &[3.0, 2.0, 4.0, 2.0], TOLERANCE);
        assert_close(&run("ReduceMin", opset, &[1]), &[3.0, -1.0, -5.0, 0.0], TOLERANCE);
        assert_close(&run("ReduceL1", opset, &[1, 2, 3]), &[18.0], TOLERANCE);
        assert_close(&run("ReduceL2", opset, &[2, 3]), &[14f64.sqrt(), 46f64.sqrt()], 2.0 * TOLERANCE);
    }
}

#[test]
fn softmax_before_version_13_takes_all_axes_from_one_on() {
    let run = |opset: i64, attributes: &[crate::onnx::proto::AttributeProto<'static>]| {
        let net = Builder::new(opset, &[0, 1, 2, 2]).node("Softmax", "x", "s", attributes).node(
            "Flatten",
            "s",
            "y",
            &[],
        );
        net.run(1, &[0.0, 0.0, 0.0, 3f64.ln()])
    };
    let [a, b] = [1.0 / 6.0, 0.5];
    assert_close(&run(12, &[]), &[a, a, a, b], TOLERANCE);
    assert_close(&run(13, &[]), &[0.5, 0.5, 0.25, 0.75], TOLERANCE);
    assert_close(&run(13, &[int("axis", 2)]), &[0.5, 0.25, 0.5, 0.75], TOLERANCE);
}

/// Version 23 has one node for attention; with equal scores it is the mean of the values.
#[test]
fn attention_of_equal_scores_is_the_mean_of_the_values() {
    let net = Builder::new(23, &[0, 1, 2, 2])
        .floats("zero", &[], &[0.0])
        .node("Mul", "x zero", "q", &[])
        .node("Attention", "q x x", "a", &[])
        .node("Flatten", "a", "y", &[]);
    assert_close(&net.run(1, &[1.0, 2.0, 3.0, 6.0]), &[2.0, 4.0, 2.0, 4.0], TOLERANCE);
}

/// A squeeze-and-excitation: a map times one number for each channel, which the map itself gives.
#[test]
fn a_gate_of_channels_meets_its_map() {
    let net = Builder::new(13, &[0, 2, 2, 2])
        .node("GlobalAveragePool", "x", "m", &[])
        .node("Mul", "x m", "g", &[])
        .node("GlobalMaxPool", "g", "t", &[])
        .node("Flatten", "t", "y", &[]);
    let x = [1.0, 2.0, 3.0, 6.0, 0.0, 4.0, 0.0, 4.0];
    assert_close(&net.run(1, &x), &[18.0, 8.0], 4.0 * TOLERANCE);
}

/// Multi-head attention of torchvision puts the batch on the second axis; of a fixed batch it runs piece by piece.
#[test]
fn a_batch_that_a_file_has_on_another_axis_is_run_in_pieces() {
    let net = Builder::new(13, &[2, 1, 2, 2])
        .ints("three", &[2, 2, 2])
        .node("Reshape", "x three", "t", &[])
        .node("Transpose", "t", "u", &[ints("perm", &[1, 0, 2])])
        .ints("flat", &[4, 2])
        .node("Reshape", "u flat", "v", &[])
        .node("Reshape", "v three", "w", &[])
        .node("Transpose", "w", "z", &[ints("perm", &[1, 0, 2])])
        .node("Flatten", "z", "y", &[]);
    let graph = net.read().unwrap();
    assert!(graph.notes().iter().any(|note| note.contains("2 at a time")), "{:?}", graph.notes());
    let x: Vec<f64> = (0..20).map(f64::from).collect();
    for n in 1..=5 {
        assert_eq!(super::builder::forward(&graph, n, &x[..4 * n]), x[..4 * n]);
    }
}

/// A model of any side: its mean over positions takes them all.
#[test]
fn a_side_that_is_not_declared_is_that_of_the_images() {
    let mut net = Builder::new(13, &[0, 1, 2, 2])
        .floats("w", &[2, 1, 3, 3], &[1.0; 18])
        .node("Conv", "x w", "c", &[ints("pads", &[1, 1, 1, 1])])
        .node("GlobalAveragePool", "c", "m", &[])
        .node("Flatten", "m", "y", &[]);
    net.input = vec![0, 1, 0, 0];
    let graph = net.read().unwrap();
    assert_eq!((graph.side(), graph.dim(), graph.channels()), (None, 2, 1));
    for side in [2usize, 5, 9] {
        // Each of s² ones is counted by the nine windows around it, but at the border.
        let sum = (3 * side - 2).pow(2) as f64;
        let mean = sum / (side * side) as f64;
        assert_close(
            &super::builder::forward(&graph, 1, &vec![1.0; side * side]),
            &[mean, mean],
            4.0 * TOLERANCE,
        );
    }
}

/// A model of TensorFlow's begins with a transpose to the order of ONNX, and may end with one back.
#[test]
fn images_with_their_channels_last_are_those_of_ours() {
    // One kernel of 1×1 that adds the channels with weights 1, 10, 100.
    let kernel = |net: Builder| net.floats("k", &[1, 3, 1, 1], &[1.0, 10.0, 100.0]);
    let last = kernel(Builder::new(13, &[0, 2, 2, 3]))
        .node("Transpose", "x", "t", &[ints("perm", &[0, 3, 1, 2])])
        .node("Conv", "t k", "z", &[])
        .node("Flatten", "z", "y", &[]);
    let first =
        kernel(Builder::new(13, &[0, 3, 2, 2])).node("Conv", "x k", "z", &[]).node("Flatten", "z", "y", &[]);
    // In the order (c, h, w); each number shows its place.
    let x = [1.0, 2.0, 3.0, 4.0, 0.1, 0.2, 0.3, 0.4, 0.01, 0.02, 0.03, 0.04];
    let expected = [3.0, 6.0, 9.0, 12.0];
    assert_close(&first.run(1, &x), &expected, 2.0 * TOLERANCE);
    assert_eq!(last.run(1, &x), first.run(1, &x));
    let graph = last.read().unwrap();
    assert_eq!((graph.channels(), graph.side(), graph.dim()), (3, Some(2), 4));

    // Without the transpose the elements come in the order (h, w, c).
    let flat = Builder::new(13, &[0, 2, 2, 3]).node("Flatten", "x", "y", &[]);
    let expected = [1.0, 0.1, 0.01, 2.0, 0.2, 0.02, 3.0, 0.3, 0.03, 4.0, 0.4, 0.04];
    assert_close(&flat.run(1, &x), &expected, TOLERANCE);

    // Three channels of a side of three may be either, and are read as PyTorch writes them.
    let either = Builder::new(13, &[0, 3, 3, 3]).node("GlobalAveragePool", "x", "z", &[]).node(
        "Flatten",
        "z",
        "y",
        &[],
    );
    let x: Vec<f64> = (0..27).map(|i| f64::from(i / 9)).collect();
    assert_close(&either.run(1, &x), &[0.0, 1.0, 2.0], TOLERANCE);
}
