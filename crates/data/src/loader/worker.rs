//! A loader thread: chooses the images of a batch, samples their transforms and applies them.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, channel};

use ndarray::Array4;
use tarrl_tensor::Key;

use super::batch::{Batch, DeviceViews};
use crate::augment::{Augmenter, DeviceTransforms, Recipe, SampledTransform};
use crate::dataset::Dataset;

/// The key of one view of one image in one epoch: no two ever share it.
///
/// `key` is the one that the loader was given; `index` is the image's place in the dataset.
pub fn view_key(key: Key, (epoch, index, view): (usize, usize, usize)) -> Key {
    key.fold("augment").fold(epoch).fold(index).fold(view)
}

/// The order of the `n` images in one epoch.
pub(super) fn epoch_order(n: usize, epoch: usize, key: Key) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    key.fold("order").fold(epoch).stream().shuffle(&mut order);
    order
}

/// What a thread needs to prepare any batch of the run.
pub(super) struct Worker {
    pub(super) data: Arc<Dataset>,
    pub(super) key: Key,
    pub(super) recipes: Arc<[Recipe]>,
    pub(super) batch: usize,
    pub(super) bytes: bool,
    pub(super) part: (usize, usize),
    pub(super) shuffle: bool,
    pub(super) steps_per_epoch: usize,
}

impl Worker {
    /// Prepares the given steps of the run until the loader is dropped.
    pub(super) fn run(self, steps: impl Iterator<Item = usize>, deliver: SyncSender<Batch>) {
        let (recycle, returned) = channel();
        let mut augmenter = Augmenter::new(self.data.shape());
        let mut order = (usize::MAX, Vec::new());
        for global in steps {
            let (epoch, step) = (global / self.steps_per_epoch, global % self.steps_per_epoch);
            if order.0 != epoch {
                order = (epoch, self.order(epoch));
            }
            let first = step * self.batch;
            let whole = &order.1[first..self.data.len().min(first + self.batch)];
            let (part, parts) = self.part;
            let rows = whole.len() / parts;
            let indices = whole[part * rows..(part + 1) * rows].to_vec();
            let mut views = returned.try_recv().unwrap_or_default();
            self.fill(epoch, &indices, &mut augmenter, &mut views);
            let bytes = self.bytes.then(|| self.device_views(epoch, &indices));
            if deliver.send(Batch { epoch, step, indices, views, bytes, recycle: recycle.clone() }).is_err() {
                return;
            }
        }
    }

    fn order(&self, epoch: usize) -> Vec<usize> {
        if self.shuffle {
            epoch_order(self.data.len(), epoch, self.key)
        } else {
            (0..self.data.len()).collect()
        }
    }

    /// The bytes of the images, and their transforms for a device.
    fn device_views(&self, epoch: usize, indices: &[usize]) -> DeviceViews {
        let shape = self.data.shape();
        let size = shape.0 * shape.1 * shape.2;
        let all = self.data.images.as_slice().expect("Dataset keeps standard layout");
        let images = indices.iter().flat_map(|&index| &all[index * size..][..size]).copied().collect();
        let transforms = |(view, recipe): (usize, &Recipe)| {
            DeviceTransforms::supports(recipe).then(|| {
                let transform = |&index| {
                    SampledTransform::sample(recipe, shape, view_key(self.key, (epoch, index, view)))
                };
                DeviceTransforms::new(&indices.iter().map(transform).collect::<Vec<_>>())
            })
        };
        DeviceViews { shape, images, transforms: self.recipes.iter().enumerate().map(transforms).collect() }
    }

    /// Computes every view that the device does not, into the recycled arrays where they have the right shape.
    fn fill(&self, epoch: usize, indices: &[usize], augmenter: &mut Augmenter, views: &mut Vec<Array4<f32>>) {
        let (h, w, c) = self.data.shape();
        let (shape, size) = ((indices.len(), h, w, c), h * w * c);
        let images = self.data.images.as_slice().expect("Dataset keeps standard layout");
        views.resize_with(self.recipes.len(), Default::default);
        for (view, (recipe, array)) in self.recipes.iter().zip(views.iter_mut()).enumerate() {
            if self.bytes && DeviceTransforms::supports(recipe) {
                continue;
            }
            if array.dim() != shape {
                *array = Array4::zeros(shape);
            }
            let pixels = array.as_slice_mut().expect("a new array has standard layout");
            for (&index, out) in indices.iter().zip(pixels.chunks_exact_mut(size)) {
                let transform =
                    SampledTransform::sample(recipe, (h, w, c), view_key(self.key, (epoch, index, view)));
                augmenter.apply(&images[index * size..][..size], &transform, out);
            }
        }
    }
}
