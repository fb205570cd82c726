//! The loader: batches of augmented views, prepared on other threads.

mod batch;
mod worker;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use serde::{Deserialize, Serialize};
use tarrl_tensor::Key;

use crate::augment::{Recipe, View};
use crate::dataset::Dataset;
use crate::error::{Result, setting};

pub use batch::Batch;
use worker::Worker;
pub use worker::view_key;

/// What a [`Loader`] delivers. Only `threads`, `prefetch` and `bytes` leave the batches as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoaderConfig {
    /// Images per batch.
    pub batch: usize,
    /// The views of every image.
    pub views: Vec<View>,
    /// Whether each epoch has its own random order.
    pub shuffle: bool,
    /// Whether the last batch of an epoch is left out when it is smaller than the others.
    pub drop_last: bool,
    /// Number of epochs; the iterator ends after them.
    pub epochs: usize,
    /// The epoch and the step in it to begin with, to go on where a run was interrupted.
    pub start: (usize, usize),
    /// Threads that prepare batches, at least one.
    pub threads: usize,
    /// Batches that each thread prepares ahead, at least one.
    pub prefetch: usize,
    /// Whether batches carry bytes and sampled transforms for a device that augments, wherever a recipe allows it.
    #[serde(skip)]
    pub bytes: bool,
    /// Which of so many equal parts of every batch is delivered, counted from 0: the rows of a shard.
    #[serde(skip)]
    pub part: (usize, usize),
}

impl Default for LoaderConfig {
    fn default() -> Self {
        LoaderConfig {
            batch: 256,
            views: vec![View::Strong, View::Strong],
            shuffle: true,
            drop_last: true,
            epochs: 1,
            start: (0, 0),
            threads: 1,
            prefetch: 2,
            bytes: false,
            part: (0, 1),
        }
    }
}

/// An iterator over the batches of some epochs.
///
/// Which images a batch holds and what is done to them depends only on the dataset, the key, and the
/// configuration, not on threads or timing. Batches come in order. Dropping the loader early stops
/// its threads.
#[derive(Debug)]
pub struct Loader {
    /// One queue per thread; step k of the whole run comes from queue k mod threads.
    queues: Vec<Receiver<Batch>>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
    end: usize,
    steps_per_epoch: usize,
}

impl Loader {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the configuration asks for no batch at all, starts after the end, has a recipe that does not
    /// suit the images, or no thread can be started.
    pub fn new(data: Arc<Dataset>, key: Key, config: &LoaderConfig) -> Result<Loader> {
        let steps_per_epoch = config.check(&data)?;
        let (epoch, step) = config.start;
        let (next, end) = (epoch * steps_per_epoch + step, config.epochs * steps_per_epoch);
        let recipes: Arc<[Recipe]> = config.views.iter().map(|view| view.recipe(data.shape())).collect();
        let (mut queues, mut threads) = (Vec::new(), Vec::new());
        for thread in 0..config.threads {
            let (sender, receiver) = sync_channel(config.prefetch);
            // Step `s` belongs to thread `s mod threads`; this is the thread's first from `next` on.
            let first = next + (thread + config.threads - next % config.threads) % config.threads;
            let worker = Worker {
                data: data.clone(),
                key,
                recipes: recipes.clone(),
                batch: config.batch,
                bytes: config.bytes,
                part: config.part,
                shuffle: config.shuffle,
                steps_per_epoch,
            };
            let (stride, name) = (config.threads, format!("loader {thread}"));
            let handle = Builder::new()
                .name(name)
                .spawn(move || worker.run((first..end).step_by(stride), sender))
                .map_err(|e| setting("threads", e.to_string(), "use fewer threads"))?;
            queues.push(receiver);
            threads.push(handle);
        }
        Ok(Loader { queues, threads, next, end, steps_per_epoch })
    }

    /// Batches in one whole epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.steps_per_epoch
    }
}

impl Iterator for Loader {
    type Item = Batch;

