//! Every number of a method is refused outside of its range, with its key, when the file is read.

use super::*;
use crate::method::Method;
use std::collections::BTreeSet;
use tarrl_objectives::{Objective, Views};

/// With every number but those of the other objectives and of what learns from a teacher.
const WITHOUT_TEACHER: &str = r#"title = "t"
strength = { start = 1.0, end = 0.0, stages = 2 }
projector = { hidden = 8, out = 4, layers = 3 }
network = { batch_norm = "dual", average = 0.9 }
objective = { kind = "nt-xent", temperature = 0.5 }
noise = { sigma = 1.0, unit = "fixed" }
invariance = { standard = 0.5, adversarial = 0.5, temperature = 0.5 }
[[views]]
[views.custom]
crop = { kind = "resized", scale = [0.1, 1.0], ratio = [0.75, 1.25] }
flip = 0.5
jitter = { probability = 0.8, brightness = 0.4, contrast = 0.4, saturation = 0.4, hue = 0.1 }
grayscale = 0.2
blur = { probability = 0.5, sigma = [0.1, 2.0], kernel = 3 }
solarize = 0.1
high_pass = 2
[[views]]
[views.custom]
crop = { kind = "padded", pixels = 2 }
[adversary]
attacks = "both"
enters = "second"
branch = "adversarial"
weight = 0.5
clean_weight = 0.5
shift = 0.5
attack = { epsilon = 0.1, steps = 2, step_size = 0.1, restarts = 1, bounds = [0.0, 1.0] }
[regularizer]
divergence = "l2"
scale = "noise"
sigma = 1.0
weight = 1.0
ramp = 0.5
weight_ramp = 0.5
inner = { epsilon = 0.1, steps = 2, step_size = 0.1, restarts = 1, bounds = [0.0, 1.0] }
[certified]
contrast = { temperature = 1.0, group = 4 }
weight = 1.0
epsilon = 0.1
ramp = 0.5
[spectral_norm]
weight = 1.0
iterations = 5
"#;

const WITH_TEACHER: &str = r#"title = "t"
teacher = "simclr"
[distillation]
weight = 1.0
consistency = 2.0
projected = 0.5
attack = { epsilon = 0.1, steps = 2, step_size = 0.1, restarts = 1, bounds = [0.0, 1.0] }
[pseudo_labels]
clusters = [2, 3]
weight = 1.0
attack = { epsilon = 0.1, steps = 2, step_size = 0.1, restarts = 1, bounds = [0.0, 1.0] }
[certified]
clusters = [2]
"#;

/// A method with the objective of this kind, all of its numbers and the networks that it needs.
fn of_objective(kind: &str) -> String {
    let objective: Objective = toml::from_str(&format!("kind = \"{kind}\"")).unwrap();
    let needs = objective.as_loss().needs();
    let mut text = "title = \"t\"\n".to_owned();
    text += match needs.views {
        Views::CleanAndAdversarial => "views = [\"weak\"]\n",
        Views::AtLeast(_) => "views = [\"weak\", \"weak\"]\n",
    };
    if needs.predictor {
        text += "network.predictor = { hidden = 8 }\n";
    }
    if needs.momentum {
        text += "network.momentum = { start = 0.9, end = 1.0 }\n";
    }
    if needs.views == Views::CleanAndAdversarial {
        text += "adversary = { enters = \"third\", against = \"original\", attack = { epsilon = 0.1 } }\n";
    }
    format!("{text}[objective]\n{}", toml::to_string(&objective).unwrap())
}

/// The methods whose numbers are tried.
fn methods() -> Vec<Value> {
    let objectives = Objective::KINDS.iter().map(|kind| of_objective(kind));
    let texts = [WITHOUT_TEACHER.to_owned(), WITH_TEACHER.to_owned()].into_iter().chain(objectives);
    texts.map(|text| toml::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))).collect()
}

/// What reading a file with these settings says.
fn read(settings: &Value) -> Result<Method, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("method.toml");
    std::fs::write(&path, toml::to_string(settings).unwrap()).unwrap();
    Method::read(&path).map_err(|error| error.to_string())
}

/// A number of a file.
struct Number {
    key: String,
    /// The names and positions that lead to it.
    place: Vec<Step>,
    float: bool,
}

