//! Limits of the processor, measured: memory bandwidth and arithmetic peak, to which kernels are compared.

use super::gemm::kernel::Level;
use super::gemm::vector::{Vector, portable};
use super::threads::Threads;
use std::hint::black_box;
use std::time::Instant;

/// Limits of this machine for some number of threads. Two runs differ by a few per cent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Threads that worked at the same time.
    pub threads: usize,
    /// F32 multiply-adds on registers, two operations each, in 10⁹ operations per second.
    pub gflops: f64,
    /// A copy of memory that fits into no cache, reads and writes together, in 10⁹ bytes per second.
    pub copy_gb_per_s: f64,
}

/// Multiply-adds of a round: each chain takes a few dozen microseconds.
const ROUNDS: usize = 1 << 14;

/// Chains of multiply-adds in flight, as in the micro-kernel.
const CHAINS: usize = 12;

/// Elements of each of the two arrays of the copy: 128 MiB, more than common third-level caches.
const COPY: usize = 1 << 25;

impl Limits {
    /// Measures for `threads` threads (0 for one for each core), about a quarter of a second.
    pub fn measure(threads: usize) -> Limits {
        let threads = Threads::new(threads);
        let level = Level::default();
        let rounds = 64 * threads.count();
        let seconds = best_of(5, || threads.for_each_item(0..rounds, |_| multiply_adds(level)));
        let flops = (2 * lanes(level) * CHAINS * ROUNDS * rounds) as f64;
        let from = vec![1.0f32; COPY];
        let mut to = vec![0.0f32; COPY];
        let copy = best_of(5, || {
            threads
                .for_each_chunk(&mut to, 1 << 16, |i, to| to.copy_from_slice(&from[i << 16..][..to.len()]));
        });
        Limits {
            threads: threads.count(),
            gflops: flops / seconds / 1e9,
            copy_gb_per_s: (2 * COPY * size_of::<f32>()) as f64 / copy / 1e9,
        }
    }
}

fn best_of(times: usize, mut f: impl FnMut()) -> f64 {
    let once = |_| {
        let clock = Instant::now();
        f();
        clock.elapsed().as_secs_f64()
    };
    (0..=times).map(once).fold(f64::INFINITY, f64::min)
}

fn lanes(level: Level) -> usize {
    match level {
        Level::Portable => portable::Single::LEN,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => super::gemm::vector::avx2::Single::LEN,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => super::gemm::vector::avx512::Single::LEN,
    }
}

fn multiply_adds(level: Level) {
    match level {
        Level::Portable => chains::<portable::Single>(),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Level::Avx2` exists only where AVX2 and FMA were detected.
        Level::Avx2 => unsafe { with_avx2() },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Level::Avx512` exists only where AVX-512F was detected.
        Level::Avx512 => unsafe { with_avx512() },
    }
}

/// # Safety
/// The processor has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn with_avx2() {
    chains::<super::gemm::vector::avx2::Single>();
}

/// # Safety
/// The processor has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn with_avx512() {
    chains::<super::gemm::vector::avx512::Single>();
}

#[inline(always)]
fn chains<V: Vector<Scalar = f32>>() {
    let (by, to) = (V::constant(black_box(0.5)), V::constant(black_box(1.0)));
    let mut chains = [to; CHAINS];
    for _ in 0..ROUNDS {
        for chain in &mut chains {
            *chain = chain.multiply_add(by, to);
        }
    }
    let mut line = [0.0; 16];
    for chain in chains {
        // SAFETY: `line` has room for a vector.
        unsafe { chain.store(line.as_mut_ptr()) };
        black_box(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any processor of the last decades does a billion operations a second and copies a tenth of that.
    #[test]
    fn measured_limits_are_plausible() {
        let limits = Limits::measure(1);
        assert!(limits.gflops > 1.0 && limits.gflops < 1e4, "{limits:?}");
        assert!(limits.copy_gb_per_s > 0.1 && limits.copy_gb_per_s < 1e4, "{limits:?}");
    }
}
