//! Inputs that do not belong together and outputs that cannot be written: refused before any work, with the remedy.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{Files, dataset, text};
use tarrl_encoders::{Arch, Encoder, EncoderConfig, checkpoint::save_encoder};
use tarrl_jobs::files::hash;
use tarrl_study::stages::head::HeadFile;
use tarrl_tensor::{Key, cpu};

/// The program in the folder of `files`, with options separated by spaces.
fn tarrl(files: &Files, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tarrl"));
    command.args(line.split_whitespace()).current_dir(files.path(".")).output().unwrap()
}

#[track_caller]
fn refused(output: &Output, parts: &[&str]) {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}\n{message}", text(&output.stdout));
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
}

#[track_caller]
fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// An encoder that has learned nothing, in the file `name`.
fn encoder(files: &Files, name: &str, config: EncoderConfig) {
    let encoder = Encoder::new(&EncoderConfig { width: 0.1, ..config }, &cpu(), Key::new(2));
    save_encoder(&files.path(name), &encoder, &Default::default()).unwrap();
}

const ATTACK: &str = "attack --dataset fashion-mnist-sample --images 20 --epsilon 0.01 --attack fgsm";

#[test]
fn the_commands_in_the_help_of_certify_work_in_order_and_bind_heads_to_their_encoder() {
    let files = Files::new();
    let help = text(&tarrl(&files, "certify --help").stdout);
    let shown: Vec<&str> = help.lines().filter(|line| line.contains("small.certificates")).collect();
    assert_eq!(shown.len(), 2, "{help}");
    for line in shown {
        // Two spaces separate a command from what it is about.
        let line = line.trim().split("   ").next().unwrap();
        let done = tarrl(&files, line.strip_prefix("tarrl ").unwrap());
        succeeded(&done);
        assert!(text(&done.stdout).contains("20 images, "), "{}", text(&done.stdout));
    }

    // A head in either form, of this encoder, of another one, and of none that it names.
    let report = "bound report small.certificates encoder.safetensors --head";
    let file = HeadFile::load(&files.head).unwrap();
    let weights = tarrl_study::stages::head::Weights::of(&file.head);
    let save = |encoder: Option<&str>| {
        HeadFile { encoder: encoder.map(str::to_owned), ..file.clone() }.save(&files.head).unwrap();
        let mut json = serde_json::to_value(&weights).unwrap();
        if let Some(encoder) = encoder {
            json["encoder_blake3"] = encoder.into();
        }
        fs::write(files.path("head.json"), json.to_string()).unwrap();
    };
    for name in ["head.safetensors", "head.json"] {
        let line = format!("{report} {name}");
        save(Some(&hash(&files.checkpoint).unwrap()));
        let done = tarrl(&files, &line);
        succeeded(&done);
        assert!(done.stderr.is_empty(), "{}", text(&done.stderr));
        save(None);
        let done = tarrl(&files, &line);
        succeeded(&done);
        assert!(text(&done.stderr).contains("does not say which encoder"), "{}", text(&done.stderr));
        save(Some("0123"));
        refused(&tarrl(&files, &line), &[name, "another encoder", "take files that belong together"]);
    }

    let three = r#"{"k": 3, "d": 1, "weight": [1, 2, 3], "bias": [0, 0, 0]}"#;
    let width = weights.d;
    let three = three.replace("[1, 2, 3]", &format!("{:?}", vec![1.0; 3 * width]));
    fs::write(files.path("head.json"), three.replace("\"d\": 1", &format!("\"d\": {width}"))).unwrap();
    let done = tarrl(&files, &format!("{report} head.json"));
    assert_eq!(done.status.code(), Some(1));
    let message = text(&done.stderr);
    assert!(message.contains("tells 3 classes apart, but fashion-mnist-sample has 10"), "{message}");
    let neighbors = "bound report small.certificates encoder.safetensors --neighbors";
    refused(&tarrl(&files, &format!("{neighbors} 10001")), &["--neighbors 10001", "10000 training images"]);
    let done = tarrl(&files, &format!("{neighbors} 0"));
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("'0' for '--neighbors <K>'"), "{}", text(&done.stderr));
}

#[test]
fn a_head_of_another_encoder_is_not_attacked() {
    let files = Files::new();
    encoder(&files, "other.safetensors", EncoderConfig::default());
    let line = format!("{ATTACK} --checkpoint other.safetensors --head head.safetensors");
    refused(&tarrl(&files, &line), &["head.safetensors", "another encoder than other.safetensors"]);
    let file = HeadFile::load(&files.head).unwrap();
    HeadFile { encoder: None, ..file }.save(&files.head).unwrap();
    let done = tarrl(&files, &line);
    succeeded(&done);
    assert!(
        text(&done.stderr).starts_with("warning: head head.safetensors does not say"),
        "{}",
        text(&done.stderr)
    );
}

#[test]
fn an_encoder_for_other_images_is_refused() {
    let files = Files::new();
    encoder(&files, "color.safetensors", EncoderConfig { in_channels: 3, ..EncoderConfig::default() });
    let flat = EncoderConfig { arch: Arch::ConvFlat, side: 32, ..EncoderConfig::default() };
    encoder(&files, "large.safetensors", flat);
    for (name, cause) in
        [("color", "3 channels, but those of fashion-mnist-sample have 1"), ("large", "32 × 32, but")]
    {
        refused(&tarrl(&files, &format!("certify {name}.safetensors")), &[name, cause, "--dataset"]);
        let path = files.path(&format!("{name}.safetensors"));
        let features = tarrl_encoders::checkpoint::load_encoder(&path, &cpu()).unwrap().dim();
        let head = tarrl_bound::LinearHead::new(10, features, vec![0.1; 10 * features], vec![0.0; 10]);
        HeadFile { head, encoder: Some(hash(&path).unwrap()) }.save(&files.head).unwrap();
        let line = format!("{ATTACK} --checkpoint {name}.safetensors --head head.safetensors");
        refused(&tarrl(&files, &line), &[name, cause, "--dataset"]);
    }
}

