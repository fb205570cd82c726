//! Encoders, heads and certificates for other programs, and queries answered.

mod common;

use std::fs;
use std::process::{Command, Output};

use common::{Files, dataset, text};
use tarrl_interop::onnx::read;
use tarrl_tensor::{DType, Tensor, cpu};

fn tarrl(files: &Files, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tarrl"));
    command.args(line.split_whitespace()).current_dir(files.path(".")).output().unwrap()
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn refused(output: &Output, part: &str) {
    assert!(!output.status.success() && text(&output.stderr).contains(part), "{}", text(&output.stderr));
}

#[test]
fn certificates_become_queries_that_are_answered_and_an_encoder_becomes_files() {
    let files = Files::new();
    succeeded(&tarrl(
        &files,
        "certify encoder.safetensors --epsilon 0.0005 --samples 10 --out c.safetensors",
    ));
    let printed =
        succeeded(&tarrl(&files, "export encoder.safetensors --certificates c.safetensors --vnnlib q"));
    assert!(printed.contains("10 of 10 images have a query"), "{printed}");
    let list = fs::read_to_string(files.path("q/instances.csv")).unwrap();
    assert_eq!(list.lines().count(), 10);
    // A query is named by the place of its image in the split.
    let of =
        |line: &str| line.strip_prefix("onnx/f.onnx,vnnlib1/").unwrap().split_once(',').unwrap().0.to_owned();
    let images = dataset().test.images;
    for name in list.lines().map(of) {
        let place: usize =
            name.strip_prefix("image-").unwrap().strip_suffix(".vnnlib").unwrap().parse().unwrap();
        let query = fs::read_to_string(files.path(&format!("q/vnnlib1/{name}"))).unwrap();
        let query = tarrl_vnnlib::Query::parse(&query).unwrap();
        let image = images.outer_iter().nth(place).unwrap();
        for (pixel, (least, most)) in image.iter().zip(&query.bounds) {
            let pixel = f64::from(f32::from(*pixel) / 255.0);
            assert!((least..=most).contains(&&pixel), "{name}: {pixel} is not in {least} to {most}");
        }
    }
    let name = of(list.lines().nth(3).unwrap());
    for version in ["vnnlib1", "vnnlib2"] {
        let line = format!("verify q/{version}/{name} --network f=q/onnx/f.onnx");
        assert_eq!(succeeded(&tarrl(&files, &line)), "unsat\n");
        assert_eq!(succeeded(&tarrl(&files, &format!("{line} --timeout 0"))), "timed-out\n");
    }
    // A bound that the clean image passes.
    let query = fs::read_to_string(files.path(&format!("q/vnnlib2/{name}"))).unwrap();
    let at = query.find("(assert (or (").unwrap();
    fs::write(files.path("cut.vnnlib"), format!("{}(assert (>= Y[0,0] -1000.0))\n", &query[..at])).unwrap();
    let answer = succeeded(&tarrl(&files, "verify cut.vnnlib --network f=q/onnx/f.onnx"));
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!((lines[0], lines[1]), ("sat", "X real [1,1,28,28]"));
    assert!(lines[2 + 784].starts_with("Y real [1,"), "{}", lines[2 + 784]);
    refused(&tarrl(&files, "verify cut.vnnlib --network g=q/onnx/f.onnx"), "write f=q/onnx/f.onnx");
    // Several networks are refused by the name of what joins them, as the standard's command line gives them.
    let both = "--network f=q/onnx/f.onnx --network g=q/onnx/f.onnx";
    refused(&tarrl(&files, &format!("verify cut.vnnlib {both}")), "is about one network, f; give it once");
    for joined in ["equal-to", "isomorphic-to"] {
        let second = format!(
            "(declare-network g ({joined} f) (declare-input U real [1,1,28,28]) (declare-output V real [1,13]))\n(assert"
        );
        let text = fs::read_to_string(files.path("cut.vnnlib")).unwrap().replacen("(assert", &second, 1);
        fs::write(files.path("two.vnnlib"), text).unwrap();
        refused(
            &tarrl(&files, &format!("verify two.vnnlib {both}")),
            &format!("a second network ({joined})"),
        );
    }

    // The encoder as ONNX takes images; that of any batch is another file.
    let x = Tensor::full(&cpu(), [2, 28, 28, 1], DType::F32, 0.25);
    let outputs = ["one", "any"].map(|batch| {
        let line = format!("export encoder.safetensors --out {batch}.onnx --side 28 --batch {batch}");
        succeeded(&tarrl(&files, &line));
        let graph = read(&files.path(&format!("{batch}.onnx")), &cpu()).unwrap().unwrap();
        let metadata: Vec<&str> = graph.metadata().iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(metadata, ["tarrl.config", "tarrl.source_blake3"]);
        graph.forward(&x).to_vec::<f32>()
    });
    assert_eq!(outputs[0], outputs[1]);
    succeeded(&tarrl(&files, "export one.onnx --out again.onnx"));
    succeeded(&tarrl(&files, "export encoder.safetensors --out state.safetensors"));
    let header = header(&files.path("state.safetensors"));
    assert_eq!(header["__metadata__"]["architecture"], "conv-small");
    assert!(header["conv1.weight"].is_object(), "{header}");
    // A state dict of another program goes the same way, and what was made of it is said.
    let foreign = tarrl(&files, "export state.safetensors --out foreign.onnx --side 28");
    succeeded(&foreign);
    assert!(text(&foreign.stderr).contains("name map: "), "{}", text(&foreign.stderr));
    let graph = read(&files.path("foreign.onnx"), &cpu()).unwrap().unwrap();
    assert_eq!(graph.forward(&x).to_vec::<f32>(), outputs[0]);
    refused(&tarrl(&files, "export encoder.safetensors --out e.onnx"), "--side");
    refused(&tarrl(&files, "export encoder.safetensors --out e.bin"), ".onnx");
    refused(&tarrl(&files, "export encoder.safetensors --out encoder.safetensors"), "is an input");
    succeeded(&tarrl(
        &files,
        "certify encoder.safetensors --norm l2 --epsilon 0.001 --samples 10 --out l2.safetensors",
    ));
    refused(
        &tarrl(&files, "export encoder.safetensors --certificates l2.safetensors --vnnlib r"),
        "cannot express",
    );
}

#[test]
fn a_head_goes_into_the_file_and_its_certified_classes_become_queries() {
    let files = Files::new();
    succeeded(&tarrl(&files, "export encoder.safetensors --head head.safetensors --out c.onnx --side 28"));
    let graph = read(&files.path("c.onnx"), &cpu()).unwrap().unwrap();
    let names: Vec<String> = graph.constants().into_iter().map(|(name, _)| name).collect();
    assert!(["fc.weight", "fc.bias"].iter().all(|name| names.iter().any(|other| other == name)), "{names:?}");
    assert_eq!(graph.dim(), 10);
    succeeded(&tarrl(&files, "export encoder.safetensors --head head.safetensors --out c.safetensors"));
    assert_eq!(header(&files.path("c.safetensors"))["fc.bias"]["shape"], serde_json::json!([10]));
}

/// The names, types and extents that a safetensors file begins with: eight bytes of length, then JSON.
fn header(path: &std::path::Path) -> serde_json::Value {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    serde_json::from_slice(&bytes[8..8 + length]).unwrap()
}

#[test]
fn what_is_supported_is_listed() {
    let files = Files::new();
    assert_eq!(succeeded(&tarrl(&files, "supports --vnnlib-versions")), "1.0\n2.0\n");
    assert!(succeeded(&tarrl(&files, "supports --onnx-operators")).lines().any(|line| line == "Conv"));
    assert_eq!(succeeded(&tarrl(&files, "supports --onnx-opset-versions")).lines().count(), 15);
}
