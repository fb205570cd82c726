//! Every example runs and finds the number that it prints.

#[path = "../01_gradient.rs"]
pub mod gradient;

#[path = "../02_attack_a_closure.rs"]
pub mod attack_a_closure;

#[path = "../03_regularize_your_encoder.rs"]
pub mod regularize_your_encoder;

#[path = "../04_certify_once_apply_to_a_new_head.rs"]
pub mod certify_once;

#[path = "../05_a_method_file.rs"]
pub mod a_method_file;

#[path = "../06_your_encoder_in_the_study.rs"]
pub mod your_encoder_in_the_study;

#[path = "../07_check_the_bound_by_properties.rs"]
pub mod check_the_bound;

#[test]
fn example_01_finds_the_gradient_of_a_gradient() {
    gradient::main();
}

#[test]
fn example_02_finds_the_worst_margin_of_a_linear_classifier() {
    attack_a_closure::main();
}

#[test]
fn example_03_lowers_the_displacement_of_an_encoder() {
    regularize_your_encoder::main();
}

#[test]
fn example_04_certifies_heads_that_come_later() {
    certify_once::main().unwrap();
}

#[test]
fn example_05_trains_a_method_from_text() {
    a_method_file::main().unwrap();
}

#[test]
fn example_06_runs_an_encoder_of_ones_own_as_jobs() {
    your_encoder_in_the_study::main().unwrap();
}

#[test]
fn example_07_finds_no_violation_of_the_bound() {
    check_the_bound::main().unwrap();
}

#[test]
fn the_readme_lists_every_example() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let files =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let examples: Vec<String> = files.filter(|name| name.starts_with('0')).collect();
    assert_eq!(examples.len(), 7);
    for name in examples {
        assert!(readme.contains(&format!("]({name})")), "{name}");
    }
}
