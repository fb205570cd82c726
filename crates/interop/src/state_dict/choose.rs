//! The name map of a file: the one that was asked for, or the one that fits.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::candidate::{Candidate, Faults, evaluate};
use super::name_map::{NameMap, built_in, parse};
use super::scope::Scope;
use super::tensor_file::TensorFile;
use crate::error::InteropError;
use crate::options::ReadOptions;

/// The largest map file that is read, in bytes.
const LARGEST_MAP: u64 = 1 << 20;

/// What was chosen, and how.
pub(crate) struct Choice {
    pub(crate) map: NameMap,
    pub(crate) candidate: Candidate,
    /// In words.
    pub(crate) how: String,
}

/// A map with what it makes of a file.
pub(crate) struct Attempt {
    pub(crate) map: NameMap,
    /// Whether the file has what tells it from those of other programs.
    pub(crate) recognized: bool,
    /// The first network that fits, or the nearest; `None` if no network has such names.
    pub(crate) result: Option<Result<Candidate, Faults>>,
}

impl Attempt {
    fn candidate(&self) -> Option<&Candidate> {
        self.result.as_ref()?.as_ref().ok()
    }

    fn faults(&self) -> Option<&Faults> {
        self.result.as_ref()?.as_ref().err()
    }
}

/// What every built-in map makes of a file.
pub(crate) fn attempts(file: &TensorFile, scope: &Scope, options: &ReadOptions) -> Vec<Attempt> {
    built_in().into_iter().map(|map| attempt(map, file, scope, options)).collect()
}

fn attempt(map: NameMap, file: &TensorFile, scope: &Scope, options: &ReadOptions) -> Attempt {
    let wanted = |prefix: &str| {
        options
            .network
            .as_ref()
            .is_none_or(|network| network.trim_end_matches('.') == prefix.trim_end_matches('.'))
    };
    let recognized = map.recognizes(file);
    let mut nearest: Option<Faults> = None;
    let mut result = None;
    for network in map.networks.iter().filter(|network| wanted(&network.prefix)) {
        match evaluate(&map, network, scope, options) {
            Some(Ok(found)) => {
                result = Some(Ok(found));
                break;
            }
            Some(Err(faults)) if nearest.as_ref().is_none_or(|n| faults.distance() < n.distance()) => {
                nearest = Some(faults);
            }
            _ => {}
        }
    }
    Attempt { map, recognized, result: result.or(nearest.map(Err)) }
}

/// The network of a file that is read, under the map of the options or the one that fits.
///
/// # Errors
/// If none fits, with the nearest; or if several do and disagree.
pub(crate) fn choose(
    path: &Path,
    file: &TensorFile,
    scope: &Scope,
    options: &ReadOptions,
) -> Result<Choice, InteropError> {
    match &options.map {
        Some(wanted) => {
            let attempt = attempt(named(wanted)?, file, scope, options);
            chosen(path, attempt, "as asked".to_owned())
        }
        None => best(path, attempts(file, scope, options), options),
    }
}

fn best(path: &Path, attempts: Vec<Attempt>, options: &ReadOptions) -> Result<Choice, InteropError> {
    let own = |attempt: &&Attempt| attempt.recognized && !attempt.map.requires.is_empty();
    let fitting: Vec<&Attempt> = attempts.iter().filter(own).filter(|a| a.candidate().is_some()).collect();
    let differ = fitting.iter().find(|other| !same(fitting[0], other));
    if let Some(other) = differ {
        let names = [&fitting[0].map.name, &other.map.name];
        return Err(InteropError::refused(
            path,
            format!(
                "the name maps {} ({}) and {} ({}) both fit, and read different encoders",
                names[0], fitting[0].map.about, names[1], other.map.about
            ),
            format!("choose by --map {} or --map {}", names[0], names[1]),
        ));
    }
    let general = |attempt: &&Attempt| attempt.map.requires.is_empty() && attempt.recognized;
    let also = |taken: &str, fitting: &[&Attempt]| {
        let others: Vec<&str> =
            fitting.iter().map(|a| a.map.name.as_str()).filter(|name| *name != taken).collect();
        if others.is_empty() { String::new() } else { format!("; {} would read the same", others.join(", ")) }
    };
    let taken =
        fitting.first().copied().or_else(|| attempts.iter().find(|a| general(a) && a.candidate().is_some()));
    if let Some(taken) = taken {
        let how = if fitting.is_empty() {
            "the first general one that fits".to_owned()
        } else {
            format!("recognized by its names{}", also(&taken.map.name, &fitting))
        };
        let name = taken.map.name.clone();
        let taken = attempts.into_iter().find(|a| a.map.name == name).expect("it is one of them");
        return chosen(path, taken, how);
    }
    // A recognized map is nearer than any other.
    let rank = |attempt: &Attempt| {
        let distance = attempt.faults().map_or(usize::MAX, Faults::distance);
        (distance.saturating_sub(if own(&attempt) { 3 } else { 0 }), !attempt.recognized)
    };
    let nearest = attempts.into_iter().filter(|attempt| attempt.result.is_some()).min_by_key(rank);
    match nearest {
        Some(nearest) => chosen(path, nearest, String::new()),
        None => Err(InteropError::refused(
            path,
            match &options.network {
                Some(network) => format!("no tensor begins with `{network}` in a way that a name map knows"),
                None => "it has no tensors".to_owned(),
            },
            "look at its names by `tarrl import FILE --list`",
        )),
    }
}

