//! `tarrl attack`: interrupted, gone on with, and refused.

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Files, dataset, state_of, text};
use tarrl_encoders::checkpoint::load_encoder;
use tarrl_eval::DeviceHead;
use tarrl_study::attack_state::AttackState;
use tarrl_study::stages::head::HeadFile;
use tarrl_tensor::{DType, Tensor, cpu};

/// Killed in the middle of its work, with the state on disk, and started again by the same command but for the number
/// of images in memory.
#[test]
fn a_killed_attack_goes_on_and_ends_with_the_same_outcome() {
    let files = Files::new();
    let options = ["--epsilon", "1e-6", "--attack", "apgd-t"];
    let (whole, broken) = (files.path("whole.json"), files.path("broken.json"));
    let straight = files.run(&whole, &options);
    assert!(straight.status.success(), "{}", text(&straight.stderr));
    assert!(!state_of(&whole).exists());

    let mut child =
        files.command(&broken, &options).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let clock = Instant::now();
    // An ascent that has taken steps.
    let begun = || std::fs::read_to_string(state_of(&broken)).is_ok_and(|text| text.contains("\"taken\":1"));
    while !begun() {
        assert!(clock.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(), "no state");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!broken.exists() && state_of(&broken).exists());

    // Somebody else's state is refused and kept.
    let other = files.run(&broken, &["--epsilon", "2e-6", "--attack", "apgd-t"]);
    assert_eq!(other.status.code(), Some(1));
    let message = text(&other.stderr);
    assert!(message.contains("broken.json.state is of another attack: not the same epsilon"), "{message}");

    // As is that of other images under the same name.
    let kept = std::fs::read(state_of(&broken)).unwrap();
    let mut state = AttackState::load(&state_of(&broken)).unwrap().unwrap();
    state.about.insert("images_blake3".to_owned(), "00ff".into());
    std::fs::write(state_of(&broken), state.to_bytes()).unwrap();
    let message = text(&files.run(&broken, &options).stderr);
    assert!(message.contains("is of another attack: not the same images_blake3"), "{message}");
    std::fs::write(state_of(&broken), kept).unwrap();

    let resumed = files.run(&broken, &[&options[..], &["--batch", "3"]].concat());
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    assert!(text(&resumed.stderr).contains("resuming an interrupted attack"), "{}", text(&resumed.stderr));
    let read =
        |path: &Path| -> serde_json::Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    assert_eq!(read(&broken), read(&whole));
    assert!(read(&whole)["robust"]["correct"].as_u64().unwrap() > 0);
    assert!(!state_of(&broken).exists());
}

#[test]
fn attacks_that_are_no_suite_make_a_table_too() {
    let files = Files::new();
    let attacks = [
        ("pgd", "linf", "0.3"),
        ("fgsm", "l0", "3"),
        ("deepfool", "l2", "5"),
        ("feature-l2", "linf", "0.3"),
        ("feature-cosine", "l1", "9"),
        ("feature-kl", "l2", "2"),
        ("instance-wise", "linf", "0.3"),
        ("feature-match", "linf", "0.3"),
    ];
    for (attack, norm, epsilon) in attacks {
        let output = files.path("outcomes.json");
        let run =
            files.run(&output, &["--attack", attack, "--norm", norm, "--epsilon", epsilon, "--batch", "7"]);
        assert!(run.status.success(), "{}", text(&run.stderr));
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&output).unwrap()).unwrap();
        let correct = |name: &str| report[name]["correct"].as_u64().unwrap();
        assert!(correct("clean") > 0 && correct("robust") <= correct("clean"), "{attack}: {report}");
        let lost =
            report["samples"].as_array().unwrap().iter().filter(|s| s["robust"] == false).count() as u64;
        assert_eq!(20 - lost, correct("robust"));
        assert!(text(&run.stdout).contains("95 % interval"));
        let looked = text(&run.stdout).contains("sign of masked gradients") && report["findings"].is_array();
        assert_eq!(looked, matches!(attack, "pgd" | "fgsm" | "deepfool"), "{}", text(&run.stdout));
        if attack.starts_with("feature") || attack == "instance-wise" {
            assert!(correct("robust") < correct("clean"), "{attack} breaks nothing: {report}");
        }
        assert_eq!(text(&run.stdout).contains("Median distance"), attack == "deepfool");
    }
}

