//! Signals: the first one asks running work to stop where it can resume, a second one ends the program at once.

use std::io::Read;
use std::sync::atomic::Ordering;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use tarrl_jobs::Stop;

use crate::exit_code::TRY_AGAIN;
use crate::stdout::note;

/// Time after which work that has reached no point to stop at is cut off, as by a kill: before the 30 s that Slurm leaves.
const PATIENCE: Duration = Duration::from_secs(25);

/// Signals of one stop: schedulers send it to the process and to its group.
const ONE_STOP: Duration = Duration::from_millis(300);

/// From now on SIGTERM, SIGINT and SIGUSR2 make work stop that asks the result, which also ends at `deadline`.
///
/// The work ends with exit code 75 at its next step or batch, or 25 seconds later wherever it is. A second signal ends the
/// program at once, as if it had never been caught.
///
/// # Errors
/// If the system does not let the program catch signals.
pub(crate) fn stop(deadline: Option<Instant>) -> anyhow::Result<Stop> {
    let stop = Stop::new(std::sync::Arc::default(), deadline);
    let flag = stop.flag().clone();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR2])?;
    spawn(move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            match first {
                None => {
                    first = Some(Instant::now());
                    flag.store(true, Ordering::Relaxed);
                    note!("stopping at the next step; a second signal ends the program at once");
                    spawn(cut_off);
                }
                Some(moment) if moment.elapsed() < ONE_STOP => {}
                // It ends the process, or leaves what a later signal will end.
                Some(_) => drop(emulate_default_handler(signal)),
            }
        }
    });
    Ok(stop)
}

/// From now on `stop` is set when standard input ends, which it does when the process that writes to it ends.
pub(crate) fn stop_at_end_of_input(stop: &Stop) {
    let flag = stop.flag().clone();
    spawn(move || {
        let mut input = std::io::stdin();
        while matches!(input.read(&mut [0; 64]), Ok(1..)) {}
        flag.store(true, Ordering::Relaxed);
        cut_off();
    });
}

/// Ends the process if it has not ended by itself in time.
fn cut_off() {
    sleep(PATIENCE);
    note!("no point to stop at within {} s: cut off", PATIENCE.as_secs());
    std::process::exit(TRY_AGAIN.into());
}
