//! Downstream tasks on the same images: the classes, groups of them, one against the rest.

use serde::{Deserialize, Serialize};
use tarrl_tensor::Key;

use crate::dataset::Dataset;
use crate::error::{Result, setting};

/// What a head is asked to predict: a label for each image of one [`Dataset`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// What to call it in tables.
    pub name: String,
    /// Label of each image `(n)`.
    pub labels: Vec<u16>,
    /// Name of each label.
    pub classes: Vec<String>,
}

/// A map from the classes of a dataset to fewer groups; gives the same task on every split.
///
/// The bound on the adversarial loss names no task, so one encoder is judged on many of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grouping {
    /// What to call it in tables.
    pub name: String,
    /// Name of each group.
    pub groups: Vec<String>,
    /// Group of each class, in the order of the classes.
    pub of: Vec<u16>,
}

impl Task {
    /// The task of telling the classes apart as they are.
    pub fn classes(data: &Dataset) -> Task {
        Task { name: "classes".into(), labels: data.labels.clone(), classes: data.classes.clone() }
    }
}

impl Grouping {
    /// Deals the classes to `groups` groups at random, their sizes equal up to one.
    ///
    /// # Panics
    /// If `groups` is not in `2..=classes`.
    #[track_caller]
    pub fn random(classes: usize, groups: usize, key: Key) -> Grouping {
        assert!((2..=classes).contains(&groups), "Grouping::random: {groups} groups of {classes} classes");
        let mut of: Vec<u16> = (0..classes).map(|class| (class % groups) as u16).collect();
        key.fold("grouping").stream().shuffle(&mut of);
        let names = (0..groups).map(|group| format!("group {group}")).collect();
        Grouping { name: format!("random {groups} groups"), groups: names, of }
    }

    /// One class (label 1) against all others (label 0).
    ///
    /// # Panics
    /// If `class` is not one of `classes`.
    #[track_caller]
    pub fn one_vs_rest(classes: &[String], class: usize) -> Grouping {
        assert!(class < classes.len(), "Grouping::one_vs_rest: class {class} of {}", classes.len());
        Grouping {
            name: format!("{} against the rest", classes[class]),
            groups: vec!["rest".into(), classes[class].clone()],
            of: (0..classes.len()).map(|c| u16::from(c == class)).collect(),
        }
    }

    /// The same grouping under another name.
    pub fn named(self, name: impl Into<String>) -> Grouping {
        Grouping { name: name.into(), ..self }
    }

    /// Checks that each of `classes` classes has a group, that the groups exist and none is empty.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub fn check(&self, classes: usize) -> Result<()> {
        let fault = if self.of.len() != classes {
            format!("it maps {} classes, the dataset has {classes}", self.of.len())
        } else if let Some(bad) = self.of.iter().find(|&&g| usize::from(g) >= self.groups.len()) {
            format!("group {bad} does not exist, there are {}", self.groups.len())
        } else if let Some(empty) = (0..self.groups.len()).find(|&g| !self.of.contains(&(g as u16))) {
            format!("group '{}' has no class", self.groups[empty])
        } else {
            return Ok(());
        };
        Err(setting(
            format!("grouping '{}'", self.name),
            fault,
            "give one existing group number per class in `of`",
        ))
    }

    /// The task of telling the groups apart on the images of `data`.
    ///
    /// # Panics
    /// If the grouping does not fit the classes of `data` (see [`Grouping::check`]).
    #[track_caller]
    pub fn apply(&self, data: &Dataset) -> Task {
        if let Err(fault) = self.check(data.classes.len()) {
            panic!("Grouping::apply on '{}': {fault}", data.name);
        }
        Task {
            name: self.name.clone(),
            labels: data.labels.iter().map(|&label| self.of[usize::from(label)]).collect(),
            classes: self.groups.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array4;
    use proptest::prelude::*;

    fn three() -> Dataset {
        let classes = ["cat", "dog", "car"].map(String::from).to_vec();
        Dataset::new("three", Array4::zeros((4, 1, 1, 1)), vec![2, 0, 1, 0], classes)
    }

    #[test]
    fn a_grouping_relabels_by_its_table() {
        let g = Grouping {
            name: "kind".into(),
            groups: vec!["animal".into(), "machine".into()],
            of: vec![0, 0, 1],
        };
        let task = g.apply(&three());
        assert_eq!((task.labels, task.classes.len()), (vec![1, 0, 0, 0], 2));
        assert_eq!(Task::classes(&three()).labels, [2, 0, 1, 0]);
    }

    #[test]
    fn one_class_against_the_rest() {
        let d = three();
        let task = Grouping::one_vs_rest(&d.classes, 0).apply(&d);
        assert_eq!((task.name.as_str(), task.labels), ("cat against the rest", vec![0, 1, 0, 1]));
    }

    #[test]
    fn tables_that_do_not_fit_are_refused() {
        let table = |of: &[u16], groups: usize| Grouping {
            name: "t".into(),
            groups: (0..groups).map(|g| g.to_string()).collect(),
            of: of.to_vec(),
        };
        for (bad, cause) in [
            (table(&[0, 1], 2), "maps 2 classes"),
            (table(&[0, 1, 2], 2), "group 2 does not exist"),
            (table(&[0, 0, 1], 3), "group '2' has no class"),
        ] {
            let message = bad.check(3).unwrap_err().to_string();
            assert!(message.contains(cause), "{message}");
        }
    }

    #[test]
    fn random_groupings_are_equally_likely() {
        let mut counts = std::collections::HashMap::new();
        for seed in 0..6_000u64 {
            *counts.entry(Grouping::random(4, 2, Key::new(seed)).of).or_insert(0) += 1;
        }
        // 6 deals of 2+2 classes; standard error √(6000·1/6·5/6) = 29, five of them.
        assert!(counts.len() == 6 && counts.values().all(|&c: &i32| (c - 1000).abs() < 145), "{counts:?}");
    }

    proptest! {
        #[test]
        fn random_groups_are_even_and_keyed(classes in 2usize..30, seed: u64, extra in 0usize..28) {
            let groups = 2 + extra % (classes - 1);
            let g = Grouping::random(classes, groups, Key::new(seed));
            prop_assert!(g.check(classes).is_ok());
            let sizes: Vec<usize> = (0..groups).map(|k| g.of.iter().filter(|&&o| usize::from(o) == k).count()).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            prop_assert_eq!(g, Grouping::random(classes, groups, Key::new(seed)));
        }
    }
}