/// Whether two maps read the same encoder.
fn same(one: &Attempt, other: &Attempt) -> bool {
    match (one.candidate(), other.candidate()) {
        (Some(a), Some(b)) => {
            a.config == b.config
                && a.prefix == b.prefix
                && a.branch == b.branch
                && (a.inside.is_some() || one.map.normalization.outside == other.map.normalization.outside)
        }
        _ => true,
    }
}

fn chosen(path: &Path, attempt: Attempt, how: String) -> Result<Choice, InteropError> {
    let Attempt { map, result, recognized } = attempt;
    match result {
        Some(Ok(candidate)) => Ok(Choice { map, candidate, how }),
        Some(Err(faults)) => {
            let leftover =
                faults.leftover.first().filter(|_| faults.missing.is_empty() && faults.misfit.is_empty());
            let remedy = match leftover {
                Some(name) => {
                    let start = name.split_once('.').map_or(name.clone(), |(first, _)| format!("{first}."));
                    format!(
                        "if that is no part of the encoder, leave it out by `--ignore {start}`; else write a name map for it"
                    )
                }
                None => "see its names by `tarrl import FILE --list`, and write a name map if its program is not known"
                    .to_owned(),
            };
            let did_you_mean =
                if recognized || how == "as asked" { "" } else { " (did you mean its --map?)" };
            Err(InteropError::refused(
                path,
                format!(
                    "no encoder by the nearest name map, {}{did_you_mean}: {}",
                    map.name,
                    faults.describe()
                ),
                remedy,
            ))
        }
        None => Err(InteropError::refused(
            path,
            format!("no name in it begins as those of the name map {} do", map.name),
            "leave --map and --network out, or see its names by `tarrl import FILE --list`",
        )),
    }
}

/// A map by its name, or the file at a path.
fn named(wanted: &str) -> Result<NameMap, InteropError> {
    let maps = built_in();
    if let Some(map) = maps.iter().find(|map| map.name == wanted) {
        return Ok(map.clone());
    }
    let path = Path::new(wanted);
    if !wanted.ends_with(".toml") {
        let nearest = maps.iter().min_by_key(|map| edits(&map.name, wanted)).expect("there are maps");
        let names: Vec<&str> = maps.iter().map(|map| map.name.as_str()).collect();
        return Err(InteropError::refused(
            path,
            format!("is no name map; did you mean {}?", nearest.name),
            format!("give one of {}, or a file that ends in .toml", names.join(", ")),
        ));
    }
    let unreadable = |source| InteropError::Read { path: path.to_path_buf(), source };
    let mut text = String::new();
    // What is no regular file may have no size and no end.
    let file = File::open(path).map_err(unreadable)?;
    file.take(LARGEST_MAP + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LARGEST_MAP {
        return Err(InteropError::refused(
            path,
            "is too large for a name map",
            "give a name map of some lines",
        ));
    }
    let map = parse(&text)
        .map_err(|cause| InteropError::refused(path, format!("is no name map: {cause}"), "mend it"))?;
    Ok(NameMap { is_own: true, ..map })
}

/// The number of letters to insert, delete or replace between two words.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelled_maps_are_answered_with_the_nearest() {
        let text = named("solo-lern").unwrap_err().to_string();
        assert!(text.contains("did you mean solo-learn?"), "{text}");
        assert!(named("absent.toml").unwrap_err().to_string().contains("cannot read absent.toml"));
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
