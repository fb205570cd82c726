//! Files that are damaged, foreign or made to harm: each is refused with its cause, before memory is taken for it.

use super::builder::{Builder, float, int, ints, none};
use crate::onnx::error::OnnxError;
use crate::onnx::{Graph, read};
use tarrl_tensor::cpu;

fn small() -> Builder {
    Builder::new(13, &[0, 1, 2, 2]).floats("w", &[3, 4], &[0.5; 12]).node("Flatten", "x", "f", &[]).node(
        "Gemm",
        "f w",
        "y",
        &[int("transB", 1)],
    )
}

fn refusal(net: &Builder) -> String {
    net.read().expect_err("a refusal").to_string()
}

#[test]
fn every_file_that_is_cut_short_is_refused_or_the_same_as_the_whole() {
    let bytes = small().bytes();
    assert!(small().read().is_ok());
    for len in 0..bytes.len() {
        // Behind the graph come the versions of the operators alone.
        assert!(Graph::from_bytes(&bytes[..len], &none, &cpu()).is_err(), "{len} of {}", bytes.len());
    }
}

/// What a diverged training leaves is no encoder, as in every other format; infinity is, for bounds of a clip are.
#[test]
fn a_constant_that_is_no_number_is_named() {
    let with = |value: f64| {
        Builder::new(13, &[0, 1, 2, 2]).floats("w", &[4], &[0.5, value, 0.5, 0.5]).node(
            "Mul",
            "x w",
            "y",
            &[],
        )
    };
    let refused = refusal(&with(f64::NAN));
    assert!(refused.contains("tensor w") && refused.contains("element 1 is NaN"), "{refused}");
    let infinite = with(f64::INFINITY).read();
    assert!(!infinite.is_err_and(|error| error.to_string().contains("NaN")));
}

#[test]
fn cycles_repeated_names_and_missing_values_are_named() {
    let cycle = Builder::new(13, &[0, 1, 2, 2])
        .node("Add", "x b", "a", &[])
        .node("Relu", "a", "b", &[])
        .node("Flatten", "b", "y", &[]);
    assert!(
        refusal(&cycle).contains("Add_0 (Add)") && refusal(&cycle).contains("cyclic"),
        "{}",
        refusal(&cycle)
    );
    let own = Builder::new(13, &[0, 1, 2, 2]).node("Relu", "y", "y", &[]);
    assert!(refusal(&own).contains("cyclic"));
    let twice = small().node("Relu", "f", "y", &[]);
    assert!(refusal(&twice).contains("\"y\" of another value"), "{}", refusal(&twice));
    let tensors = small().floats("w", &[1], &[1.0]);
    assert!(refusal(&tensors).contains("two values have the name \"w\""));
    let missing = Builder::new(13, &[0, 1, 2, 2]).node("Relu", "nowhere", "y", &[]);
    assert!(refusal(&missing).contains("nothing computes its input \"nowhere\""));
    let output = Builder::new(13, &[0, 1, 2, 2]).node("Relu", "x", "z", &[]);
    assert!(refusal(&output).contains("nothing computes its output \"y\""));
}

#[test]
fn what_is_not_supported_is_refused_by_operator_node_and_reason() {
    let one = |op: &str, attributes: &[_]| {
        refusal(&Builder::new(13, &[0, 2, 4, 4]).floats("c", &[2], &[0.5; 2]).node(
            op,
            "x c c c c",
            "y",
            attributes,
        ))
    };
    for (op, attributes, cause) in [
        ("NonMaxSuppression", vec![], "this operator is not supported"),
        ("Loop", vec![], "this operator is not supported"),
        ("Conv", vec![int("unheard", 1)], "the attribute \"unheard\" is not supported"),
        ("BatchNormalization", vec![int("training_mode", 1)], "call eval() before the export"),
        ("Conv", vec![ints("dilations", &[1 << 30, 1 << 30])], "weights of [2]"),
        ("MaxPool", vec![ints("kernel_shape", &[2, 3])], "only square ones"),
        (
            "MaxPool",
            vec![ints("kernel_shape", &[2, 2]), ints("pads", &[1 << 19; 4])],
            "more than is computed",
        ),
        ("MaxPool", vec![ints("kernel_shape", &[9, 9])], "a window of 9 on 4 positions"),
        ("Softmax", vec![int("axis", 4)], "there is no axis 4 of 4"),
        ("Softmax", vec![float("axis", 1.0)], "is no whole number"),
        ("Transpose", vec![ints("perm", &[0, 0, 1, 2])], "is no order of 4 axes"),
        ("ReduceMax", vec![ints("axes", &[0])], "over the images of a batch"),
        ("Concat", vec![int("axis", 0)], "beside"),
    ] {
        let message = one(op, &attributes);
        assert!(
            message.starts_with(&format!("node {op}_0 ({op}): ")) && message.contains(cause),
            "{message}"
        );
    }
    let mut old = small();
    old.opset = 8;
    assert!(refusal(&old).contains("opset 8, but 9 to 23 are read"));
    let maps = Builder::new(13, &[0, 2, 4, 4]).node("Relu", "x", "y", &[]);
    assert!(refusal(&maps).contains("is no representation (n, d)"));
}

