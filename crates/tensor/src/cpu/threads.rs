//! Worker threads of a device, and how work is cut for them.

use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

/// A fixed set of worker threads that run chunks of a kernel together with the caller.
///
/// Kernels cut their work into chunks whose bounds depend on shapes alone; threads claim chunks as they become free.
/// So a busy core slows a kernel down by little, and the result has the same bits for any number of threads.
pub(crate) struct Threads {
    count: usize,
    /// How many of them may work now.
    limit: AtomicUsize,
    /// The workers beside the caller.
    pool: Option<ThreadPool>,
}

impl Threads {
    /// `n` threads, the caller included; `0` means one for each core.
    pub(crate) fn new(n: usize) -> Threads {
        let count = match n {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get()),
            n => n,
        };
        let start = || {
            let pool =
                ThreadPoolBuilder::new().num_threads(count - 1).thread_name(|i| format!("tarrl-worker-{i}"));
            pool.build().expect("the system gives a thread")
        };
        Threads { count, limit: AtomicUsize::new(count), pool: (count > 1).then(start) }
    }

    /// These threads, or the caller alone if the work is so little that waking others would take longer.
    pub(crate) fn worth(&self, multiply_adds: usize) -> &Threads {
        if multiply_adds < SMALL { &ALONE } else { self }
    }

    /// The caller alone.
    pub(crate) fn alone() -> &'static Threads {
        &ALONE
    }

    /// How many threads work on a kernel at most.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// How many of them may work now.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// From now on kernels use at most `n` threads, and at least the caller.
    pub(crate) fn set_limit(&self, n: usize) {
        self.limit.store(n.clamp(1, self.count), Ordering::Relaxed);
    }

    /// Splits `out` into chunks of `size` elements, of which the last may be short, and runs `f(index, chunk)` on each.
    pub(crate) fn for_each_chunk<T: Send>(
        &self,
        out: &mut [T],
        size: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        if out.len() <= size || self.pool.is_none() {
            return out.chunks_mut(size).enumerate().for_each(|(i, chunk)| f(i, chunk));
        }
        self.for_each_item(out.chunks_mut(size).enumerate(), |(i, chunk)| f(i, chunk));
    }

    /// Runs `f` on every item of an iterator; threads take items one by one.
    pub(crate) fn for_each_item<I>(&self, items: I, f: impl Fn(I::Item) + Sync)
    where
        I: Iterator + Send,
    {
        self.for_each_item_with(std::iter::repeat(()), items, |(), item| f(item));
    }

    /// As [`Threads::for_each_item`], with one of `workspaces` lent to each thread that takes part.
    /// There must be as many workspaces as threads.
    pub(crate) fn for_each_item_with<W, I>(
        &self,
        workspaces: W,
        items: I,
        f: impl Fn(&mut W::Item, I::Item) + Sync,
    ) where
        W: Iterator + Send,
        I: Iterator + Send,
    {
        let (workspaces, items) = (Mutex::new(workspaces), Mutex::new(items));
        self.on_all(&|| {
            // Taking the item first lets a thread that comes too late leave the workspaces alone.
            let Some(mut item) = lock(&items).next() else { return };
            let mut workspace = lock(&workspaces).next().expect("a workspace for each thread");
            loop {
                f(&mut workspace, item);
                match lock(&items).next() {
                    Some(next) => item = next,
                    None => break,
                }
            }
        });
    }

    /// Runs `work` on the caller and on every worker that may work.
    fn on_all(&self, work: &(dyn Fn() + Sync)) {
        let workers = self.limit();
        let Some(pool) = self.pool.as_ref().filter(|_| workers > 1) else { return work() };
        pool.in_place_scope(|scope| {
            for _ in 1..workers {
                scope.spawn(|_| work());
            }
            work();
        });
    }
}

/// Multiply-adds that one thread does in about the ten microseconds of a wake-up.
/// Tests cut even small work.
const SMALL: usize = if cfg!(test) { 1 } else { 1 << 19 };

static ALONE: Threads = Threads { count: 1, limit: AtomicUsize::new(1), pool: None };

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").field("count", &self.count).finish()
    }
}

/// The data behind these locks stays valid when a kernel panics, so poison is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_chunk_runs_once() {
        for n in [1, 2, 3, 5] {
            let threads = Threads::new(n);
            assert_eq!(threads.count(), n);
            for round in 0..200 {
                let hits: Vec<AtomicUsize> = (0..round % 37).map(|_| AtomicUsize::new(0)).collect();
                threads.for_each_item(0..hits.len(), |i| {
                    hits[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn chunks_cover_the_slice() {
        for n in [1, 2, 3] {
            for (len, size) in [(0, 4), (1, 4), (4, 4), (5, 4), (1000, 7)] {
                let mut out = vec![usize::MAX; len];
                Threads::new(n).for_each_chunk(&mut out, size, |i, chunk| {
                    chunk.iter_mut().enumerate().for_each(|(j, v)| *v = i * size + j);
                });
                assert!(out.iter().enumerate().all(|(i, v)| i == *v));
            }
        }
    }

    #[test]
    fn calls_from_inside_a_chunk_and_from_other_threads_are_served() {
        let threads = Threads::new(3);
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        threads.for_each_item(0..6, |_| {
                            threads.for_each_item(0..5, |i| {
                                sum.fetch_add(i, Ordering::Relaxed);
                            })
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 4 * 50 * 6 * 10);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_workers_survive() {
        let threads = Threads::new(3);
        for _ in 0..20 {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                threads.for_each_item(0..64, |i| assert!(i % 16 != 3, "expected by the test"));
            }));
            assert!(outcome.is_err());
        }
        let count = AtomicUsize::new(0);
        threads.for_each_item(0..64, |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 64);
    }

    #[test]
    fn no_more_threads_take_part_than_may() {
        let threads = Threads::new(4);
        for limit in [1, 2, 4, 3, 9, 0] {
            threads.set_limit(limit);
            let done = AtomicUsize::new(0);
            let mut spaces = vec![(); limit.clamp(1, 4)];
            // A workspace for each of them: one more would find none.
            threads.for_each_item_with(spaces.iter_mut(), 0..1000, |_, _| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.into_inner(), 1000);
        }
    }

    #[test]
    fn workspaces_are_lent_to_one_thread_at_a_time() {
        let threads = Threads::new(3);
        let mut spaces = [0usize; 3];
        threads.for_each_item_with(spaces.iter_mut(), 0..1000usize, |space, i| **space += i);
        assert_eq!(spaces.iter().sum::<usize>(), 499_500);
    }
}
