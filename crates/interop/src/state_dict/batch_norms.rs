//! Several sets of batch norms in one file: the choice of one.

use std::collections::{BTreeMap, BTreeSet};

use super::tensor_file::FileTensor;

/// What stands between the name of a layer and the number of a set.
const LIST: &str = ".bn_list.";

/// The set that was taken, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    pub(crate) taken: usize,
    pub(crate) of: usize,
}

/// Leaves the set `wanted` of every batch norm, under the name of its layer; by default the set `usual`, or the last of
/// fewer. Where a layer has a set 1 alone beside tensors without a number, these are its set 0.
///
/// # Errors
/// If there is no such set.
pub(crate) fn choose(
    tensors: BTreeMap<String, FileTensor>,
    wanted: Option<usize>,
    usual: usize,
) -> Result<(BTreeMap<String, FileTensor>, Option<Branch>), String> {
    let sets: BTreeSet<usize> = tensors.keys().filter_map(|name| Some(numbered(name)?.1)).collect();
    let Some(&last) = sets.last() else {
        return match wanted {
            None | Some(0) => Ok((tensors, None)),
            Some(set) => {
                Err(format!("it has one set of batch norms, and set {set} is asked for: leave --branch out"))
            }
        };
    };
    let taken = wanted.unwrap_or(usual.min(last));
    if taken > last {
        return Err(format!("it has the sets 0 to {last} of batch norms, and set {taken} is asked for"));
    }
    let layers: BTreeSet<String> = tensors.keys().filter_map(|name| Some(numbered(name)?.0)).collect();
    let mut left = BTreeMap::new();
    for (name, tensor) in tensors {
        let parts = numbered(&name).map(|(layer, set, part)| (layer, set, part.to_owned()));
        match parts {
            Some((layer, set, part)) if set == taken => {
                left.insert(format!("{layer}.{part}"), tensor);
            }
            Some(_) => {}
            None => {
                let of_a_norm = name.rsplit_once('.').is_some_and(|(layer, _)| layers.contains(layer));
                if !of_a_norm || taken == 0 {
                    left.entry(name).or_insert(tensor);
                }
            }
        }
    }
    Ok((left, Some(Branch { taken, of: last + 1 })))
}

/// Leaves the sets 0 and 1 of every batch norm under the numbered names that dual batch norm has here, `bn1.bn_list.0.weight`.
///
/// # Errors
/// If there is one set.
pub(crate) fn both(tensors: &BTreeMap<String, FileTensor>) -> Result<BTreeMap<String, FileTensor>, String> {
    let layers: BTreeSet<String> = tensors.keys().filter_map(|name| Some(numbered(name)?.0)).collect();
    if layers.is_empty() {
        return Err(
            "it has one set of batch norms, and both are asked for: leave --both-branches out".to_owned()
        );
    }
    let mut left = BTreeMap::new();
    for (name, tensor) in tensors {
        let unnumbered = name.rsplit_once('.').filter(|(layer, _)| layers.contains(*layer));
        match (numbered(name), unnumbered) {
            (Some((_, 2.., _)), _) => {}
            (None, Some((layer, part))) => {
                left.entry(format!("{layer}{LIST}0.{part}")).or_insert_with(|| tensor.clone());
            }
            _ => {
                left.insert(name.clone(), tensor.clone());
            }
        }
    }
    Ok(left)
}

/// Layer, set and part of the name of a tensor of a numbered set.
fn numbered(name: &str) -> Option<(String, usize, &str)> {
    let (layer, rest) = name.split_once(LIST)?;
    let (set, part) = rest.split_once('.')?;
    Some((layer.to_owned(), set.parse().ok()?, part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_dict::tensor_file::Element;
    use std::sync::Arc;

    fn file(names: &[&str]) -> BTreeMap<String, FileTensor> {
        let tensor = FileTensor { element: Element::F32, shape: vec![], read: Arc::new(|| Ok(Vec::new())) };
        names.iter().map(|name| (name.to_string(), tensor.clone())).collect()
    }

    fn chosen(names: &[&str], wanted: Option<usize>) -> (Vec<String>, Option<Branch>) {
        let (left, branch) = choose(file(names), wanted, 1).unwrap();
        (left.into_keys().collect(), branch)
    }

    #[test]
    fn one_set_stays_under_the_name_of_its_layer() {
        let dual = ["conv1.weight", "bn1.bn_list.0.weight", "bn1.bn_list.1.weight"];
        let both = Some(Branch { taken: 1, of: 2 });
        assert_eq!(chosen(&dual, None), (vec!["bn1.weight".into(), "conv1.weight".into()], both));
        assert_eq!(chosen(&dual, Some(0)).1, Some(Branch { taken: 0, of: 2 }));
        assert!(choose(file(&dual), Some(2), 1).unwrap_err().contains("sets 0 to 1"));
        // One list of one set has no set 1.
        assert_eq!(chosen(&["bn1.bn_list.0.weight"], None).1, Some(Branch { taken: 0, of: 1 }));
        assert_eq!(chosen(&["bn1.weight"], None), (vec!["bn1.weight".into()], None));
        assert!(choose(file(&["bn1.weight"]), Some(1), 1).unwrap_err().contains("one set"));
    }

    #[test]
    fn both_sets_stay_under_their_numbers_and_a_third_goes() {
        let names = |names: &[&str]| both(&file(names)).map(|left| left.into_keys().collect::<Vec<_>>());
        let three = ["conv1.weight", "bn1.bn_list.0.bias", "bn1.bn_list.1.bias", "bn1.bn_list.2.bias"];
        let kept = ["bn1.bn_list.0.bias", "bn1.bn_list.1.bias", "conv1.weight"];
        assert_eq!(names(&three).unwrap(), kept);
        assert_eq!(names(&["conv1.weight", "bn1.bias", "bn1.bn_list.1.bias"]).unwrap(), kept);
        assert!(names(&["conv1.weight", "bn1.bias"]).unwrap_err().contains("one set"));
    }

    /// Old files of ACL call the first set `bn1` and the second `bn1_adv`, which the name map makes `bn1.bn_list.1`.
    #[test]
    fn tensors_without_a_number_are_the_first_set() {
        let old = ["bn1.weight", "bn1.bn_list.1.weight"];
        for (wanted, of) in [(Some(0), 2), (Some(1), 2)] {
            let (names, branch) = chosen(&old, wanted);
            assert_eq!(names, ["bn1.weight"]);
            assert_eq!(branch.unwrap().of, of);
        }
    }
}
