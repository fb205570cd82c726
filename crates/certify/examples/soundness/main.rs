//! A soundness campaign: attack points on planted and random networks, in f32 and f64, against every certificate and, in exact
//! arithmetic, against the ball.
//!
//! ```sh
//! cargo run --release -p tarrl-certify --example soundness -- --networks 5000 --points 200
//! ```
//!
//! Case `i` has the same numbers whatever the counts. The exit status is 1 if a claim is broken or a point is outside.

mod exact;
mod networks;
mod trial;

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tarrl_tensor::Key;
use trial::Counts;

fn main() -> std::process::ExitCode {
    let [networks, points, first, threads] = match options() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return std::process::ExitCode::FAILURE;
        }
    };
    let (started, next) = (Instant::now(), AtomicUsize::new(0));
    let total = Mutex::new(Counts::default());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= networks {
                break;
            }
            let case = networks::case(first + number);
            let counts = trial::run(&case, points, Key::new((first + number) as u64));
            let mut total = total.lock().expect("no thread panics while it counts");
            counts.examples.iter().for_each(|example| eprintln!("case {}: {example}", first + number));
            total.add(counts);
            if total.networks % 50 == 0 || total.networks == networks {
                let seconds = started.elapsed().as_secs_f64();
                eprint!(
                    "\r{} of {networks} networks, {} broken, {seconds:.0} s",
                    total.networks, total.violations
                );
                std::io::stderr().flush().ok();
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let total = total.into_inner().expect("no thread panics while it counts");
    eprintln!();
    println!("kinds of network: {}", networks::kinds().collect::<Vec<_>>().join(", "));
    println!("networks: {}", total.networks);
    println!("attack points: {} in f32, {} in f64", total.points[0], total.points[1]);
    println!("points outside their ball, in exact arithmetic: {}", total.outside);
    println!("certificates: {}, of which {} claim nothing", total.certificates, total.vacuous);
    println!("claims compared with points: {}, broken: {}", total.comparisons, total.violations);
    println!("planted, one for each precision: {}, missed by the attacks: {}", total.planted, total.missed);
    if total.violations + total.outside == 0 {
        std::process::ExitCode::SUCCESS
    } else {
        std::process::ExitCode::FAILURE
    }
}

/// Networks, points, the number of the first network, threads.
fn options() -> Result<[usize; 4], String> {
    let usage = "usage: soundness [--networks N] [--points N] [--first N] [--threads N]";
    let names = ["--networks", "--points", "--first", "--threads"];
    let mut values = [100, 200, 0, std::thread::available_parallelism().map_or(1, usize::from)];
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for pair in arguments.chunks(2) {
        let at = names.iter().position(|name| *name == pair[0]);
        let value = pair.get(1).and_then(|value| value.parse().ok());
        match (at, value) {
            (Some(at), Some(value)) => values[at] = value,
            _ => return Err(format!("{} is not understood\n{usage}", pair.join(" "))),
        }
    }
    Ok(values)
}