#[test]
fn an_output_that_cannot_be_written_or_is_an_input_is_refused_before_any_work() {
    let files = Files::new();
    let before = fs::read(&files.checkpoint).unwrap();
    let attack = format!("{ATTACK} --checkpoint encoder.safetensors --head head.safetensors --json");
    for (output, part) in [
        ("no/such/folder/x", "choose a folder that exists"),
        (".", "it is a folder"),
        ("encoder.safetensors", "is an input of this command"),
    ] {
        refused(
            &tarrl(&files, &format!("certify encoder.safetensors --out {output}")),
            &[part, "--out FILE"],
        );
        refused(&tarrl(&files, &format!("{attack} {output}")), &[part, "--json FILE"]);
    }
    refused(&tarrl(&files, &format!("{attack} head.safetensors")), &["is an input of this command"]);
    fs::create_dir(files.path("folder")).unwrap();
    refused(&tarrl(&files, &format!("{attack} folder")), &["it is a folder; name a file with --json FILE"]);
    // Certificates that are no encoder: the output is tried before anything is read.
    fs::write(files.path("broken"), "no encoder").unwrap();
    refused(&tarrl(&files, "certify broken --out folder"), &["it is a folder"]);
    assert_eq!(fs::read(&files.checkpoint).unwrap(), before);
    assert_eq!(fs::read_dir(files.path(".")).unwrap().count(), 4, "files are left over");
}

#[test]
fn numbers_outside_their_range_are_refused() {
    let files = Files::new();
    let line =
        "attack --checkpoint encoder.safetensors --head head.safetensors --dataset fashion-mnist-sample";
    let done = tarrl(&files, &format!("{line} --norm l2 --epsilon 1e308"));
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("a radius is at most 1000000"), "{}", text(&done.stderr));
    let done = tarrl(&files, "certify encoder.safetensors --samples 0");
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("'0' for '--samples <N>'"), "{}", text(&done.stderr));
    for samples in ["9", "2001"] {
        let done = tarrl(&files, &format!("certify encoder.safetensors --samples {samples}"));
        refused(&done, &[&format!("--samples {samples}: "), "take at least one of each"]);
    }
}

/// A radius in levels of 255 holds every image; the verbs that take one say so before any work.
#[test]
fn a_radius_that_holds_every_image_is_refused() {
    let files = Files::new();
    for line in [
        "evaluate encoder.safetensors --dataset fashion-mnist-sample --epsilon 2/255,8 --out page",
        "attack --checkpoint encoder.safetensors --head head.safetensors --dataset fashion-mnist-sample --epsilon 8",
    ] {
        let done = tarrl(&files, line);
        assert!(
            !done.status.success() && text(&done.stderr).contains("holds every image"),
            "{}",
            text(&done.stderr)
        );
    }
    assert!(!files.path("page").exists());
}

#[test]
fn images_of_one_color_are_refused_with_their_dataset() {
    let files = Files::new();
    let folder = files.path("gray");
    fs::create_dir(&folder).unwrap();
    let idx = |magic: u32, sizes: &[u32], value: u8| {
        let head = [magic].iter().chain(sizes).flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        [head, vec![value; sizes.iter().product::<u32>() as usize]].concat()
    };
    fs::write(folder.join("train-images-idx3-ubyte"), idx(2051, &[20, 8, 8], 7)).unwrap();
    fs::write(folder.join("train-labels-idx1-ubyte"), idx(2049, &[20], 0)).unwrap();
    let done = tarrl(&files, "pretrain --method simclr --dataset gray --epochs 1 --batch 10 --out trained");
    refused(&done, &["channel 0", "gray", "same everywhere"]);
}

#[test]
fn the_index_of_an_image_is_its_place_in_the_dataset() {
    let files = Files::new();
    let line = "--checkpoint encoder.safetensors --head head.safetensors --json outcomes.json";
    succeeded(&tarrl(&files, &format!("{ATTACK} {line}")));
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(files.path("outcomes.json")).unwrap()).unwrap();
    let number = |sample: &serde_json::Value, name: &str| sample[name].as_u64().unwrap() as usize;
    let labels = dataset().test.labels;
    let samples = report["samples"].as_array().unwrap();
    assert!(
        samples.iter().all(|s| usize::from(labels[number(s, "index")]) == number(s, "label")),
        "{report}"
    );
    let indices: Vec<usize> = samples.iter().map(|s| number(s, "index")).collect();
    assert!(indices.is_sorted_by(|a, b| a < b) && indices.len() == 20 && indices[19] > 19, "{indices:?}");
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_utf8_is_taken() {
    use std::os::unix::ffi::OsStrExt;
    let files = Files::new();
    let path = files.path(".").join(std::ffi::OsStr::from_bytes(b"h\xff.safetensors"));
    fs::copy(&files.head, &path).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tarrl"));
    command
        .args(ATTACK.split_whitespace())
        .arg("--checkpoint")
        .arg(&files.checkpoint)
        .arg("--head")
        .arg(&path);
    succeeded(&command.arg("--json").arg(files.path("outcomes.json")).output().unwrap());
    assert!(Path::new(&files.path("outcomes.json")).is_file());
}
