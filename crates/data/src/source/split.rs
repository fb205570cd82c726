//! One split of a source.

use super::part::Part;
use crate::error::Result;

/// Images that belong together, under a name.
#[derive(Clone, Debug)]
pub(super) struct Split {
    pub(super) name: String,
    pub(super) part: Part,
}

/// The classes of a source with these splits: their names, or as many numbers as the largest label says.
pub(super) fn classes(splits: &[Split]) -> Result<Vec<String>> {
    if let Some(named) = splits.iter().map(|split| split.part.class_names()).find_map(Result::transpose) {
        return named;
    }
    let mut classes = 0;
    for split in splits {
        if let Some(top) = split.part.labels()?.iter().max() {
            classes = classes.max(usize::from(*top) + 1);
        }
    }
    if classes == 0 {
        return Ok(vec!["unlabeled".to_owned()]);
    }
    Ok((0..classes).map(|class| class.to_string()).collect())
}
