//! Mutation of valid files: bits, bytes, integers, numbers in text, words, cuts, copies and splices.

use rand_core::RngCore;
use tarrl_tensor::{Key, Stream};

/// The longest input, in bytes.
pub const LONGEST: usize = 1 << 16;

/// Numbers in text at which sizes, indices and floats go wrong.
const NUMBERS: [&str; 24] = [
    "0",
    "-0.0",
    "1",
    "-1",
    "2",
    "3",
    "127",
    "255",
    "256",
    "4096",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "0.5",
    "1e-320",
    "1e308",
    "1e999",
    "nan",
    "inf",
    "-inf",
];

/// Integers at which sizes and counts go wrong.
const INTEGERS: [u64; 12] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Floats as hexadecimal bits: NaN, infinities, the largest, the least subnormal, minus zero, one.
const FLOATS: [&str; 8] = [
    "7ff8000000000000",
    "7ff0000000000000",
    "fff0000000000000",
    "7fefffffffffffff",
    "7fc000007f800000",
    "0000000000000001",
    "8000000080000000",
    "3ff00000bf800000",
];

/// A valid file of `seeds`, changed in one to eight places. The same key gives the same input.
///
/// # Panics
/// If there are no seeds.
pub fn mutated(seeds: &[Vec<u8>], words: &[&str], key: Key) -> Vec<u8> {
    let mut draws = key.stream();
    let mut bytes = seeds[draws.below(seeds.len())].clone();
    for _ in 0..1 << draws.below(4) {
        mutate(&mut bytes, seeds, words, &mut draws);
        bytes.truncate(LONGEST);
    }
    bytes
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str], draws: &mut Stream) {
    if bytes.is_empty() {
        bytes.push(draws.next_u32() as u8);
        return;
    }
    let at = draws.below(bytes.len());
    match draws.below(15) {
        0 => bytes[at] ^= 1 << draws.below(8),
        1 => bytes[at] = draws.next_u32() as u8,
        2 => overwrite_integer(bytes, draws),
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(range(bytes.len(), draws))),
        5 => {
            let copy = bytes[range(bytes.len(), draws)].to_vec();
            insert(bytes, &copy, draws);
        }
        6 => {
            let copy = bytes[range(bytes.len(), draws)].to_vec();
            bytes[at..].iter_mut().zip(&copy).for_each(|(byte, &copy)| *byte = copy);
        }
        7 => {
            let other = &seeds[draws.below(seeds.len())];
            bytes.truncate(at);
            bytes.extend(&other[draws.below(other.len() + 1)..]);
        }
        8 if !words.is_empty() => insert(bytes, words[draws.below(words.len())].as_bytes(), draws),
        9 | 10 => replace_number(bytes, draws),
        11 => replace_digit(bytes, draws),
        12 => replace_bits(bytes, draws),
        13 => replace_quoted(bytes, words, draws),
        _ => {
            let (range, byte) = (range(bytes.len(), draws), [0, 0xff, b' ', b'0'][draws.below(4)]);
            bytes[range].fill(byte);
        }
    }
}

/// A range of at most 64 bytes.
fn range(len: usize, draws: &mut Stream) -> std::ops::Range<usize> {
    let start = draws.below(len);
    start..(start + 1 + draws.below(64)).min(len)
}

fn insert(bytes: &mut Vec<u8>, what: &[u8], draws: &mut Stream) {
    let at = draws.below(bytes.len() + 1);
    bytes.splice(at..at, what.iter().copied());
}

fn overwrite_integer(bytes: &mut [u8], draws: &mut Stream) {
    let value = match draws.below(3) {
        0 => draws.next_u64() >> draws.below(64),
        _ => INTEGERS[draws.below(INTEGERS.len())],
    };
    let width = 1 << draws.below(4);
    let mut word = value.to_le_bytes()[..width].to_vec();
    if draws.below(2) == 0 {
        word.reverse();
    }
    // Headers are at the beginning.
    let at = if draws.below(2) == 0 { draws.below(bytes.len().min(64)) } else { draws.below(bytes.len()) };
    bytes[at..].iter_mut().zip(word).for_each(|(byte, new)| *byte = new);
}

/// The next run of bytes from a random place on that satisfy `is`.
fn run(bytes: &[u8], draws: &mut Stream, is: fn(u8) -> bool) -> Option<std::ops::Range<usize>> {
    let from = draws.below(bytes.len());
    let start = from + bytes[from..].iter().position(|&byte| is(byte))?;
    let len = bytes[start..].iter().position(|&byte| !is(byte)).unwrap_or(bytes.len() - start);
    Some(start..start + len)
}

fn replace_number(bytes: &mut Vec<u8>, draws: &mut Stream) {
    let Some(run) = run(bytes, draws, |byte| byte.is_ascii_digit() || b"+-.".contains(&byte)) else { return };
    let known = std::str::from_utf8(&bytes[run.clone()]).ok().and_then(|text| text.parse::<i64>().ok());
    let new = match (known, draws.below(4)) {
        (Some(value), 0) => value.wrapping_add(1).to_string(),
        (Some(value), 1) => value.wrapping_sub(1).to_string(),
        _ => NUMBERS[draws.below(NUMBERS.len())].to_owned(),
    };
    bytes.splice(run, new.into_bytes());
}

fn replace_digit(bytes: &mut [u8], draws: &mut Stream) {
    if let Some(run) = run(bytes, draws, |byte| byte.is_ascii_hexdigit()) {
        bytes[run.start + draws.below(run.len())] = b"0123456789abcdef"[draws.below(16)];
    }
}

/// Replaces sixteen hexadecimal digits, or removes them.
fn replace_bits(bytes: &mut Vec<u8>, draws: &mut Stream) {
    let Some(run) = run(bytes, draws, |byte| byte.is_ascii_hexdigit()) else { return };
    if run.len() >= 16 {
        let start = run.start + draws.below(run.len() / 16) * 16;
        let new = if draws.below(8) == 0 { "" } else { FLOATS[draws.below(FLOATS.len())] };
        bytes.splice(start..start + 16, new.bytes());
    }
}

/// Replaces what stands between quotes by a word, or by nothing.
fn replace_quoted(bytes: &mut Vec<u8>, words: &[&str], draws: &mut Stream) {
    let from = draws.below(bytes.len());
    let quote = |from: usize| bytes[from..].iter().position(|&b| b == b'"' || b == b'\'').map(|at| from + at);
    let Some(open) = quote(from) else { return };
    let Some(close) = quote(open + 1) else { return };
    let new = match words.len() {
        0 => "",
        n => words[draws.below(n)],
    };
    bytes.splice(open + 1..close, new.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_an_input_and_inputs_differ() {
        let seeds = [b"{\"n\": 12, \"x\": \"3ff0000000000000\"}".to_vec(), b"other".to_vec()];
        let input = |i: u64| mutated(&seeds, &["word"], Key::new(1).fold(i));
        let all: Vec<_> = (0..2000).map(input).collect();
        assert!((0..2000).all(|i| input(i as u64) == all[i]));
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert!(distinct.len() > 1200, "{} of 2000 inputs are distinct", distinct.len());
        let has = |part: &str| all.iter().any(|input| String::from_utf8_lossy(input).contains(part));
        assert!(["7ff8000000000000", "18446744073709551615", "word", "\": 13,"].iter().all(|part| has(part)));
    }

    #[test]
    fn no_input_is_longer_than_the_limit() {
        let seeds = [vec![b'1'; LONGEST]];
        assert!((0..200u64).all(|i| mutated(&seeds, &[], Key::new(2).fold(i)).len() <= LONGEST));
    }
}
