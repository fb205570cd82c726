//! Configuration files in TOML: errors with file, line, key and the nearest known name.

use std::path::{Path, PathBuf};

use crate::ranges::Range;
use serde::de::DeserializeOwned;
use toml::Value;

/// The longest configuration file that is read.
const MOST_BYTES: u64 = 1 << 24;

/// Why a configuration file could not be used. Every message names the file, the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing or unreadable.
    #[error("cannot read {}: {source}; check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An unknown key, or an unknown name of a choice.
    #[error(
        "{}:{line}: unknown {what} `{found}`; {}known: {}",
        path.display(),
        nearest.as_ref().map_or(String::new(), |n| format!("did you mean `{n}`? ")),
        known.join(", ")
    )]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Line of the mistake, counted from one.
        line: usize,
        /// `key` or `value`.
        what: &'static str,
        /// What stands in the file.
        found: String,
        /// The closest of `known`, if one is close enough to be meant.
        nearest: Option<String>,
        /// Everything that may stand there.
        known: Vec<String>,
    },
    /// Every value is fine by itself, but not together with the others.
    #[error("{}: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why, and what would do.
        reason: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Anything else: syntax, a missing key, a value of the wrong type or out of range.
    #[error("{}:{line}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line of the mistake, counted from one.
        line: usize,
        /// The parser's own words.
        message: String,
    },
}

/// Reads `path` into `T`, which should be marked `#[serde(deny_unknown_fields)]`.
///
/// # Errors
/// Returns [`ConfigError`] for an unreadable file, bad syntax, a missing or mistyped value, and for an unknown
/// key or choice, in which case the error also names the nearest known one.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = tarrl_data::read_at_most(path, MOST_BYTES)
        .and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other))
        .map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
    parse_toml(&text, path)
}

/// Parses `text`, which stands in `path`; see [`read_toml`].
///
/// # Errors
/// As [`read_toml`], except that nothing is read.
pub fn parse_toml<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| explain(&error, text, path))
}

/// The candidate closest to `word`, if it is close enough that a slip of the keyboard explains the difference:
/// at most one edit in three letters, but one is always allowed. Ties go to the first candidate.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbors, each at cost one.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitution = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitution.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// serde reports unknown names as text only (``unknown field `a`, expected one of `b`, `c` ``), so the names are
/// taken from the back-quotes of its sentence.
fn explain(error: &toml::de::Error, text: &str, path: &Path) -> ConfigError {
    let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = error.message();
    for (prefix, what) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        if let Some(rest) = message.strip_prefix(prefix) {
            let mut quoted = rest.split('`').step_by(2).map(str::to_owned);
            let found = quoted.next().unwrap_or_default();
            let known: Vec<String> = rest.split('`').skip(2).step_by(2).map(str::to_owned).collect();
            let nearest = nearest(&found, known.iter().map(String::as_str)).map(str::to_owned);
            let line = line_of(&found, what == "key", text).unwrap_or(line);
            return ConfigError::Unknown { path: path.to_path_buf(), line, what, found, nearest, known };
        }
    }
    let allowed = number_meant(message, text).map_or(String::new(), |(key, Range { least, most })| {
        format!("; `{key}` is a number from {least} to {most}")
    });
    ConfigError::Invalid { path: path.to_path_buf(), line, message: format!("{message}{allowed}") }
}

/// The setting, and what it may be, for which something else than a number stands in `text`, or another kind of number; if
/// the words of serde fit one setting alone.
fn number_meant(message: &str, text: &str) -> Option<(String, Range)> {
    let found = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, _) = found.split_once(", expected ")?;
    let mut meant = Vec::new();
    collect(&toml::from_str(text).ok()?, "", &mut |key, value| {
        let stands = match value {
            Value::String(text) => format!("string {text:?}"),
            Value::Boolean(value) => format!("boolean `{value}`"),
            Value::Float(value) => format!("floating point `{value:?}`"),
            Value::Integer(value) => format!("integer `{value}`"),
            Value::Array(_) => "sequence".to_owned(),
            _ => return,
        };
        if let Some(range) = Range::of(key).ok().filter(|_| stands == found) {
            meant.push((key.to_owned(), range));
        }
    });
    meant.pop().filter(|_| meant.is_empty())
}

/// Calls `see` with every value that is no table, and with its key.
fn collect(value: &Value, key: &str, see: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Table(table) => table.iter().for_each(|(name, item)| {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            collect(item, &key, see);
        }),
        value => {
            see(key, value);
            value.as_array().into_iter().flatten().for_each(|item| collect(item, key, see));
        }
    }
}

