//! American spelling in sources, documents and configuration.

use super::{Text, Violation};

/// Beginnings of words, British and American.
const STEMS: &[(&str, &str)] = &[
    ("analyse", "analyze"),
    ("artefact", "artifact"),
    ("behaviour", "behavior"),
    ("cancelled", "canceled"),
    ("cancelling", "canceling"),
    ("catalogue", "catalog"),
    ("centre", "center"),
    ("centring", "centering"),
    ("channelled", "channeled"),
    ("colour", "color"),
    ("defence", "defense"),
    ("favour", "favor"),
    ("fibre", "fiber"),
    ("flavour", "flavor"),
    ("fulfil ", "fulfill "),
    ("grey", "gray"),
    ("honour", "honor"),
    ("labelled", "labeled"),
    ("labelling", "labeling"),
    ("learnt", "learned"),
    ("licence", "license"),
    ("metre", "meter"),
    ("modelled", "modeled"),
    ("modelling", "modeling"),
    ("neighbour", "neighbor"),
    ("offence", "offense"),
    ("programme", "program"),
    ("sceptic", "skeptic"),
    ("signalled", "signaled"),
    ("spelt", "spelled"),
    ("travelled", "traveled"),
    ("unlabelled", "unlabeled"),
];

/// Verbs that are written with `iz`, without it; also inside of longer words, as in `unnormalised`.
const VERBS: &[&str] = &[
    "central",
    "character",
    "diagonal",
    "discret",
    "emphas",
    "equal",
    "factor",
    "final",
    "general",
    "initial",
    "linear",
    "maxim",
    "memor",
    "minim",
    "normal",
    "optim",
    "organ",
    "orthogonal",
    "parallel",
    "parametr",
    "penal",
    "quant",
    "random",
    "real",
    "recogn",
    "regular",
    "serial",
    "special",
    "stabil",
    "standard",
    "summar",
    "symmetr",
    "synchron",
    "util",
    "vector",
    "visual",
];

/// What follows the verb: an `s` where a `z` belongs, and an ending.
const ENDINGS: &[&str] = &["ise", "isa", "isi"];

/// Strings that decide random numbers, are read from old files, or belong to a standard, and so stay as they are.
const KEPT: &[&str] = &[
    "fold(\"neighbour\")",
    "fold(\"colour\")",
    "alias = \"licence\"",
    "b\"neighbour\"",
    "b\"colour\"",
    "aria-labelledby",
    "height of the centre of brightness",
];

/// Finds British spellings.
pub(crate) fn spelling(text: &Text) -> Vec<Violation> {
    // This list, and that of private words.
    if ["xtask/src/rules/spelling.rs", "xtask/src/rules/vocabulary.rs"].contains(&text.path.as_str()) {
        return Vec::new();
    }
    let mut violations = Vec::new();
    let lower = text.text.to_lowercase();
    // Most lines have none of these letters in a row.
    let suspicious = |line: &str| {
        ENDINGS.iter().any(|ending| line.contains(ending))
            || STEMS.iter().any(|(british, _)| line.contains(british))
    };
    for (number, line) in lower.lines().enumerate().filter(|(_, line)| suspicious(line)) {
        let line = KEPT.iter().fold(line.to_owned(), |line, kept| line.replace(kept, ""));
        for word in line.split(|c: char| !c.is_alphabetic()) {
            if let Some(better) = american(word) {
                let message = format!("`{word}` is British; write `{better}`");
                violations.push(Violation { place: text.path.clone(), line: Some(number + 1), message });
            }
        }
    }
    violations
}

fn american(word: &str) -> Option<String> {
    if let Some((british, american)) = STEMS.iter().find(|(british, _)| word.contains(british)) {
        return Some(word.replace(british, american));
    }
    for ending in ENDINGS {
        let Some(at) = word.rfind(ending) else { continue };
        if VERBS.iter().any(|verb| word[..at].ends_with(verb)) {
            return Some(format!("{}iz{}", &word[..at], &word[at + 2..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Vec<String> {
        let text = Text { path: "README.md".into(), text: format!("A line.\n{line}\n") };
        spelling(&text).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn a_british_word_is_found_with_its_line_and_the_american_one() {
        assert_eq!(found("the centre_of_mass"), ["README.md:2: `centre` is British; write `center`"]);
        for (word, better) in [
            ("Normalisation", "normalization"),
            ("unlabelled", "unlabeled"),
            ("RandomisedColours", "randomisedcolors"),
            ("optimisers", "optimizers"),
            ("maximising", "maximizing"),
        ] {
            assert!(found(word)[0].contains(&format!("write `{better}`")), "{:?}", found(word));
        }
    }

    #[test]
    fn american_words_and_words_that_are_the_same_are_no_fault() {
        let line = "normalize rise precise supervised noise wise raised exercise otherwise programs finalist realist";
        assert_eq!(found(line), [""; 0]);
    }

    #[test]
    fn strings_that_decide_numbers_are_kept() {
        assert_eq!(found("key.fold(\"neighbour\").fold(\"colour\")"), [""; 0]);
        assert_eq!(found("key.fold(\"neighbour\"); // the neighbour").len(), 1);
    }
}
