//! The queue of negative keys of MoCo v2.

use crate::error::StateError;
use crate::rows;
use crate::state::{LossState, find};
use tarrl_tensor::{Array, DType, Device, Key, Random, Tensor};

/// The last K keys as unit rows, first in, first out.
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

    /// Always false: a queue holds at least one key.
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

/// Tensors: `rows`, `next`.
impl LossState for Queue {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn tensors(&self) -> Vec<(&'static str, Tensor)> {
        let next = Tensor::new(self.rows.device(), [], &[self.next as u32]);
        vec![("rows", self.rows.clone()), ("next", next)]
    }

    fn restore(&mut self, stored: &dyn Fn(&str) -> Option<Tensor>) -> Result<(), StateError> {
        let found = find(self, stored)?;
        let next = found[1].item() as usize;
        if next >= self.len() {
            return Err(StateError::OutOfRange { next, length: self.len() });
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
    fn initial_rows_are_unit_and_determined_by_the_key() {
        let of = |seed| Queue::new(&cpu(), Key::new(seed), [50, 3]);
        let lengths = of(1).rows().norm(1).to_vec::<f32>();
        assert!(lengths.iter().all(|l| (l - 1.0).abs() < 1e-6), "{lengths:?}");
        assert_eq!(of(1).rows().to_vec::<f32>(), of(1).rows().to_vec::<f32>());
        assert_ne!(of(1).rows().to_vec::<f32>(), of(2).rows().to_vec::<f32>());
    }

    #[test]
    fn pushed_keys_are_normalized_and_detached() {
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
        fn queue_holds_the_last_k_keys(length in 1usize..9, sizes in proptest::collection::vec(1usize..9, 1..9)) {
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
        fn restored_queue_continues_identically(steps in 0usize..5) {
            let key = |step: usize| numbered(&[step as f32, 0.5 + step as f32]);
            let mut queue = Queue::new(&cpu(), Key::new(1), [5, 2]);
            (0..steps).for_each(|step| queue.push(&key(step)));
            let stored = queue.tensors();
            let mut other = Queue::new(&cpu(), Key::new(9), [5, 2]);
            let get = |name: &str| stored.iter().find(|(n, _)| *n == name).map(|(_, t)| t.clone());
            other.restore(&get).unwrap();
            queue.push(&key(7));
            other.push(&key(7));
            prop_assert_eq!(queue.rows().to_vec::<f32>(), other.rows().to_vec::<f32>());
        }
    }

    #[test]
    fn restore_names_the_tensor_that_does_not_fit() {
        let mut queue = Queue::new(&cpu(), Key::new(1), [5, 2]);
        assert!(queue.restore(&|_| None).unwrap_err().to_string().contains("rows is missing"));
        let other = Queue::new(&cpu(), Key::new(1), [4, 2]).tensors();
        let get = |name: &str| other.iter().find(|(n, _)| *n == name).map(|(_, t)| t.clone());
        assert!(queue.restore(&get).unwrap_err().to_string().contains("rows has shape (4, 2), not (5, 2)"));
        let stored = queue.tensors();
        let far = |name: &str| match name {
            "next" => Some(Tensor::new(&cpu(), [], &[5u32])),
            _ => Some(stored[0].1.clone()),
        };
        assert!(queue.restore(&far).unwrap_err().to_string().contains("next is 5"));
    }
}