/// A head so steep that the cross-entropy has no slope left in f32: who is right is right by far.
#[test]
fn masked_gradients_are_noticed() {
    let files = Files::new();
    let gentle = HeadFile::load(&files.head).unwrap();
    let output = files.path("outcomes.json");
    let report = |options: &[&str]| -> (String, serde_json::Value) {
        let run = files.run(&output, options);
        assert!(run.status.success(), "{}", text(&run.stderr));
        (text(&run.stdout), serde_json::from_slice(&std::fs::read(&output).unwrap()).unwrap())
    };
    let signs = |report: &serde_json::Value, place: &str| -> Vec<String> {
        let found = report["findings"].as_array().unwrap().iter().filter(|finding| finding["in"] == place);
        found.map(|finding| finding["sign"].as_str().unwrap().to_owned()).collect()
    };
    let attack = ["--epsilon", "0.01", "--attack", "apgd-ce"];

    let (table, sound) = report(&attack);
    assert_eq!((&sound["findings"], &sound["conclusive"]), (&serde_json::json!([]), &true.into()), "{table}");
    assert!(table.contains("No sign of masked gradients") && table.contains("--examine looks for more"));

    HeadFile { head: gentle.head.with_temperature(1e-6), ..gentle }.save(&files.head).unwrap();
    let (table, masked) = report(&attack);
    assert_eq!(signs(&masked, "attack"), ["dead-gradient"]);
    assert_eq!((&masked["conclusive"], &masked["examination"]), (&false.into(), &serde_json::Value::Null));
    // The images that it names are those that it left, for want of a gradient.
    let robust = |report: &serde_json::Value| -> Vec<u64> {
        let left = report["samples"].as_array().unwrap().iter().filter(|sample| sample["robust"] == true);
        left.map(|sample| sample["index"].as_u64().unwrap()).collect()
    };
    assert_eq!(masked["findings"][0]["samples"], serde_json::json!(robust(&masked)));
    assert!(robust(&masked).len() > robust(&sound).len(), "{masked}");
    assert!(
        table.contains("| dead-gradient           | attack      |") && table.contains("inconclusive"),
        "{table}"
    );

    let (table, examined) = report(&[&attack[..], &["--examine", "--batch", "7"]].concat());
    assert_eq!(examined["samples"], masked["samples"]);
    assert_eq!(signs(&examined, "attack"), ["dead-gradient"]);
    let more = signs(&examined, "examination");
    assert!(
        ["saturation", "dead-gradient"].iter().all(|sign| more.contains(&(*sign).to_owned())),
        "{more:?}"
    );
    assert!(!more.contains(&"random-model".to_owned()) && !table.contains("looks for more"), "{table}");
    assert_eq!(examined["examination"]["pgd"]["steps"], 20);
    let known = &examined["known_examples"];
    assert!(
        known["tested"].as_u64().is_some() && table.contains("PGD finds") || known["tested"] == 0,
        "{known} {table}"
    );
}

/// Attacks that are told no label see the representations of all images, whatever the number in memory.
#[test]
fn representations_are_attacked_the_same_in_any_batch() {
    let files = Files::new();
    let read =
        |path: &Path| -> serde_json::Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    for attack in ["instance-wise", "feature-match"] {
        let options = ["--epsilon", "0.05", "--attack", attack];
        let (whole, pieces) = (files.path("whole.json"), files.path("pieces.json"));
        assert!(files.run(&whole, &options).status.success());
        let run = files.run(&pieces, &[&options[..], &["--batch", "3"]].concat());
        assert!(run.status.success(), "{}", text(&run.stderr));
        assert_eq!(read(&whole), read(&pieces), "{attack}");
    }
}

