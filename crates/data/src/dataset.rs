//! Datasets: labeled images in memory, and subsets of them.

use ndarray::{Array4, ArrayView3, Axis};
use tarrl_tensor::Key;

use crate::error::{Result, setting};

/// Labeled images, as bytes, in the order of their file.
///
/// Labels are smaller than `classes.len()` and there is one per image; [`Dataset::new`] checks both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// What to call it in logs and tables.
    pub name: String,
    /// Pixels `(n, h, w, c)`, 0 to 255, c = 1 (gray) or 3 (red, green, blue).
    pub images: Array4<u8>,
    /// Class of each image `(n)`.
    pub labels: Vec<u16>,
    /// Name of each class.
    pub classes: Vec<String>,
}

/// The two parts that a dataset is published in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splits {
    /// Images to learn from.
    pub train: Dataset,
    /// Images to report on, never to choose by.
    pub test: Dataset,
}

impl Dataset {
    /// Puts the parts together.
    ///
    /// # Panics
    /// If images and labels differ in number, there is no image, or a label has no class: readers
    /// report bad files themselves, so here it is a bug.
    #[track_caller]
    pub fn new(
        name: impl Into<String>,
        images: Array4<u8>,
        labels: Vec<u16>,
        classes: Vec<String>,
    ) -> Dataset {
        assert_eq!(images.dim().0, labels.len(), "Dataset::new: images {:?} and labels differ", images.dim());
        assert!(!images.is_empty(), "Dataset::new: images {:?} hold no pixel", images.dim());
        let top = labels.iter().copied().max().unwrap_or(0);
        assert!(usize::from(top) < classes.len(), "Dataset::new: label {top} of {} classes", classes.len());
        Dataset { name: name.into(), images: images.as_standard_layout().into_owned(), labels, classes }
    }

    /// Number of images n.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Height, width and channels of every image.
    pub fn shape(&self) -> (usize, usize, usize) {
        let (_, h, w, c) = self.images.dim();
        (h, w, c)
    }