/// A file of a few hundred bytes that asks for gigabytes.
#[test]
fn sizes_that_no_memory_has_are_refused_before_they_are_taken() {
    let huge = [1 << 40, 1 << 40];
    let expand = Builder::new(13, &[0, 1, 2, 2])
        .floats("one", &[1], &[1.0])
        .ints("to", &huge)
        .node("Expand", "one to", "e", &[])
        .node("Add", "x e", "y", &[]);
    assert!(refusal(&expand).contains("more than is computed"), "{}", refusal(&expand));
    let fill = Builder::new(13, &[0, 1, 2, 2])
        .ints("to", &huge)
        .node("ConstantOfShape", "to", "e", &[])
        .node("Add", "x e", "y", &[]);
    assert!(refusal(&fill).contains("more than is computed"));
    let live = Builder::new(13, &[0, 1, 2, 2]).ints("to", &[1 << 20, 1 << 20, 1, 1, 2, 2]).node(
        "Expand",
        "x to",
        "y",
        &[],
    );
    assert!(refusal(&live).contains("more than is computed"), "{}", refusal(&live));
    // Each of forty nodes doubles a constant.
    let mut net = Builder::new(13, &[0, 1, 2, 2]).floats("c0", &[1], &[1.0]);
    for i in 0..40 {
        net = net.node("Concat", &format!("c{i} c{i}"), &format!("c{}", i + 1), &[int("axis", 0)]);
    }
    let net = net.node("Add", "x c40", "y", &[]);
    assert!(refusal(&net).contains("more than is computed"), "{}", refusal(&net));
    let pad = Builder::new(13, &[0, 1, 2, 2]).ints("p", &[0, 0, 1 << 19, 1 << 19, 0, 0, 0, 0]).node(
        "Pad",
        "x p",
        "y",
        &[],
    );
    assert!(refusal(&pad).contains("more than is computed"), "{}", refusal(&pad));
    let range = Builder::new(13, &[0, 1, 2, 2])
        .int("a", 0)
        .int("b", i64::MAX)
        .int("s", 1)
        .node("Range", "a b s", "r", &[])
        .node("Add", "x r", "y", &[]);
    assert!(refusal(&range).contains("more than is computed"));
}

/// A model whose weights lie in `location`.
fn external(location: &str, offset: &str, length: &str) -> Vec<u8> {
    use crate::onnx::proto::{ModelProto, TensorProto};
    let bytes = small().bytes();
    let mut model = ModelProto::decode(&bytes).unwrap();
    let graph = model.graph.as_mut().unwrap();
    graph.initializers[0] = TensorProto {
        name: "w".into(),
        dims: vec![3, 4],
        element: 1,
        is_external: true,
        external: [("location", location), ("offset", offset), ("length", length)]
            .map(|(key, value)| (key.into(), value.into()))
            .into(),
        ..TensorProto::default()
    };
    model.encode()
}

#[test]
fn tensors_beside_the_model_are_read_and_no_path_leads_out_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("model");
    std::fs::create_dir_all(inner.join("data")).unwrap();
    let weights: Vec<u8> = [vec![9u8; 64], (0..12).flat_map(|i| (i as f32).to_le_bytes()).collect()].concat();
    std::fs::write(inner.join("data/w.bin"), &weights).unwrap();
    std::fs::write(folder.path().join("secret"), &weights).unwrap();
    let open = |bytes: Vec<u8>| {
        std::fs::write(inner.join("m.onnx"), bytes).unwrap();
        read(&inner.join("m.onnx"), &cpu()).unwrap()
    };
    let graph = open(external("data/w.bin", "64", "48")).unwrap();
    assert!(graph.files().len() == 1 && graph.files()[0].ends_with("data/w.bin"), "{:?}", graph.files());
    let y = super::builder::forward(&graph, 1, &[1.0, 0.0, 0.0, 0.0]);
    assert_eq!(y, [0.0, 4.0, 8.0]);
    let secret = folder.path().join("secret");
    let cases = [
        ("../secret", "0", "48", "no path below the folder"),
        ("data/../../secret", "0", "48", "no path below the folder"),
        (secret.to_str().unwrap(), "0", "48", "no path below the folder"),
        ("", "0", "48", "no path below the folder"),
        ("data\\w.bin", "0", "48", "no path below the folder"),
        ("data/other.bin", "0", "48", "keep it beside the model"),
        ("data", "0", "48", "fewer than the 48"),
        ("data/w.bin", "65", "48", "fewer than the 48"),
        ("data/w.bin", "18446744073709551615", "48", "fewer than the 48"),
        ("data/w.bin", "-1", "48", "is no whole number"),
        ("data/w.bin", "0", "47", "47 are declared"),
    ];
    for (location, offset, length, cause) in cases {
        let error = open(external(location, offset, length)).unwrap_err().to_string();
        assert!(error.contains(cause) && error.contains("tensor w"), "{location}: {error}");
    }
    assert!(read(&inner.join("no.onnx"), &cpu()).is_err());
}

/// PyTorch writes weights to the last byte of the file beside the graph; a later export of a larger network under that name is
/// longer.
#[test]
fn weights_of_another_export_are_noted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.onnx"), external("m.data", "0", "48")).unwrap();
    for (len, is_noted) in [(48, false), (48 + (1 << 16), false), (49 + (1 << 16), true)] {
        std::fs::write(folder.path().join("m.data"), vec![0; len]).unwrap();
        let notes = read(&folder.path().join("m.onnx"), &cpu()).unwrap().unwrap().notes().join("; ");
        assert_eq!(notes.contains(&format!("uses 48 of the {len} bytes of m.data")), is_noted, "{notes}");
    }
}

#[test]
fn foreign_bytes_are_no_model() {
    for bytes in [&b""[..], b"PK\x03\x04", b"{\"a\": 1}", &[0xff; 64], &[0x3a, 0x00]] {
        let error = Graph::from_bytes(bytes, &none, &cpu()).unwrap_err();
        assert!(matches!(error, OnnxError::Damaged(_) | OnnxError::Form(_)), "{error}");
    }
}