/// What an outsider needs to check an attack: pixels, points in ball and box, and which of them are misclassified.
#[test]
fn points_are_written_for_others_to_check() {
    let mut files = Files::new();
    let points = files.path("points.npz");
    let epsilon = 0.05;
    let options = ["--epsilon", "0.05", "--attack", "apgd-ce", "--points", points.to_str().unwrap()];
    let output = files.path("outcomes.json");
    let run = files.run(&output, &options);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let bytes = std::fs::read(&points).unwrap();
    // The same head as JSON is the same attack.
    let head = HeadFile::load(&files.head).unwrap().head;
    let (k, d) = (head.classes(), head.features());
    let json = serde_json::json!({"k": k, "d": d, "weight": head.weight(), "bias": head.bias()});
    let path = files.path("head.json");
    let kept = std::mem::replace(&mut files.head, path);
    std::fs::write(&files.head, json.to_string()).unwrap();
    let again = files.path("again.json");
    let run = files.run(&again, &options[..4]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let samples = |path: &Path| -> serde_json::Value {
        serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).unwrap()).unwrap()["samples"].take()
    };
    assert_eq!(samples(&again), samples(&output));
    files.head = kept;
    // Members are stored, with headers of 64 or 128 bytes: the values of one end where the next begins.
    let floats = |name: &str| -> Vec<f32> {
        let at = bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap() + name.len();
        let magic = at + bytes[at..].windows(6).position(|window| window == b"\x93NUMPY").unwrap();
        let header = 10 + usize::from(u16::from_le_bytes([bytes[magic + 8], bytes[magic + 9]]));
        let values = &bytes[magic + header..][..4 * 20 * 28 * 28];
        values.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
    };
    let (images, points) = (floats("images.npy"), floats("points.npy"));
    for (image, point) in images.iter().zip(&points) {
        let distance = (f64::from(*image) - f64::from(*point)).abs();
        assert!(distance <= epsilon && (0.0..=1.0).contains(point), "{image} {point}");
    }
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&output).unwrap()).unwrap();
    let samples = report["samples"].as_array().unwrap();
    let test = dataset().test;
    let encoder = load_encoder(&files.checkpoint, &cpu()).unwrap().inference();
    let head = HeadFile::load(&files.head).unwrap().head;
    let logits = DeviceHead::new(&head, &cpu(), DType::F32)
        .forward(&encoder.forward(&Tensor::new(&cpu(), [20, 28, 28, 1], &points)))
        .to_vec::<f32>();
    let mut moved = 0;
    for (i, sample) in samples.iter().enumerate() {
        let index = sample["index"].as_u64().unwrap() as usize;
        let image = test.images.outer_iter().nth(index).unwrap();
        let pixels: Vec<f32> = image.iter().map(|&level| f32::from(level) / 255.0).collect();
        assert_eq!(&images[i * 784..][..784], &pixels[..], "image {index}");
        let row = &logits[10 * i..][..10];
        let label = usize::from(test.labels[index]);
        let wrong = (0..10).any(|class| class != label && row[class] >= row[label]);
        assert_eq!(wrong, sample["robust"] == false, "image {index}");
        moved += usize::from(wrong && points[i * 784..][..784] != pixels[..]);
    }
    assert!(moved > 0, "the attack breaks images that were right");
}

#[test]
fn what_cannot_be_is_refused_with_the_remedy() {
    let files = Files::new();
    let refusal = |output: &Path, options: &[&str]| {
        let run = files.run(output, options);
        assert_eq!(run.status.code(), Some(1), "{}", text(&run.stdout));
        text(&run.stderr)
    };
    let output = files.path("outcomes.json");
    let message = refusal(&output, &["--epsilon", "1", "--attack", "cw"]);
    assert!(message.contains("cw has no step for linf; take l2"), "{message}");
    for attack in ["square", "hop-skip-jump", "feature-l2"] {
        let message = refusal(&output, &["--epsilon", "1", "--attack", attack, "--norm", "l2", "--examine"]);
        assert!(message.contains("sees no gradients or no labels; leave it out"), "{message}");
    }
    let points = files.path("points.npz");
    let points = ["--attack", "pgd", "--epsilon", "0.1", "--points", points.to_str().unwrap()];
    let message = refusal(&output, &points);
    assert!(message.contains("--points is for AutoAttack and its parts"), "{message}");
    let message = refusal(&output, &["--epsilon", "8", "--attack", "pgd"]);
    assert!(message.contains("for 8 of 255 levels write 8/255"), "{message}");
    let message = refusal(&output, &["--epsilon", "2.5", "--attack", "pgd", "--norm", "l0"]);
    assert!(message.contains("a whole number of values"), "{message}");
    let message = refusal(&output, &["--epsilon", "0", "--examine"]);
    assert!(message.contains("take a larger --epsilon"), "{message}");
    let message = refusal(&files.path("missing/outcomes.json"), &["--epsilon", "1"]);
    assert!(message.contains("choose a folder that exists"), "{message}");
    std::fs::write(state_of(&output), "not a state").unwrap();
    let message = refusal(&output, &["--epsilon", "1"]);
    assert!(
        message.contains("outcomes.json.state") && message.contains("remove it to start anew"),
        "{message}"
    );
    std::fs::write(&files.head, "no head").unwrap();
    let message = refusal(&files.path("other.json"), &["--epsilon", "1"]);
    assert!(message.contains("head.safetensors"), "{message}");
}