/// The line on which a name stands, if it stands on one line alone: as a key, before `=`, or as a value, in quotes.
///
/// serde copies what has a tag (`kind = "…"`) before it reads it, so that its errors know no place but that of the table
/// or even of the first table of a list.
fn line_of(name: &str, key: bool, text: &str) -> Option<usize> {
    let stands_in = |line: &str| {
        let ends_word = |c: char| !(c.is_alphanumeric() || c == '_' || c == '-');
        line.match_indices(name).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + name.len()..]);
            if before.contains('#') || !before.chars().next_back().is_none_or(ends_word) {
                return false;
            }
            let quoted = before.ends_with(['"', '\'']) && after.starts_with(['"', '\'']);
            if key { after.trim_start_matches(['"', '\'']).trim_start().starts_with('=') } else { quoted }
        })
    };
    let mut lines = text.lines().enumerate().filter(|(_, line)| stands_in(line)).map(|(i, _)| i + 1);
    match (lines.next(), lines.next()) {
        (Some(line), None) => Some(line),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        epochs: u32,
        inner: Option<Inner>,
    }

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        kind: Kind,
    }

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        Pgd,
        Fgsm,
    }

    fn message(text: &str) -> String {
        parse_toml::<Outer>(text, Path::new("methods/tarr.toml")).unwrap_err().to_string()
    }

    #[test]
    fn a_correct_file_is_read() {
        let parsed: Outer = parse_toml("epochs = 3\n[inner]\nkind = \"fgsm\"", Path::new("x")).unwrap();
        assert_eq!(parsed, Outer { epochs: 3, inner: Some(Inner { kind: Kind::Fgsm }) });
    }

    #[test]
    fn an_unknown_key_names_file_line_key_and_neighbor() {
        assert_eq!(
            message("# a comment\nepohcs = 3"),
            "methods/tarr.toml:2: unknown key `epohcs`; did you mean `epochs`? known: epochs, inner"
        );
        assert_eq!(
            message("epochs = 3\n\n[inner]\nknid = \"pgd\""),
            "methods/tarr.toml:4: unknown key `knid`; did you mean `kind`? known: kind"
        );
    }

    #[test]
    fn an_unknown_key_far_from_everything_lists_what_is_known() {
        assert_eq!(
            message("temperature = 3"),
            "methods/tarr.toml:1: unknown key `temperature`; known: epochs, inner"
        );
    }

    #[test]
    fn an_unknown_choice_names_its_neighbor() {
        assert_eq!(
            message("epochs = 1\ninner = { kind = \"pdg\" }"),
            "methods/tarr.toml:2: unknown value `pdg`; did you mean `pgd`? known: pgd, fgsm"
        );
    }

    /// In every place of a configuration whose meaning depends on a tag.
    #[test]
    fn unknown_names_beside_a_tag_have_their_own_line() {
        let line = |text: &str| {
            let error = parse_toml::<crate::TrainConfig>(text, Path::new("t.toml")).unwrap_err();
            let ConfigError::Unknown { line, found, .. } = error else { panic!("{error}") };
            (line, found)
        };
        let good = "epochs = 1\nbatch = 2\n[method]\ntitle = 't'\n[method.objective]\nkind = 'nt-xent'\n";
        assert!(parse_toml::<crate::TrainConfig>(good, Path::new("t.toml")).is_ok());
        assert_eq!(line(&format!("{good}temprature = 0.5")), (7, "temprature".into()));
        assert_eq!(line(&good.replace("nt-xent", "nt-xnet")), (6, "nt-xnet".into()));
        assert_eq!(
            line(&format!("{good}[optimizer]\nlr = 0.1 # momentm = 1\nkind = 'sgd'\nmomentm = 0.9")),
            (10, "momentm".into())
        );
        let view = "[[method.views]]\n[method.views.custom]\nflip = 0.5\n[method.views.custom.crop]\n\
                    kind = 'resized'\nscale = [0.1, 1.0]\n";
        assert_eq!(line(&format!("{good}{view}{view}ration = [1.0, 1.0]")).0, 19);
        assert_eq!(line(&format!("{good}{view}{}", view.replace("resized", "risized"))).0, 17);
    }

    #[test]
    fn other_mistakes_name_file_and_line() {
        assert!(message("\nepochs = \"many\"").starts_with("methods/tarr.toml:2: invalid type"));
        assert!(message("epochs = ").starts_with("methods/tarr.toml:1: "));
        assert!(message("[inner]\nkind = \"pgd\"").contains("missing field `epochs`"));
    }

    /// Where the words of serde fit one number alone; beside a tag their line is that of the table.
    #[test]
    fn what_is_no_number_of_the_right_kind_is_answered_with_what_is_allowed() {
        let message =
            |text: &str| parse_toml::<crate::TrainConfig>(text, Path::new("t.toml")).unwrap_err().to_string();
        let good = "epochs = 1\nbatch = 2\n[method]\ntitle = 't'\n[method.objective]\nkind = 'nt-xent'\n";
        for (value, found) in [("'0.5'", "string \"0.5\""), ("true", "boolean `true`"), ("[1]", "sequence")] {
            let error = message(&format!("{good}temperature = {value}"));
            assert!(error.contains(found), "{error}");
            let allowed = "`method.objective.temperature` is a number from 0.000001 to 1000000";
            assert!(error.contains(allowed), "{error}");
        }
        let error = message(&format!("{good}[method.projector]\nhidden = 1.5"));
        assert!(error.starts_with("t.toml:8: "), "{error}");
        assert!(error.contains("`method.projector.hidden` is a number from 1 to 65536"), "{error}");
        let error = message(&good.replace("'t'", "7"));
        assert!(!error.contains("number from"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_toml::<Outer>(Path::new("/nowhere/at/all.toml")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /nowhere/at/all.toml: "), "{error}");
    }

    #[test]
    fn edit_distance_counts_single_edits() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("weight", "wieght", 1),
            ("weight", "wight", 1),
            ("weight", "weights", 1),
            ("weight", "waight", 1),
            ("kitten", "sitting", 3),
            ("Epochs", "epochs", 0),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
            assert_eq!(edit_distance(b, a), distance, "{b} {a}");
        }
    }

    #[test]
    fn nearest_finds_a_name_only_within_the_allowed_edits() {
        assert_eq!(nearest("smok", ["default", "smoke", "full"]), Some("smoke"));
        assert_eq!(nearest("x", ["default", "smoke", "full"]), None);
        assert_eq!(nearest("t2", ["T1", "T5"]), Some("T1"));
    }
}
