//! One thread of the loader: which images a batch holds and what is done to them.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, channel};

use ndarray::Array4;
use tarrl_tensor::Key;

use super::{Batch, Raw};
use crate::augment::{Brushes, Draw, Painter, Recipe};
use crate::dataset::Dataset;

/// The key of one view of one image in one epoch: no two ever share it.
///
/// `key` is the one that the loader was given; `index` is the image's place in the dataset.
pub fn view_key(key: Key, (epoch, index, view): (usize, usize, usize)) -> Key {
    key.fold("augment").fold(epoch).fold(index).fold(view)
}

/// The order of the `n` images in one epoch.
pub fn epoch_order(n: usize, epoch: usize, key: Key) -> Vec<usize> {
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
    pub(super) shuffle: bool,
    pub(super) steps_per_epoch: usize,
}

impl Worker {
    /// Prepares the given steps of the run until nobody wants them any more.
    pub(super) fn run(self, steps: impl Iterator<Item = usize>, deliver: SyncSender<Batch>) {
        let (home, returned) = channel();
        let mut painter = Painter::new(self.data.shape());
        let mut order = (usize::MAX, Vec::new());
        for global in steps {
            let (epoch, step) = (global / self.steps_per_epoch, global % self.steps_per_epoch);
            if order.0 != epoch {
                order = (epoch, self.order(epoch));
            }
            let first = step * self.batch;
            let indices = order.1[first..self.data.len().min(first + self.batch)].to_vec();
            let mut views = returned.try_recv().unwrap_or_default();
            self.fill(epoch, &indices, &mut painter, &mut views);
            let raw = self.bytes.then(|| self.raw(epoch, &indices));
            if deliver.send(Batch { epoch, step, indices, views, raw, home: home.clone() }).is_err() {
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

    /// The bytes of the images, and what a device is to do with them.
    fn raw(&self, epoch: usize, indices: &[usize]) -> Raw {
        let shape = self.data.shape();
        let size = shape.0 * shape.1 * shape.2;
        let all = self.data.images.as_slice().expect("Dataset keeps standard layout");
        let images = indices.iter().flat_map(|&index| &all[index * size..][..size]).copied().collect();
        let brushes = |(view, recipe): (usize, &Recipe)| {
            Brushes::suit(recipe).then(|| {
                let draw = |&index| Draw::new(recipe, shape, view_key(self.key, (epoch, index, view)));
                Brushes::new(&indices.iter().map(draw).collect::<Vec<_>>())
            })
        };
        Raw { shape, images, brushes: self.recipes.iter().enumerate().map(brushes).collect() }
    }

    /// Paints every view of the images that no device paints, into the arrays at hand where they have the right shape.
    fn fill(&self, epoch: usize, indices: &[usize], painter: &mut Painter, views: &mut Vec<Array4<f32>>) {
        let (h, w, c) = self.data.shape();
        let (shape, size) = ((indices.len(), h, w, c), h * w * c);
        let images = self.data.images.as_slice().expect("Dataset keeps standard layout");
        views.resize_with(self.recipes.len(), Default::default);
        for (view, (recipe, array)) in self.recipes.iter().zip(views.iter_mut()).enumerate() {
            if self.bytes && Brushes::suit(recipe) {
                continue;
            }
            if array.dim() != shape {
                *array = Array4::zeros(shape);
            }
            let pixels = array.as_slice_mut().expect("a new array has standard layout");
            for (&index, out) in indices.iter().zip(pixels.chunks_exact_mut(size)) {
                let draw = Draw::new(recipe, (h, w, c), view_key(self.key, (epoch, index, view)));
                painter.paint(&images[index * size..][..size], &draw, out);
            }
        }
    }
}