    /// One image `(h, w, c)`.
    #[track_caller]
    pub fn image(&self, index: usize) -> ArrayView3<'_, u8> {
        self.images.index_axis(Axis(0), index)
    }

    /// Number of images of each class.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        self.labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
        counts
    }

    /// The images at `indices`, in that order; an index may come twice.
    ///
    /// # Panics
    /// If an index is not smaller than n.
    #[track_caller]
    pub fn subset(&self, indices: &[usize]) -> Dataset {
        Dataset {
            name: self.name.clone(),
            images: self.images.select(Axis(0), indices),
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
            classes: self.classes.clone(),
        }
    }

    /// The first `per_class` images of every class, in their present order.
    ///
    /// # Errors
    /// If a class has fewer.
    pub fn first_per_class(&self, per_class: usize) -> Result<Dataset> {
        let mut kept: Vec<usize> = Vec::new();
        for (class, members) in self.members().into_iter().enumerate() {
            self.demand(class, members.len(), per_class)?;
            kept.extend(&members[..per_class]);
        }
        kept.sort_unstable();
        Ok(self.subset(&kept))
    }

    /// `per_class` images of every class sampled without replacement, in their present order.
    ///
    /// # Errors
    /// If a class has fewer.
    pub fn balanced_subset(&self, per_class: usize, key: Key) -> Result<Dataset> {
        Ok(self.subset(&self.balanced_indices(per_class, key)?))
    }

    /// The places of the images of [`balanced_subset`](Self::balanced_subset), rising.
    ///
    /// # Errors
    /// If a class has fewer.
    pub fn balanced_indices(&self, per_class: usize, key: Key) -> Result<Vec<usize>> {
        let mut kept: Vec<usize> = Vec::new();
        for (class, mut members) in self.members().into_iter().enumerate() {
            self.demand(class, members.len(), per_class)?;
            key.fold("balanced").fold(class).stream().shuffle(&mut members);
            kept.extend(&members[..per_class]);
        }
        kept.sort_unstable();
        Ok(kept)
    }

    /// Splits into (the rest, a validation part) with the same mix of classes: of each class, its
    /// share of `fraction` rounded to whole images.
    ///
    /// # Panics
    /// If `fraction` is not inside (0, 1).
    #[track_caller]
    pub fn validation_split(&self, fraction: f64, key: Key) -> (Dataset, Dataset) {
        assert!(
            fraction > 0.0 && fraction < 1.0,
            "validation_split: a fraction inside (0, 1) is needed, not {fraction}"
        );
        let (mut rest, mut held) = (Vec::new(), Vec::new());
        for (class, mut members) in self.members().into_iter().enumerate() {
            key.fold("validation").fold(class).stream().shuffle(&mut members);
            let (out, stay) = members.split_at((members.len() as f64 * fraction).round() as usize);
            held.extend(out);
            rest.extend(stay);
        }
        rest.sort_unstable();
        held.sort_unstable();
        (self.subset(&rest), self.subset(&held))
    }

    /// The images at `indices` as numbers in [0, 1], `(b, h, w, c)`.
    #[track_caller]
    pub fn batch(&self, indices: &[usize]) -> Array4<f32> {
        let (h, w, c) = self.shape();
        let mut out = Array4::zeros((indices.len(), h, w, c));
        for (mut row, &index) in out.outer_iter_mut().zip(indices) {
            row.zip_mut_with(&self.image(index), |o, &byte| *o = f32::from(byte) / 255.0);
        }
        out
    }

    /// Mean and standard deviation of each channel over all pixels, in units of [0, 1].
    pub fn channel_statistics(&self) -> Vec<(f64, f64)> {
        let channel = |c: usize| {
            let mut histogram = [0u64; 256];
            self.images.index_axis(Axis(3), c).iter().for_each(|&byte| histogram[usize::from(byte)] += 1);
            let moment = |power: i32| {
                let weighted =
                    histogram.iter().enumerate().map(|(v, &k)| (v as f64 / 255.0).powi(power) * k as f64);
                weighted.sum::<f64>() / histogram.iter().sum::<u64>() as f64
            };
            let mean = moment(1);
            (mean, (moment(2) - mean * mean).max(0.0).sqrt())
        };
        (0..self.shape().2).map(channel).collect()
    }

    /// The indices of each class.
    fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.classes.len()];
        self.labels.iter().enumerate().for_each(|(i, &label)| members[usize::from(label)].push(i));
        members
    }

    fn demand(&self, class: usize, have: usize, want: usize) -> Result<()> {
        if want > 0 && have >= want {
            return Ok(());
        }
        Err(setting(
            format!("{want} images per class of '{}'", self.name),
            format!("class '{}' has {have}", self.classes[class]),
            format!("ask for 1 to {}", self.counts().into_iter().min().unwrap_or(0)),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Image i is filled with the byte i, so that images can be told apart.
    fn numbered(labels: Vec<u16>, classes: usize) -> Dataset {
        let images = Array4::from_shape_fn((labels.len(), 2, 3, 1), |(i, ..)| i as u8);
        Dataset::new("numbered", images, labels, (0..classes).map(|c| c.to_string()).collect())
    }

    fn ids(d: &Dataset) -> Vec<u8> {
        d.images.outer_iter().map(|image| image[[0, 0, 0]]).collect()
    }

    #[test]
    fn subsets_keep_images_with_their_labels() {
        let d = numbered(vec![0, 1, 2, 1], 3);
        let part = d.subset(&[3, 0, 3]);
        assert_eq!((ids(&part), part.labels.clone()), (vec![3, 0, 3], vec![1, 0, 1]));
        assert_eq!(d.counts(), [1, 2, 1]);
        assert_eq!(d.batch(&[3])[[0, 1, 2, 0]], 3.0 / 255.0);
    }

    #[test]
    fn first_per_class_is_first_in_order() {
        let d = numbered(vec![1, 1, 0, 1, 0, 0], 2);
        assert_eq!(ids(&d.first_per_class(2).unwrap()), [0, 1, 2, 4]);
        let message = d.first_per_class(4).unwrap_err().to_string();
        assert!(message.contains("class '0' has 3") && message.contains("ask for 1 to 3"), "{message}");
    }

    #[test]
    fn balanced_subsets_follow_the_key() {
        let d = numbered((0..200).map(|i| i % 2).collect(), 2);
        let subset = |seed| ids(&d.balanced_subset(10, Key::new(seed)).unwrap());
        assert_eq!(subset(1), subset(1));
        assert_ne!(subset(1), subset(2));
    }

    #[test]
    fn statistics_of_two_known_channels() {
        let images =
            Array4::from_shape_fn((1, 1, 4, 2), |(_, _, x, c)| if c == 0 { 255 * (x % 2) as u8 } else { 51 });
        let d = Dataset::new("two", images, vec![0], vec!["one".into()]);
        let found = d.channel_statistics();
        let want = [(0.5, 0.5), (0.2, 0.0)];
        // The square root of a canceled difference of order 1e-17 is of order 1e-8.
        assert!(
            found.iter().zip(want).all(|(f, w)| (f.0 - w.0).abs() < 1e-7 && (f.1 - w.1).abs() < 1e-7),
            "{found:?}"
        );
    }

    #[test]
    #[should_panic(expected = "label 2 of 2 classes")]
    fn a_label_without_class_is_a_bug() {
        numbered(vec![2], 2);
    }

    proptest! {
        #[test]
        fn a_validation_split_is_a_stratified_partition(
            labels in proptest::collection::vec(0u16..4, 1..200),
            fraction in 0.01..0.99,
            seed: u64,
        ) {
            let d = numbered(labels, 4);
            let (rest, held) = d.validation_split(fraction, Key::new(seed));
            let mut all = [ids(&rest), ids(&held)].concat();
            all.sort_unstable();
            prop_assert_eq!(all, ids(&d));
            for (total, part) in d.counts().into_iter().zip(held.counts()) {
                prop_assert!((part as f64 - fraction * total as f64).abs() <= 0.5 + 1e-9);
            }
        }

        #[test]
        fn balanced_means_equal_counts(seed: u64, per_class in 1usize..5) {
            let d = numbered((0..40).map(|i| i * i % 3 % 2).collect(), 2);
            let part = d.balanced_subset(per_class, Key::new(seed)).unwrap();
            prop_assert_eq!(part.counts(), vec![per_class; 2]);
        }
    }
}
