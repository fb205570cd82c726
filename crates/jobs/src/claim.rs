//! Claims: which process works on which job of a folder that many share, on one machine or on several.
//!
//! The claims of a job are the files `claims/NAME.0`, `NAME.1`, … in the run folder. A claim is made by the exclusive
//! creation of the next of them, which one process alone can do, on NFS too, and none is removed. So there is no moment at
//! which two processes hold a job, unless one of them was given up for dead and lives. The holder of the last file works
//! as long as its file says so and changes: it counts up at every heartbeat. On the machine of the holder the system's
//! lock on the file tells at once whether it lives; from another machine it is dead when its file has not changed for six
//! heartbeats of the observer's own clock. One that finds a later claim than its own has lost the job and stops.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_data::read_at_most;
use tarrl_files::{host, write_first};

use crate::Key;

/// The claims of a run folder, as one process sees them.
#[derive(Debug)]
pub struct Claims {
    folder: PathBuf,
    heartbeat: Duration,
    /// What tells machines apart: the number of the boot.
    machine: String,
    made: AtomicU64,
    seen: Mutex<BTreeMap<String, Seen>>,
}

/// What was seen of the last claim of a name.
#[derive(Clone, Debug)]
struct Seen {
    /// The number of the last claim when this process first looked.
    first: Option<u32>,
    last: u32,
    content: Vec<u8>,
    since: Instant,
}

/// A claim as it is on disk.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimRecord {
    /// The machine, for people.
    pub host: String,
    /// The machine, for processes on it.
    pub machine: String,
    /// The process.
    pub process: u32,
    /// Unlike that of any other claim.
    pub token: String,
    /// Seconds between two changes of `beat`.
    pub heartbeat: f64,
    /// Counts up while the holder lives.
    pub beat: u64,
    /// Whether it works, or how it ended.
    pub phase: Phase,
    /// Why it failed.
    pub cause: String,
    /// What was in the job's folder when it was claimed, in short.
    pub found: String,
    /// Claims in a row before this one, and this one, that found the same.
    pub fruitless: u32,
}

/// What the holder of a claim does or did.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It works.
    Running,
    /// It ended well.
    Done,
    /// It stopped, to go on later.
    Stopped,
    /// It ended with an error.
    Failed,
}

/// The answer to [`Claims::take`].
#[derive(Debug)]
pub enum Take {
    /// The job is ours.
    Claimed(Claim),
    /// Another process works on it.
    Held(Box<ClaimRecord>),
    /// Another process failed at it since this one first looked.
    Failed(Box<ClaimRecord>),
}

/// A claim of this process, which beats until it is dropped.
#[derive(Debug)]
pub struct Claim {
    inner: Arc<Inner>,
    /// Its end stops the thread.
    beating: Option<(Sender<()>, JoinHandle<()>)>,
}

#[derive(Debug)]
struct Inner {
    /// Where the next claim would be.
    next: PathBuf,
    heartbeat: Duration,
    lost: AtomicBool,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    file: File,
    record: ClaimRecord,
    /// When it was last known that there is no later claim.
    known: Instant,
}

/// Heartbeats without a change after which a holder counts as dead.
const MISSED: u32 = 6;

/// The longest claim that is read.
const MOST_BYTES: u64 = 1 << 16;

/// The longest cause that is kept.
const MOST_CAUSE: usize = 2_000;

/// The length of a claim while it runs: it is written over in place, and a shorter one must not leave a rest.
const LENGTH: usize = 1024;

impl Claims {
    /// Time between two heartbeats, if nothing else is asked for.
    pub const HEARTBEAT: Duration = Duration::from_secs(10);