#[derive(Clone)]
enum Step {
    Key(String),
    Item(usize),
}

/// Every number of `settings`.
fn numbers(settings: &Value) -> Vec<Number> {
    fn walk(value: &Value, key: &str, place: &[Step], found: &mut Vec<Number>) {
        let below = |step| [place, &[step]].concat();
        match value {
            Value::Integer(_) | Value::Float(_) => {
                found.push(Number { key: key.to_owned(), place: place.to_vec(), float: value.is_float() });
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, item)| walk(item, key, &below(Step::Item(i)), found));
            }
            Value::Table(table) => table.iter().for_each(|(name, item)| {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                walk(item, &key, &below(Step::Key(name.clone())), found);
            }),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(settings, "", &[], &mut found);
    found
}

fn replaced(settings: &Value, place: &[Step], number: Value) -> Value {
    let mut changed = settings.clone();
    let mut at = &mut changed;
    for step in place {
        at = match step {
            Step::Key(name) => at.get_mut(name).unwrap(),
            Step::Item(i) => at.get_mut(*i).unwrap(),
        };
    }
    *at = number;
    changed
}

/// Just outside of a range, and far outside; of whole numbers only those that are whole.
fn outside(range: Range, float: bool) -> Vec<Value> {
    let beside = |end: f64| if float { 1e-9 * end.abs().max(1.0) } else { 1.0 };
    let mut values = vec![range.least - beside(range.least), range.most + beside(range.most), -1.0, 0.0];
    if float {
        values.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300]);
    }
    let values = values.into_iter().filter(|value| !range.contains(*value));
    let values = values.map(|value| if float { Value::Float(value) } else { Value::Integer(value as i64) });
    values.chain((!float).then_some(Value::Integer(i64::MAX))).collect()
}

#[test]
fn every_number_of_every_method_is_refused_outside_of_its_range() {
    let mut refused = 0;
    for settings in methods() {
        assert!(read(&settings).is_ok(), "{settings}: {:?}", read(&settings));
        for Number { key, place, float } in numbers(&settings) {
            let range = Range::of(&key).unwrap_or_else(|error| panic!("{error}"));
            for number in outside(range, float) {
                let shown = number.to_string();
                let error =
                    read(&replaced(&settings, &place, number)).expect_err(&format!("{key} = {shown}"));
                let name = key.rsplit('.').next().unwrap();
                assert!(error.contains("method.toml"), "{key} = {shown}: {error}");
                // A number of the wrong type is named by its line and value.
                assert!(error.contains(name) || error.contains("method.toml:"), "{key} = {shown}: {error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn every_range_of_a_method_is_one_of_a_key_that_exists() {
    let keys: BTreeSet<String> = methods().iter().flat_map(numbers).map(|number| number.key).collect();
    let first = RANGES.iter().position(|(name, _)| *name == "epsilon").unwrap();
    for (name, _) in &RANGES[first..] {
        let is_used = keys.iter().any(|key| key == name || key.ends_with(&format!(".{name}")));
        assert!(is_used, "`{name}` has a range and is no key of a method");
    }
}

#[test]
fn the_longest_name_decides_and_an_unknown_key_is_refused() {
    assert_eq!(Range::of("regularizer.inner.epsilon"), Ok(RADIUS));
    assert_eq!(Range::of("objective.epsilon"), Ok(range(0.0, 1e6)));
    assert_eq!(Range::of("--epsilon"), Ok(RADIUS));
    assert!(matches!(Range::of("regularizer.another_steps"), Err(RangeError::Unknown { .. })));
    let error = check_ranges(&toml::toml! { nowhere = 1 }).unwrap_err().to_string();
    assert!(error.starts_with("`nowhere` has no range"), "{error}");
}

#[test]
fn an_error_names_key_value_and_range() {
    let error = |value: f64| Range::of("seeds").unwrap().check("seeds", value).unwrap_err().to_string();
    assert_eq!(error(1001.0), "`seeds` is 1001 and has to be at most 1000; allowed is 1 to 1000");
    assert_eq!(error(0.0), "`seeds` is 0 and has to be at least 1; allowed is 1 to 1000");
    assert_eq!(error(f64::NAN), "`seeds` is NaN and has to be at most 1000; allowed is 1 to 1000");
}
