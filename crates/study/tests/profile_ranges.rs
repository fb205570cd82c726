//! Every number of a profile is refused outside of its range, when the file is read.

use tarrl_study::profile::Profile;
use tarrl_train::{RANGES, Range};

/// With every number that a profile may have, one to a line but for those of the optimizer.
const PROFILE: &str = r#"title = "t"
dataset = "fashion-mnist-sample"
seeds = 2
first-seed = 1
methods = ["simclr", "tarr"]
tables = ["T1"]
[subset]
train = 512
test = 100
holdout = 64
[frontier]
clean = 0.8
images = 100
l2 = [0.1, 0.01]
[sweep]
method = "tarr"
divergences = ["l2"]
weights = [1.0]
[encoder]
arch = "conv-small"
width = 0.25
[pretrain]
epochs = 1
batch = 128
warmup-epochs = 0.5
optimizer = OPTIMIZER
[adversary]
epsilon = 0.1
steps = 3
[attack]
epsilons = [0.1]
curve = [0.2]
steps = 20
restarts = 1
autoattack = 10
[tasks]
images = 100
shares = [0.1]
draws = 2
noise = 0.25
[tasks.predictors]
pilot = 10
draws = 20
attack = 2
delta = 0.01
[tasks.universal]
steps = 5
batch = 20
restarts = 1
[tasks.alf]
epsilon = 0.1
steps = 3
epochs = 1
[distances]
images = 20
passes = 100
certificates = 4
share = 0.5
[bound]
samples = 100
epsilons = [0.1]
"#;

const OPTIMIZERS: [&str; 3] = [
    r#"{ kind = "sgd", lr = 0.1, momentum = 0.9, weight_decay = 0.1 }"#,
    r#"{ kind = "lars", lr = 0.1, momentum = 0.9, weight_decay = 0.1, trust = 0.02 }"#,
    r#"{ kind = "adamw", lr = 0.1, betas = [0.5, 0.9], eps = 0.1, weight_decay = 0.1 }"#,
];

fn read(text: &str) -> Result<Profile, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("test.toml"), text).unwrap();
    Profile::read(folder.path(), "test").map_err(|error| format!("{error:#}"))
}

/// Every number of the text: its place, and its key with the table that it stands in.
fn numbers(text: &str) -> Vec<(std::ops::Range<usize>, String)> {
    let (mut table, mut found, mut start) = (String::new(), Vec::new(), 0);
    for line in text.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix('[') {
            table = format!("{}.", name.trim_end().trim_end_matches(']'));
        }
        for (at, _) in line.match_indices(" = ") {
            let name = line[..at].rsplit([' ', '{', ',']).next().unwrap();
            let value = line[at + 3..].trim_start_matches('[');
            let first = start + line.len() - value.len();
            let length = value.find([',', ' ', ']', '\n']).unwrap();
            if value[..length].parse::<f64>().is_ok() {
                let table = if line.starts_with("optimizer") { "optimizer." } else { &table };
                found.push((first..first + length, format!("{table}{name}")));
            }
        }
        start += line.len();
    }
    found
}

#[test]
fn every_number_of_a_profile_is_refused_outside_of_its_range() {
    let (mut keys, mut refused) = (Vec::new(), 0);
    for optimizer in OPTIMIZERS {
        let text = PROFILE.replace("OPTIMIZER", optimizer);
        assert!(read(&text).is_ok(), "{text}: {:?}", read(&text));
        for (place, key) in numbers(&text) {
            let range = Range::of(&key).unwrap();
            let whole = !text[place.clone()].contains('.');
            let beside = |end: f64| if whole { 1.0 } else { 1e-9 * end.abs().max(1.0) };
            let ends = [range.least - beside(range.least), range.most + beside(range.most)];
            let write = |value: f64| if whole { format!("{value}") } else { format!("{value:?}") };
            let values =
                ends.into_iter().chain([-1.0, 0.0]).filter(|value| !range.contains(*value)).map(write);
            let words = ["nan", "inf", "-inf", "1e300", "9223372036854775807"].map(str::to_owned);
            for value in values.chain(words) {
                let mut changed = text.clone();
                changed.replace_range(place.clone(), &value);
                let error = read(&changed).expect_err(&format!("{key} = {value}"));
                let name = key.rsplit('.').next().unwrap();
                // A number of the wrong type is named by its line.
                assert!(
                    error.contains("test.toml") && error.contains(name) || error.contains("test.toml:"),
                    "{key} = {value}: {error}"
                );
                refused += 1;
            }
            keys.push(key);
        }
    }
    assert!(refused > 300, "{refused}");
    let table = RANGES.iter().map(|(name, _)| *name);
    for name in table.skip_while(|name| *name != "seeds").take_while(|name| *name != "epsilon") {
        assert!(keys.iter().any(|key| key == name), "`{name}` has a range and is no key of a profile");
    }
}
