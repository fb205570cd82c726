//! Campaigns: many mutated inputs for each target on several threads, with limits of time and memory.

use std::fs::File;
use std::io::{Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use tarrl_fuzz::{Scratch, Target, mutation::mutated};
use tarrl_tensor::Key;

use crate::memory::peaks;
use crate::report::{Counts, table};

/// Inputs that a thread takes at a time.
const BLOCK: u64 = 500;
/// Breaches after which a campaign ends.
const ENOUGH: u64 = 50;

/// What no input may exceed.
pub(crate) struct Limits {
    pub(crate) time: Duration,
    /// Bytes of the whole process.
    pub(crate) memory: u64,
}

/// Targets and the seed of their inputs.
pub(crate) struct Campaign {
    pub(crate) targets: Vec<&'static Target>,
    pub(crate) seed: u64,
    pub(crate) limits: Limits,
    /// Where inputs that break a contract are written.
    pub(crate) artifacts: PathBuf,
}

/// The input that a thread is at, and since when.
type Current = Mutex<Option<(usize, u64, Instant)>>;

/// What the threads of a campaign share.
struct Shared {
    seeds: Vec<Vec<Vec<u8>>>,
    first: u64,
    /// Inputs of each target.
    each: u64,
    /// The next block of inputs.
    next: AtomicU64,
    counts: Vec<Mutex<Counts>>,
    breaches: AtomicU64,
    done: AtomicBool,
}

impl Campaign {
    /// Runs `inputs` inputs, the same number of each target, beginning with that of number `first`. Whether no reader
    /// broke its contract and no limit was exceeded.
    ///
    /// # Errors
    /// If the folder for artifacts cannot be written.
    pub(crate) fn run(&self, first: u64, inputs: u64, threads: usize) -> anyhow::Result<bool> {
        let folder =
            || format!("cannot write to {}; choose another with --artifacts", self.artifacts.display());
        std::fs::create_dir_all(&self.artifacts).with_context(folder)?;
        let shared = Shared {
            seeds: self.targets.iter().map(|target| (target.seeds)()).collect(),
            first,
            each: inputs.div_ceil(self.targets.len() as u64),
            next: AtomicU64::new(0),
            counts: self.targets.iter().map(|_| Mutex::default()).collect(),
            breaches: AtomicU64::new(0),
            done: AtomicBool::new(false),
        };
        let currents: Vec<Current> = (0..threads).map(|_| Mutex::new(None)).collect();
        let started = Instant::now();
        let found = thread::scope(|scope| {
            let watch = scope.spawn(|| self.watch(&shared, &currents, started));
            let workers: Vec<_> = currents
                .iter()
                .enumerate()
                .map(|(number, current)| {
                    let shared = &shared;
                    scope.spawn(move || self.work(shared, number, current))
                })
                .collect();
            let found: std::io::Result<Vec<()>> =
                workers.into_iter().map(|worker| worker.join().expect("a worker catches panics")).collect();
            shared.done.store(true, Ordering::SeqCst);
            watch.join().expect("the watch does not panic");
            found
        });
        found.with_context(folder)?;
        let rows: Vec<_> =
            self.targets.iter().zip(&shared.counts).map(|(t, c)| (t.name, lock(c).clone())).collect();
        print!("{}", table(&rows));
        let [resident, reserved] = peaks();
        println!(
            "\n{:.0} s; peak memory {} MB resident, {} MB reserved",
            started.elapsed().as_secs_f64(),
            resident >> 20,
            reserved >> 20
        );
        if resident > self.limits.memory {
            println!("more than {} MB of memory", self.limits.memory >> 20);
        }
        Ok(shared.breaches.into_inner() == 0 && resident <= self.limits.memory)
    }

    /// Takes blocks of inputs until there are none left. What it is at stands in a file, should the process end.
    fn work(&self, shared: &Shared, number: usize, current: &Current) -> std::io::Result<()> {
        let mut scratch = Scratch::new();
        let mut file = File::create(self.artifacts.join(format!("current-{number}")))?;
        let blocks = shared.each.div_ceil(BLOCK);
        loop {
            // Neighboring blocks are of different targets, so that all are tried from the beginning on.
            let block = shared.next.fetch_add(1, Ordering::SeqCst);
            let (target, block) =
                ((block % self.targets.len() as u64) as usize, block / self.targets.len() as u64);
            if block >= blocks || shared.breaches.load(Ordering::SeqCst) >= ENOUGH {
                return Ok(());
            }
            let mut counts = Counts::default();
            for index in block * BLOCK..((block + 1) * BLOCK).min(shared.each) {
                let index = shared.first + index;
                let name = self.targets[target].name;
                let input = mutated(&shared.seeds[target], self.targets[target].words, self.key(name, index));
                file.rewind()?;
                file.write_all(
                    format!("--seed {} --target {name} --first {index:<12}\n", self.seed).as_bytes(),
                )?;
                let started = Instant::now();
                *lock(current) = Some((target, index, started));
                let checked = catch_unwind(AssertUnwindSafe(|| self.targets[target].check(&input, &scratch)));
                *lock(current) = None;
                counts.enter(index, checked.as_ref().is_ok_and(|&accepted| accepted), started.elapsed());
                if checked.is_err() {
                    counts.breaches += 1;
                    shared.breaches.fetch_add(1, Ordering::SeqCst);
                    let path = self.artifacts.join(format!("{name}-{}-{index}", self.seed));
                    println!("{name}: the panic above is of input {index}, {}", path.display());
                    std::fs::write(path, input)?;
                    // What it left there may be anything.
                    scratch = Scratch::new();
                }
            }
            lock(&shared.counts[target]).add(&counts);
        }
    }

    fn key(&self, target: &str, index: u64) -> Key {
        Key::new(self.seed).fold(target).fold(index)
    }

    /// Ends the process if an input takes too long or memory grows too much, and says how far the campaign is.
    fn watch(&self, shared: &Shared, currents: &[Current], started: Instant) {
        let mut told = Instant::now();
        while !shared.done.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(100));
            for (target, index, since) in currents.iter().filter_map(|current| *lock(current)) {
                if since.elapsed() > self.limits.time {
                    let name = self.targets[target].name;
                    println!("{name}: input {index} of seed {} has taken {:?}", self.seed, since.elapsed());
                    std::process::exit(1);
                }
            }
            let [resident, _] = peaks();
            if resident > self.limits.memory {
                let at = currents.iter().filter_map(|current| *lock(current));
                let at: Vec<_> = at.map(|(target, index, _)| (self.targets[target].name, index)).collect();
                println!("{} MB of memory, at inputs near {at:?}", resident >> 20);
                std::process::exit(1);
            }
            if told.elapsed() > Duration::from_secs(30) {
                told = Instant::now();
                let inputs: u64 = shared.counts.iter().map(|counts| lock(counts).inputs).sum();
                eprintln!(
                    "{:.0} s: {inputs} of {} inputs, {} breaches, {} MB",
                    started.elapsed().as_secs_f64(),
                    shared.each * self.targets.len() as u64,
                    shared.breaches.load(Ordering::SeqCst),
                    resident >> 20
                );
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