    /// Those in `folder`, which exists.
    pub fn new(folder: PathBuf, heartbeat: Duration) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let machine = if boot.trim().is_empty() { host() } else { boot.trim().to_owned() };
        Self { folder, heartbeat, machine, made: AtomicU64::new(0), seen: Mutex::default() }
    }

    /// Takes `name`, which is a plain name, if nobody holds it. Who finds a failure that is older than its first look tries
    /// again. `found` tells in short what has been done of it so far.
    ///
    /// # Errors
    /// Returns the system's error if a claim can be neither read nor made.
    pub fn take(&self, name: &str, found: impl Fn() -> String) -> io::Result<Take> {
        loop {
            let (number, before) = match self.look(name)? {
                None => (0, None),
                Some((last, record, dead, failed_before)) => match record {
                    Some(record) if record.phase == Phase::Running && !dead => {
                        return Ok(Take::Held(Box::new(record)));
                    }
                    Some(record) if record.phase == Phase::Failed && !failed_before => {
                        return Ok(Take::Failed(Box::new(record)));
                    }
                    // What is no claim is written by nobody of ours.
                    record => (last + 1, record),
                },
            };
            let found = found();
            let fruitless = match &before {
                Some(before) if before.found == found => before.fruitless.saturating_add(1),
                _ => 0,
            };
            let record = ClaimRecord {
                host: host(),
                machine: self.machine.clone(),
                process: std::process::id(),
                token: self.token(),
                heartbeat: self.heartbeat.as_secs_f64(),
                beat: 0,
                phase: Phase::Running,
                cause: String::new(),
                found,
                fruitless,
            };
            if let Some(file) = write_first(&self.path(name, number), &padded(&record))? {
                return Ok(Take::Claimed(Claim::new(
                    file,
                    record,
                    self.path(name, number + 1),
                    self.heartbeat,
                )));
            }
        }
    }

    /// The last claim of `name`, if there is one that can be read, and whether its holder lives as far as is known.
    ///
    /// # Errors
    /// Returns the system's error if it cannot be read.
    pub fn last(&self, name: &str) -> io::Result<Option<(u32, ClaimRecord, bool)>> {
        Ok(self.look(name)?.and_then(|(last, record, dead, _)| record.map(|record| (last, record, !dead))))
    }

    /// The last claim, its number, whether its holder is dead, and whether it was the last at the first look.
    #[allow(clippy::type_complexity, reason = "a row of four, used above alone")]
    fn look(&self, name: &str) -> io::Result<Option<(u32, Option<ClaimRecord>, bool, bool)>> {
        let mut seen = lock(&self.seen);
        let known = seen.get(name).cloned();
        let mut number = known.as_ref().map_or(0, |seen| seen.last);
        let mut found = None;
        loop {
            match read_at_most(&self.path(name, number), MOST_BYTES) {
                Ok(content) => found = Some((number, content)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
            number += 1;
        }
        let Some((last, content)) = found else {
            let fresh = Seen { first: None, last: 0, content: Vec::new(), since: Instant::now() };
            seen.entry(name.to_owned()).or_insert(fresh);
            return Ok(None);
        };
        let record: Option<ClaimRecord> = serde_json::from_slice(&content).ok();
        let first = known.as_ref().map_or(Some(last), |seen| seen.first);
        let since = match &known {
            Some(seen) if seen.last == last && seen.content == content => seen.since,
            _ => Instant::now(),
        };
        seen.insert(name.to_owned(), Seen { first, last, content, since });
        drop(seen);
        let heartbeat = record.as_ref().map_or(Self::HEARTBEAT.as_secs_f64(), |record| record.heartbeat);
        let silent = since.elapsed().as_secs_f64() > f64::from(MISSED) * heartbeat.clamp(0.0, 600.0);
        let here = record.as_ref().is_some_and(|record| record.machine == self.machine);
        let free = here && File::open(self.path(name, last)).is_ok_and(|file| file.try_lock().is_ok());
        Ok(Some((last, record, silent || free, first == Some(last))))
    }

    /// What tells this machine from others.
    pub(crate) fn machine(&self) -> &str {
        &self.machine
    }

    fn path(&self, name: &str, number: u32) -> PathBuf {
        self.folder.join(format!("{name}.{number}"))
    }

    fn token(&self) -> String {
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        let place = std::ptr::from_ref(self) as usize;
        let parts = json!([self.machine, std::process::id(), place, now.to_string(), made]);
        Key::of(&parts).to_string()
    }
}

impl Claim {
    fn new(file: File, record: ClaimRecord, next: PathBuf, heartbeat: Duration) -> Self {
        let held = Mutex::new(Held { file, record, known: Instant::now() });
        let inner = Arc::new(Inner { next, heartbeat, lost: AtomicBool::new(false), held });
        let (end, ended) = channel::<()>();
        let beats = inner.clone();
        let thread = std::thread::spawn(move || {
            while ended.recv_timeout(beats.heartbeat) == Err(RecvTimeoutError::Timeout) {
                // The next beat may succeed; if none does, others will see that.
                let _ = beats.beat();
            }
        });
        Self { inner, beating: Some((end, thread)) }
    }

    /// What it says.
    pub fn record(&self) -> ClaimRecord {
        lock(&self.inner.held).record.clone()
    }

    /// Whether it is still the last one. It is looked up at every heartbeat, and at once by a process that was suspended
    /// for longer than a few of them.
    pub fn is_held(&self) -> bool {
        self.inner.is_held()
    }

    /// The question [`is_held`](Self::is_held), for others to ask.
    pub(crate) fn question(&self) -> Arc<dyn Fn() -> bool + Send + Sync> {
        let inner = self.inner.clone();
        Arc::new(move || inner.is_held())
    }

    /// Ends it: the claim says how, and anybody may take the name again.
    ///
    /// # Errors
    /// Returns the system's error if that cannot be written; others then see that the holder does not live.
    pub fn end(mut self, phase: Phase, cause: &str) -> io::Result<()> {
        self.rest();
        let mut held = lock(&self.inner.held);
        held.record.phase = phase;
        held.record.cause = cause.chars().take(MOST_CAUSE).collect();
        held.write()
    }

    /// Ends the heartbeat.
    fn rest(&mut self) {
        if let Some((end, thread)) = self.beating.take() {
            drop(end);
            // It has nothing that could panic.
            let _ = thread.join();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.rest();
    }
}

impl Inner {
    fn beat(&self) -> io::Result<()> {
        let mut held = lock(&self.held);
        held.record.beat += 1;
        held.write()?;
        self.look(&mut held)
    }

    fn is_held(&self) -> bool {
        if self.lost.load(Ordering::Relaxed) {
            return false;
        }
        let mut held = lock(&self.held);
        if held.known.elapsed() > 2 * self.heartbeat {
            let _ = self.look(&mut held);
        }
        !self.lost.load(Ordering::Relaxed)
    }

    /// Looks whether there is a later claim.
    fn look(&self, held: &mut Held) -> io::Result<()> {
        if std::fs::exists(&self.next)? {
            self.lost.store(true, Ordering::Relaxed);
        }
        held.known = Instant::now();
        Ok(())
    }
}

impl Held {
    fn write(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&padded(&self.record))?;
        // Other machines see what is on the server.
        self.file.sync_data()
    }
}

/// The record as JSON, with spaces up to the usual length.
fn padded(record: &ClaimRecord) -> Vec<u8> {
    let mut text = serde_json::to_vec(record).expect("text and numbers are JSON");
    text.resize(text.len().max(LENGTH), b' ');
    text
}

/// Nothing that holds a lock can panic halfway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the claim in a file.
///
/// # Errors
/// Returns the reason, as half a sentence, why it is none.
pub fn read_claim(path: &Path) -> Result<ClaimRecord, String> {
    let content = read_at_most(path, MOST_BYTES).map_err(|error| format!("it cannot be read: {error}"))?;
    serde_json::from_slice(&content).map_err(|error| format!("it is damaged: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two processes as two sets of claims: the lock of the first shows that its holder lives.
    #[test]
    fn a_claim_that_is_held_is_given_to_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let claims = || Claims::new(folder.path().to_path_buf(), Claims::HEARTBEAT);
        let (one, other) = (claims(), claims());
        let Take::Claimed(claim) = one.take("job", String::new).unwrap() else { panic!("nobody holds it") };
        for _ in 0..3 {
            let Take::Held(by) = other.take("job", String::new).unwrap() else { panic!("it is held") };
            assert_eq!(by.token, claim.record().token);
        }
        claim.end(Phase::Done, "").unwrap();
        assert!(matches!(other.take("job", String::new).unwrap(), Take::Claimed(_)));
    }
}
