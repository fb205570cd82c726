//! The programs of cargo-fuzz are those of the targets.

#[test]
fn every_target_has_its_program_in_the_manifest_of_cargo_fuzz() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/Cargo.toml");
    let manifest: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let programs = manifest["bin"].as_array().unwrap().iter();
    let built =
        programs.filter(|program| cfg!(feature = "parquet") || program.get("required-features").is_none());
    let programs = built.map(|program| program["name"].as_str().unwrap());
    let targets = tarrl_fuzz::TARGETS.iter().map(|target| target.name);
    assert_eq!(programs.collect::<Vec<_>>(), targets.collect::<Vec<_>>());
}