    /// The next batch, as soon as it is ready.
    ///
    /// # Panics
    /// With the panic of the thread that should have prepared it.
    fn next(&mut self) -> Option<Batch> {
        if self.next >= self.end {
            return None;
        }
        let thread = self.next % self.queues.len();
        match self.queues[thread].recv() {
            Ok(batch) => {
                self.next += 1;
                Some(batch)
            }
            Err(_) => {
                self.next = self.end;
                let failed = self.threads.swap_remove(thread).join();
                resume_unwind(failed.expect_err("a thread ends early only by a panic"))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.next, Some(self.end - self.next))
    }
}

impl ExactSizeIterator for Loader {}

impl Drop for Loader {
    fn drop(&mut self) {
        // Threads stop at their next delivery once nobody receives.
        self.queues.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl LoaderConfig {
    /// Batches per epoch, after checking everything.
    fn check(&self, data: &Dataset) -> Result<usize> {
        let n = data.len();
        let fault = |name: String, cause: String, remedy: &str| -> Result<usize> {
            Err(setting(name, cause, remedy.to_owned()))
        };
        if self.threads == 0 || self.prefetch == 0 {
            let name = format!("threads = {}, prefetch = {}", self.threads, self.prefetch);
            return fault(name, "at least one thread has to prepare the batches".into(), "give at least 1");
        }
        if self.views.is_empty() {
            return fault(
                "views = []".into(),
                "there is nothing to prepare".into(),
                "give at least one view",
            );
        }
        if self.batch == 0 || (self.drop_last && self.batch > n) {
            let cause = format!("'{}' has {n} images, which makes no whole batch", data.name);
            return fault(
                format!("batch = {}", self.batch),
                cause,
                "choose 1 to that number, or drop_last = false",
            );
        }
        let (part, parts) = self.part;
        if part >= parts || !self.batch.is_multiple_of(parts) || (parts > 1 && !self.drop_last) {
            let cause = format!("a batch of {} has no such equal part", self.batch);
            return fault(
                format!("part = ({part}, {parts})"),
                cause,
                "choose parts that divide batch, and drop_last = true",
            );
        }
        for view in &self.views {
            view.recipe(data.shape()).check(data.shape())?;
        }
        let steps = if self.drop_last { n / self.batch } else { n.div_ceil(self.batch) };
        let (epoch, step) = self.start;
        if step > steps || epoch * steps + step > self.epochs * steps {
            let cause = format!("there are {} epochs of {steps} steps", self.epochs);
            return fault(format!("start = ({epoch}, {step})"), cause, "start inside the run");
        }
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::worker::epoch_order;
    use super::*;
    use crate::augment::{Augmenter, SampledTransform};
    use ndarray::Array4;
    use std::time::{Duration, Instant};

    fn data(n: usize) -> Arc<Dataset> {
        let mut stream = Key::new(9).stream();
        let images = Array4::from_shape_simple_fn((n, 8, 8, 1), || stream.below(256) as u8);
        Arc::new(Dataset::new("noise", images, vec![0; n], vec!["all".into()]))
    }

    fn config(threads: usize) -> LoaderConfig {
        let views = vec![View::Strong, View::Weak, View::Clean];
        LoaderConfig { batch: 4, views, epochs: 3, threads, drop_last: false, ..LoaderConfig::default() }
    }

    type Content = (usize, usize, Vec<usize>, Vec<Array4<f32>>);

    fn all(config: &LoaderConfig) -> Vec<Content> {
        let loader = Loader::new(data(22), Key::new(1), config).unwrap();
        loader.map(|mut b| (b.epoch, b.step, b.indices.clone(), std::mem::take(&mut b.views))).collect()
    }

    #[test]
    fn the_same_batches_for_any_number_of_threads() {
        let one = all(&config(1));
        assert_eq!(one.len(), 18);
        for threads in [2, 3, 7] {
            assert_eq!(one, all(&LoaderConfig { prefetch: threads, ..config(threads) }));
        }
    }

    #[test]
    fn parts_of_a_batch_are_the_rows_of_the_whole() {
        let whole = all(&LoaderConfig { drop_last: true, ..config(1) });
        let parts = [0, 1].map(|part| all(&LoaderConfig { drop_last: true, part: (part, 2), ..config(2) }));
        for (k, (epoch, step, indices, views)) in whole.iter().enumerate() {
            for (part, batches) in parts.iter().enumerate() {
                assert_eq!((batches[k].0, batches[k].1), (*epoch, *step));
                assert_eq!(batches[k].2, indices[2 * part..2 * part + 2]);
                for (own, all) in batches[k].3.iter().zip(views) {
                    assert_eq!(own, all.slice_axis(ndarray::Axis(0), (2 * part..2 * part + 2).into()));
                }
            }
        }
    }

    #[test]
    fn an_epoch_holds_every_image_once_in_its_own_order() {
        let batches = all(&config(2));
        let order = |epoch| -> Vec<usize> {
            batches.iter().filter(|b| b.0 == epoch).flat_map(|b| b.2.iter().copied()).collect()
        };
        assert_ne!(order(0), order(1));
        assert_eq!(order(1), epoch_order(22, 1, Key::new(1)));
        let mut sorted = order(2);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..22).collect::<Vec<_>>());
        let plain = all(&LoaderConfig { shuffle: false, ..config(2) });
        assert_eq!(plain[1].2, [4, 5, 6, 7]);
        assert_eq!(plain[5].2, [20, 21]);
    }

    #[test]
    fn the_last_batch_can_be_dropped() {
        let dropped = all(&LoaderConfig { drop_last: true, ..config(2) });
        assert_eq!(dropped.len(), 15);
        assert!(dropped.iter().all(|b| b.2.len() == 4 && b.3[0].dim() == (4, 8, 8, 1)));
    }

    #[test]
    fn a_resumed_run_goes_on_with_the_same_batches() {
        let whole = all(&config(1));
        for (start, from) in [((0, 0), 0), ((1, 2), 8), ((2, 6), 18), ((3, 0), 18)] {
            for threads in [1, 3] {
                assert_eq!(all(&LoaderConfig { start, ..config(threads) }), whole[from..]);
            }
        }
    }

    #[test]
    fn views_are_what_their_keys_say() {
        let batches = all(&config(2));
        let (epoch, _, indices, views) = &batches[7];
        let data = data(22);
        assert_eq!(views[2], data.batch(indices));
        let recipe = View::Strong.recipe((8, 8, 1));
        let transform =
            SampledTransform::sample(&recipe, (8, 8, 1), view_key(Key::new(1), (*epoch, indices[3], 0)));
        let mut out = vec![0.0; 64];
        Augmenter::new((8, 8, 1)).apply(data.image(indices[3]).as_slice().unwrap(), &transform, &mut out);
        assert_eq!(views[0].outer_iter().nth(3).unwrap().as_slice().unwrap(), out);
    }

    #[test]
    fn no_two_views_share_a_key() {
        let triples = (0..4).flat_map(|e| (0..50).flat_map(move |i| (0..3).map(move |v| (e, i, v))));
        let keys: std::collections::HashSet<Key> = triples.map(|t| view_key(Key::new(3), t)).collect();
        assert_eq!(keys.len(), 4 * 50 * 3);
    }

    #[test]
    fn arrays_come_back_and_memory_stays_bounded() {
        let config = LoaderConfig { epochs: 50, drop_last: true, ..config(1) };
        let loader = Loader::new(data(22), Key::new(1), &config).unwrap();
        let places: std::collections::HashSet<usize> = loader.map(|b| b.views[0].as_ptr() as usize).collect();
        // Two wait in the queue, one is being delivered, one computed, one read by this loop.
        assert!(places.len() <= 5, "{} different arrays", places.len());
    }

    #[test]
    fn dropping_early_ends_the_threads() {
        let began = Instant::now();
        let config = LoaderConfig { epochs: 1_000_000, ..config(3) };
        let mut loader = Loader::new(data(22), Key::new(1), &config).unwrap();
        let kept = loader.next().unwrap();
        drop(loader);
        assert_eq!(kept.indices.len(), 4);
        assert!(began.elapsed() < Duration::from_secs(20), "the threads did not stop");
    }

    #[test]
    fn impossible_settings_are_named() {
        let refuse = |change: fn(&mut LoaderConfig)| {
            let mut config = config(1);
            change(&mut config);
            Loader::new(data(22), Key::new(1), &config).expect_err("must be refused").to_string()
        };
        for (message, key) in [
            (refuse(|c| c.threads = 0), "threads = 0"),
            (refuse(|c| c.views.clear()), "views = []"),
            (refuse(|c| c.batch = 0), "batch = 0"),
            (refuse(|c| (c.batch, c.drop_last) = (23, true)), "batch = 23: 'noise' has 22 images"),
            (refuse(|c| (c.part, c.drop_last) = ((0, 3), true)), "part = (0, 3): a batch of 4"),
            (refuse(|c| c.start = (3, 1)), "start = (3, 1): there are 3 epochs of 6 steps"),
            (refuse(|c| c.start = (0, 7)), "start = (0, 7)"),
            (
                refuse(|c| c.views = vec![View::Custom(Recipe { flip: 2.0, ..Recipe::default() })]),
                "flip = 2.0",
            ),
        ] {
            assert!(message.contains(key), "{message}");
        }
    }
}
