//! The memory of MoCo.

use crate::memory::{self, Memory};
use crate::rows;
use tarrl_tensor::{Array, DType, Device, Key, Random, Tensor};

/// The last K keys as unit rows, first in, first out. Whoever trains holds it, beside the networks.
#[derive(Clone, Debug)]
pub struct Queue {
    /// `(K, d)`
    rows: Tensor,
    /// Where the next key goes.
    next: usize,
}

impl Queue {
    /// `[K, d]` random directions, F32: normalized Gaussian rows drawn from `key`.
    ///
    /// # Panics
    /// If K or d is zero.
    #[track_caller]
    pub fn new(device: &Device, key: Key, [length, dim]: [usize; 2]) -> Self {
        assert!(length > 0 && dim > 0, "Queue::new: {length} rows of dimension {dim}");
        let keys: Vec<Key> = (0..length).map(|i| key.fold(i)).collect();
        let rows = Tensor::random(device, Random::Normal, &keys, &[dim], DType::F32);
        Queue { rows: rows::unit(&rows), next: 0 }
    }

    /// `(K, d)`: the keys, unit rows and constants.
    pub fn rows(&self) -> &Tensor {
        &self.rows
    }

    /// The number of keys K.
    pub fn len(&self) -> usize {
        self.rows.shape()[0]
    }

    /// Whether it holds no key; never.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts the keys `(n, d)` of a step, normalized and detached, in the place of the n oldest. K need not be a
    /// multiple of n.
    ///
    /// # Panics
    /// If the dimension differs, or there are more keys than the queue is long: a step would replace its own.
    #[track_caller]
    pub fn push(&mut self, keys: &Tensor) {
        let (length, n) = (self.len(), keys.shape()[0]);
        assert!(
            keys.shape().rank() == 2 && keys.shape()[1] == self.rows.shape()[1] && n <= length,
            "Queue::push: keys {:?} into {:?}",
            keys.shape(),
            self.rows.shape()
        );
        let keys = rows::unit(&keys.detach());
        let all = Tensor::concat(&[&self.rows, &keys], 0);
        // Row r of the result: new key number (r − next) mod K if there is one, else as it was.
        let source = |row: usize| match (row + length - self.next) % length {
            new if new < n => length + new,
            _ => row,
        };
        let index: Vec<u32> = (0..length).map(|row| source(row) as u32).collect();
        self.rows = all.gather(0, &Array::new(all.device(), [length], &index));
        self.next = (self.next + n) % length;
    }
}

/// Names: `rows`, `next`.
impl Memory for Queue {
    fn state(&self) -> Vec<(&'static str, Tensor)> {
        let next = Tensor::new(self.rows.device(), [], &[self.next as u32]);
        vec![("rows", self.rows.clone()), ("next", next)]
    }

    fn restore(&mut self, state: &dyn Fn(&str) -> Option<Tensor>) -> Result<(), String> {
        let found = memory::find(self, state)?;
        let next = found[1].item() as usize;
        if next >= self.len() {
            return Err(format!("next is {next}, beyond a queue of {}", self.len()));
        }
        *self = Queue { rows: found[0].clone(), next };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tarrl_tensor::cpu;

    fn numbered(values: &[f32]) -> Tensor {
        // On the unit circle, so that normalizing changes nothing.
        let flat: Vec<f32> = values.iter().flat_map(|v| [v.cos(), v.sin()]).collect();
        Tensor::new(&cpu(), [values.len(), 2], &flat)
    }

    #[test]
    fn it_starts_with_directions_that_the_seed_decides() {
        let of = |seed| Queue::new(&cpu(), Key::new(seed), [50, 3]);
        let lengths = of(1).rows().norm(1).to_vec::<f32>();
        assert!(lengths.iter().all(|l| (l - 1.0).abs() < 1e-6), "{lengths:?}");
        assert_eq!(of(1).rows().to_vec::<f32>(), of(1).rows().to_vec::<f32>());
        assert_ne!(of(1).rows().to_vec::<f32>(), of(2).rows().to_vec::<f32>());
    }

    #[test]
    fn keys_are_normalized_constants() {
        let mut queue = Queue::new(&cpu(), Key::new(1), [2, 2]);
        queue.push(&Tensor::new(&cpu(), [1, 2], &[3.0f32, 4.0]).requires_grad());
        assert_eq!(queue.rows().slice(0, 0, 1).to_vec::<f32>(), [0.6, 0.8]);
        assert!(!queue.rows().tracks_grad());
    }

    #[test]
    #[should_panic(expected = "keys (3, 2) into (2, 2)")]
    fn a_batch_longer_than_the_queue_is_refused() {
        Queue::new(&cpu(), Key::new(1), [2, 2]).push(&numbered(&[0.1, 0.2, 0.3]));
    }

    proptest! {
        /// After steps of any sizes the queue holds the last K keys, whatever K.
        #[test]
        fn first_in_first_out(length in 1usize..9, sizes in proptest::collection::vec(1usize..9, 1..9)) {
            let mut queue = Queue::new(&cpu(), Key::new(1), [length, 2]);
            let mut all = Vec::new();
            for n in sizes.into_iter().map(|n| n.min(length)) {
                let keys: Vec<f32> = (0..n).map(|i| (all.len() + i) as f32).collect();
                queue.push(&numbered(&keys));
                all.extend(keys);
            }
            let held = queue.rows().to_vec::<f32>();
            for &key in all.iter().rev().take(length) {
                prop_assert!(held.chunks(2).any(|row| (row[0] - key.cos()).abs() + (row[1] - key.sin()).abs() < 1e-6));
            }
        }

        /// A queue that was stored and restored goes on as if it had never stopped.
        #[test]
        fn restored_it_goes_on(steps in 0usize..5) {
            let key = |step: usize| numbered(&[step as f32, 0.5 + step as f32]);
            let mut queue = Queue::new(&cpu(), Key::new(1), [5, 2]);
            (0..steps).for_each(|step| queue.push(&key(step)));
            let stored = queue.state();
            let mut other = Queue::new(&cpu(), Key::new(9), [5, 2]);
            let get = |name: &str| stored.iter().find(|(n, _)| *n == name).map(|(_, t)| t.clone());
            other.restore(&get).unwrap();
            queue.push(&key(7));
            other.push(&key(7));
            prop_assert_eq!(queue.rows().to_vec::<f32>(), other.rows().to_vec::<f32>());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let mut queue = Queue::new(&cpu(), Key::new(1), [5, 2]);
        assert!(queue.restore(&|_| None).unwrap_err().contains("rows is missing"));
        let other = Queue::new(&cpu(), Key::new(1), [4, 2]).state();
        let get = |name: &str| other.iter().find(|(n, _)| *n == name).map(|(_, t)| t.clone());
        assert!(queue.restore(&get).unwrap_err().contains("rows has shape (4, 2), not (5, 2)"));
        let stored = queue.state();
        let far = |name: &str| match name {
            "next" => Some(Tensor::new(&cpu(), [], &[5u32])),
            _ => Some(stored[0].1.clone()),
        };
        assert!(queue.restore(&far).unwrap_err().contains("next is 5"));
    }
}
