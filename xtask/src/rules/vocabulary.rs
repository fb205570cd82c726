//! Private words: names of this project's past for things that the field has a word for.

use super::{Text, Violation};

/// A word, and the standard one.
struct Private {
    word: &'static str,
    instead: &'static str,
    /// Where it is looked for.
    place: Place,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// Anywhere, also as a part of an identifier.
    Anywhere,
    /// Only as a whole identifier in code: in prose the word means what everyone means by it.
    Name,
}

const fn anywhere(word: &'static str, instead: &'static str) -> Private {
    Private { word, instead, place: Place::Anywhere }
}

const fn name(word: &'static str, instead: &'static str) -> Private {
    Private { word, instead, place: Place::Name }
}

const PRIVATE: &[Private] = &[
    anywhere("mission", "sample state"),
    anywhere("missions", "sample states"),
    anywhere("wish", "query"),
    anywhere("wishes", "queries"),
    anywhere("glance", "deferred evaluation"),
    anywhere("fate", "outcome"),
    anywhere("fates", "outcomes"),
    anywhere("victim", "target"),
    anywhere("victims", "targets"),
    anywhere("flying", "active"),
    anywhere("take off", "fill the batch"),
    anywhere("at rest", "in eval mode"),
    anywhere("program before", "the previous build"),
    anywhere("house", "workspace or project"),
    anywhere("painter", "augmenter"),
    anywhere("brush", "device transform"),
    anywhere("lattice", "quantize"),
    name("Painting", "AugmentBatch"),
    name("Frozen", "InferenceEncoder"),
    name("grad_once", "backward"),
    name("pull_back", "vjp"),
    name("Site", "ParamBuilder"),
    name("Norms", "BatchNormMode"),
    name("Starts", "InitialPoints"),
    name("Ascends", "AdversaryLoss"),
    name("cloud", "smoothed certificate"),
    name("Against", "AdversaryReference"),
    name("Enters", "AdversaryCombine"),
    name("Repeated", "CapturedStep"),
    name("Replayed", "CapturedFn"),
    name("teach", "pseudo_label_loss"),
    name("look_back", "evaluate_with_grad"),
    name("glance_back", "evaluate_deferred"),
    name("Unread", "DeferredEvaluations"),
    name("Verdict", "AttackStatus"),
    name("Orders", "SuiteContext"),
    name("Climb", "ApgdState"),
    name("Walk", "FabState"),
    name("Squares", "SquareState"),
    name("Home", "CleanCache"),
    name("Leave", "EarlyExit"),
    name("Wall", "Hyperplane"),
    name("onto", "project"),
    name("Maximiser", "InnerMaximizer"),
    name("NearestMistake", "MinimalAdversarial"),
    name("Lab", "StudyContext"),
    name("Absent", "CudaError"),
    name("lt", "cublaslt"),
    name("said", "prediction"),
];

/// Finds private words in code, comments and documents.
pub(crate) fn vocabulary(text: &Text) -> Vec<Violation> {
    // This list, the history, and the classes of datasets.
    let exempt = |place: &&str| text.path.starts_with(place);
    if ["xtask/src/rules/vocabulary.rs", "docs/lab-notes/", "CHANGELOG.md", "datasets/"].iter().any(exempt) {
        return Vec::new();
    }
    let code = if text.path.ends_with(".rs") { super::mask(&text.text) } else { String::new() };
    let mut code = code.lines();
    let mut violations = Vec::new();
    for (number, line) in text.text.lines().enumerate() {
        let code_line = code.next().unwrap_or_default();
        // Names in files that were stored before stay.
        if line.contains("serde(rename") {
            continue;
        }
        let plain = words(line);
        let names: Vec<&str> = code_line.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        let stands = |private: &&Private| match private.place {
            Place::Anywhere => plain.contains(&format!(" {} ", private.word)),
            Place::Name => names.contains(&private.word),
        };
        for Private { word, instead, .. } in PRIVATE.iter().filter(stands) {
            let message = format!("`{word}` is a private word; the standard one is {instead}");
            violations.push(Violation { place: text.path.clone(), line: Some(number + 1), message });
        }
    }
    violations
}

/// The words of a line in lower case between single spaces, identifiers taken apart: `TakeOff` is ` take off `.
fn words(line: &str) -> String {
    let mut words = String::from(" ");
    let mut before = ' ';
    for c in line.chars() {
        let separates = !c.is_alphabetic() || c.is_uppercase() && before.is_lowercase();
        if separates && !words.ends_with(' ') {
            words.push(' ');
        }
        if c.is_alphabetic() {
            words.extend(c.to_lowercase());
        }
        before = c;
    }
    words.push(' ');
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, line: &str) -> usize {
        vocabulary(&Text { path: path.into(), text: line.into() }).len()
    }

    #[test]
    fn a_private_word_is_found_in_prose_and_inside_of_names() {
        for line in [
            "// The mission ends.",
            "struct SampleMission;",
            "fn take_off() {}",
            "an encoder at rest",
            "TakeOff",
        ] {
            assert_eq!(found("crates/data/src/lib.rs", line), 1, "{line}");
            assert_eq!(found("docs/theory.md", line), 1, "{line}");
        }
    }

    #[test]
    fn some_words_are_private_only_as_a_name_in_code() {
        for (line, faults) in [
            ("struct Climb;", 1),
            ("let x = Climb::new();", 1),
            ("// Climb the hill; \"Climb\"", 0),
            ("struct ClimbingState;", 0),
            ("let permission = dewish(overcast_of_clouds);", 0),
        ] {
            assert_eq!(found("crates/data/src/lib.rs", line), faults, "{line}");
        }
        assert_eq!(found("docs/theory.md", "Climb"), 0);
    }

    #[test]
    fn the_line_and_the_standard_word_are_told() {
        let text = Text { path: "README.md".into(), text: "One.\nThe victim.\n".into() };
        let found = vocabulary(&text);
        assert_eq!(
            found[0].to_string(),
            "README.md:2: `victim` is a private word; the standard one is target"
        );
    }
}
