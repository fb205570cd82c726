//! Random keys: a tree of independent counter-based streams, addressed by name and number.

use crate::math;
use rand_core::RngCore;

/// A position in a tree of random streams.
///
/// `Key::new(seed).fold("augment").fold(epoch).fold(index)` names a stream; the same path gives
/// the same numbers on any machine, for any number of threads and in any order of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

/// One step of a path in the tree of [`Key`]s: a name or a number.
pub trait KeyPart {
    /// The 64 bits that stand for this step.
    fn bits(&self) -> u64;
}

impl Key {
    /// The root of the tree for a seed.
    pub const fn new(seed: u64) -> Self {
        Key(mix(seed ^ 0x7461_7272_6c00_0001))
    }

    /// The child of this key under `part`.
    pub fn fold(self, part: impl KeyPart) -> Self {
        Key(mix(self.0.rotate_left(23) ^ mix(part.bits())))
    }

    /// The stream of random numbers at this key.
    pub const fn stream(self) -> Stream {
        Stream { key: self.0, block: 0, words: [0; 4], used: 4 }
    }

    /// The four 32-bit words at position `block` of this key's stream (Philox 4×32-10).
    ///
    /// Random access is what lets a kernel on any device fill element `4·block + i` alone.
    pub const fn block(self, block: u64) -> [u32; 4] {
        philox(self.0, block)
    }

    /// The key as a number, to seed a generator of another library.
    pub const fn seed(self) -> u64 {
        self.0
    }
}

impl KeyPart for u64 {
    fn bits(&self) -> u64 {
        *self
    }
}

impl KeyPart for usize {
    fn bits(&self) -> u64 {
        *self as u64
    }
}

impl KeyPart for &str {
    fn bits(&self) -> u64 {
        // FNV-1a: names are short and few, and the result is mixed again.
        self.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    }
}

/// The numbers at one [`Key`], drawn in order. Implements [`rand_core::RngCore`], so that
/// distributions of `rand` and `ndarray-rand` can draw from it.
#[derive(Clone, Debug)]
pub struct Stream {
    key: u64,
    block: u64,
    words: [u32; 4],
    used: usize,
}

impl Stream {
    /// A number in `[0, 1)` with 24 random bits.
    pub fn unit(&mut self) -> f32 {
        unit(self.next_u32())
    }

    /// A number in `[lo, hi)`.
    pub fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * ((self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64))
    }

    /// A whole number in `0..n`, without bias.
    ///
    /// # Panics
    /// If `n` is zero.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "Stream::below: an empty range has no number to draw");
        let n = n as u64;
        let reject = n.wrapping_neg() % n; // 2^64 mod n
        loop {
            let r = self.next_u64();
            if r >= reject {
                return (r % n) as usize;
            }
        }
    }

    /// Whether an event of probability `p` happens.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform(0.0, 1.0) < p
    }

    /// A standard normal number (Box–Muller, cosine branch).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * math::ln(1.0 - self.uniform(0.0, 1.0))).sqrt();
        radius * math::cos(std::f64::consts::TAU * self.uniform(0.0, 1.0))
    }

    /// Puts `items` in a random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

impl RngCore for Stream {
    fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.words = philox(self.key, self.block);
            self.block += 1;
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | u64::from(self.next_u32()) << 32
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(4) {
            let word = self.next_u32().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// A random word as a number in `[0, 1)`: its upper 24 bits, exact in f32.
pub(crate) const fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
}

/// Philox 4×32 with ten rounds (Salmon et al., SC 2011), counter `(block, 0, 0)`.
const fn philox(key: u64, block: u64) -> [u32; 4] {
    philox_4x32([block as u32, (block >> 32) as u32, 0, 0], [key as u32, (key >> 32) as u32])
}

const fn philox_4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut c = counter;
    let mut k = key;
    let mut round = 0;
    while round < 10 {
        let p0 = 0xD251_1F53u64 * c[0] as u64;
        let p1 = 0xCD9E_8D57u64 * c[2] as u64;
        c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
        round += 1;
    }
    c
}

/// The finalizer of SplitMix64: a bijection that spreads every bit.
const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known-answer vectors that Random123 publishes for philox4x32-10.
    #[test]
    fn philox_matches_its_published_vectors() {
        assert_eq!(philox_4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox_4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox_4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn keys_of_different_paths_differ_and_of_equal_paths_agree() {
        let root = Key::new(7);
        assert_eq!(root.fold("a").fold(1u64), Key::new(7).fold("a").fold(1u64));
        assert_ne!(root.fold("a").fold(1u64), root.fold(1u64).fold("a"));
        assert_ne!(root.fold("a"), root.fold("b"));
        assert_ne!(root.fold(0u64), root);
    }

    #[test]
    fn uniform_and_normal_numbers_have_the_moments_of_their_distribution() {
        let mut s = Key::new(1).stream();
        let n = 40_000;
        let (mut mean, mut square) = (0.0, 0.0);
        for _ in 0..n {
            let x = s.normal();
            mean += x / n as f64;
            square += x * x / n as f64;
        }
        // Standard errors: 1/√n = .005 and √(2/n) = .0071; five of each.
        assert!(mean.abs() < 0.025 && (square - 1.0).abs() < 0.036, "{mean} {square}");
        let mut counts = [0usize; 3];
        for _ in 0..30_000 {
            counts[s.below(3)] += 1;
        }
        // Standard error √(n·p·(1−p)) = 82; five of them.
        assert!(counts.iter().all(|&c| c.abs_diff(10_000) < 410), "{counts:?}");
    }

    #[test]
    fn the_stream_reads_the_blocks_in_order() {
        let key = Key::new(3);
        let mut s = key.stream();
        for block in 0..3 {
            for word in key.block(block) {
                assert_eq!(s.next_u32(), word);
            }
        }
    }
}
