//! Pixels of every kind of PNG against the formulas of its specification (W3C, third edition, 2025).

use super::*;
use ::png::ColorType;
use flate2::{Compression, Crc, write::ZlibEncoder};
use std::io::Write;

/// A file of pixels `(h, w, c)` in 8 bits a channel, by the encoder of the crate; c = 1 to 4.
pub(crate) fn encoded(shape: [usize; 3], pixels: &[u8]) -> Vec<u8> {
    let [h, w, c] = shape;
    let mut file = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut file, w as u32, h as u32);
    encoder
        .set_color([ColorType::Grayscale, ColorType::GrayscaleAlpha, ColorType::Rgb, ColorType::Rgba][c - 1]);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
    file
}

const WIDTH: usize = 11;
const HEIGHT: usize = 6;
const SIDE: u32 = 4096;
const MEMORY: usize = 1 << 28;

const GRAY: u8 = 0;
const COLOR: u8 = 2;
const PALETTE: u8 = 3;
const GRAY_ALPHA: u8 = 4;
const COLOR_ALPHA: u8 = 6;

/// All color types with all their depths (table 8).
const KINDS: [(u8, u8); 15] = [
    (GRAY, 1),
    (GRAY, 2),
    (GRAY, 4),
    (GRAY, 8),
    (GRAY, 16),
    (COLOR, 8),
    (COLOR, 16),
    (PALETTE, 1),
    (PALETTE, 2),
    (PALETTE, 4),
    (PALETTE, 8),
    (GRAY_ALPHA, 8),
    (GRAY_ALPHA, 16),
    (COLOR_ALPHA, 8),
    (COLOR_ALPHA, 16),
];

fn channels(color: u8) -> usize {
    match color {
        GRAY | PALETTE => 1,
        GRAY_ALPHA => 2,
        COLOR => 3,
        _ => 4,
    }
}

fn largest(depth: u8) -> u32 {
    (1 << depth) - 1
}

/// Some sample of a channel at a place; the alpha channel is opaque.
fn sample(color: u8, depth: u8, x: usize, y: usize, channel: usize) -> u32 {
    let is_alpha = color >= GRAY_ALPHA && channel + 1 == channels(color);
    let value = ((x * 7919 + y * 104_729 + channel * 1_299_709) as u32).wrapping_mul(2_654_435_761) >> 9;
    if is_alpha { largest(depth) } else { value & largest(depth) }
}

fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(name);
    crc.update(content);
    let length = content.len() as u32;
    [&length.to_be_bytes()[..], name, content, &crc.sum().to_be_bytes()].concat()
}

/// First column and row, and the steps between columns and rows, of the passes of Adam7 (section 8.1).
const ADAM7: [[usize; 4]; 7] =
    [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];

/// A file whose rows have no filter.
fn file(
    color: u8,
    depth: u8,
    interlaced: bool,
    more: &[u8],
    at: &dyn Fn(usize, usize, usize) -> u32,
) -> Vec<u8> {
    let mut rows = ZlibEncoder::new(Vec::new(), Compression::fast());
    let passes = if interlaced { &ADAM7[..] } else { &[[0, 0, 1, 1]] };
    for &[x0, y0, dx, dy] in passes {
        for y in (y0..HEIGHT).step_by(dy) {
            let samples = (x0..WIDTH).step_by(dx).flat_map(|x| (0..channels(color)).map(move |c| (x, c)));
            let bits: Vec<u8> = samples
                .flat_map(|(x, c)| {
                    let value = at(x, y, c);
                    (0..depth).rev().map(move |bit| (value >> bit & 1) as u8)
                })
                .collect();
            let byte = |bits: &[u8]| (0..8).fold(0, |byte, i| byte << 1 | bits.get(i).copied().unwrap_or(0));
            let bytes: Vec<u8> = bits.chunks(8).map(byte).collect();
            if !bytes.is_empty() {
                rows.write_all(&[&[0], &bytes[..]].concat()).unwrap();
            }
        }
    }
    let size = [(WIDTH as u32).to_be_bytes(), (HEIGHT as u32).to_be_bytes()].concat();
    let header = [&size[..], &[depth, color, 0, 0, u8::from(interlaced)]].concat();
    let palette: Vec<u8> = (0..=largest(depth) as usize & 255).flat_map(entry).collect();
    [
        &b"\x89PNG\r\n\x1a\n"[..],
        &chunk(b"IHDR", &header),
        &if color == PALETTE { chunk(b"PLTE", &palette) } else { Vec::new() },
        more,
        &chunk(b"IDAT", &rows.finish().unwrap()),
        &chunk(b"IEND", &[]),
    ]
    .concat()
}

/// An entry of the palette.
fn entry(i: usize) -> [u8; 3] {
    [(i * 3) as u8, 255 - i as u8, i as u8 ^ 90]
}

/// What the pixels shall be: sample · 255 / (2^depth − 1), rounded, or the entry of the palette.
fn expected(color: u8, depth: u8) -> Array3<u8> {
    let c = if color == GRAY || color == GRAY_ALPHA { 1 } else { 3 };
    Array3::from_shape_fn((HEIGHT, WIDTH, c), |(y, x, c)| {
        if color == PALETTE {
            return entry(sample(color, depth, x, y, 0) as usize)[c];
        }
        (f64::from(sample(color, depth, x, y, c)) * 255.0 / f64::from(largest(depth))).round() as u8
    })
}

#[test]
fn every_kind_of_file_gives_the_pixels_of_the_specification() {
    for (color, depth) in KINDS {
        for interlaced in [false, true] {
            let bytes = file(color, depth, interlaced, &[], &|x, y, c| sample(color, depth, x, y, c));
            let pixels = decode(&bytes, SIDE, MEMORY);
            assert_eq!(pixels, Ok(expected(color, depth)), "{color} {depth} {interlaced}");
        }
    }
}

#[test]
fn sixteen_bits_are_rounded_to_the_nearest_of_eight() {
    for sample in 0..=u16::MAX {
        assert_eq!(rounded(sample), (f64::from(sample) / 257.0).round() as u8, "{sample}");
    }
}

/// The first pixel, in the order of rows, that `found` holds of.
fn first(found: impl Fn(usize, usize) -> bool) -> Option<Refusal> {
    let mut places = (0..HEIGHT * WIDTH).map(|i| (i / WIDTH, i % WIDTH));
    places.find(|&(row, column)| found(row, column)).map(|(row, column)| Refusal::Transparent { row, column })
}

#[test]
fn a_transparent_pixel_is_refused_in_every_kind_of_file() {
    for (color, depth) in KINDS {
        let at = |x: usize, y: usize, c: usize| sample(color, depth, x, y, c);
        for interlaced in [false, true] {
            let (transparency, found) = match color {
                // The color of one pixel, or the palette's entry of it, stands for transparency.
                GRAY | COLOR => {
                    let target: Vec<u32> = (0..channels(color)).map(|c| at(7, 2, c)).collect();
                    let bytes: Vec<u8> = target.iter().flat_map(|&v| (v as u16).to_be_bytes()).collect();
                    let found = first(|y, x| target.iter().enumerate().all(|(c, &v)| at(x, y, c) == v));
                    (chunk(b"tRNS", &bytes), found)
                }
                PALETTE => {
                    let target = at(7, 2, 0);
                    let alpha = [&vec![255; target as usize][..], &[254]].concat();
                    (chunk(b"tRNS", &alpha), first(|y, x| at(x, y, 0) == target))
                }
                _ => (Vec::new(), first(|y, x| (x, y) == (7, 2))),
            };
            // An alpha channel lacks one level at one place.
            let alpha = |x: usize, y: usize, c: usize| {
                let here = color >= GRAY_ALPHA && (x, y, c + 1) == (7, 2, channels(color));
                at(x, y, c) - u32::from(here)
            };
            let bytes = file(color, depth, interlaced, &transparency, &alpha);
            let refusal = decode(&bytes, SIDE, MEMORY).err();
            assert!(
                refusal.is_some() && refusal == found,
                "{color} {depth} {interlaced}: {refusal:?}, not {found:?}"
            );
        }
    }
}

#[test]
fn a_transparent_color_that_no_pixel_has_changes_nothing() {
    for (color, depth) in [(GRAY, 8), (GRAY, 16), (COLOR, 8), (COLOR, 16), (PALETTE, 8)] {
        let at = |x: usize, y: usize, c: usize| sample(color, depth, x, y, c);
        let absent = (0..=255).find(|&v| first(|y, x| at(x, y, 0) == v).is_none()).unwrap();
        let content = match color {
            PALETTE => [&vec![255; absent as usize][..], &[0]].concat(),
            _ => (0..channels(color)).flat_map(|_| (absent as u16).to_be_bytes()).collect(),
        };
        let bytes = file(color, depth, false, &chunk(b"tRNS", &content), &at);
        assert_eq!(decode(&bytes, SIDE, MEMORY), Ok(expected(color, depth)), "{color} {depth}");
    }
}

#[test]
fn large_files_are_refused_before_memory_is_taken() {
    let bytes = file(COLOR, 8, false, &[], &|x, y, c| sample(COLOR, 8, x, y, c));
    assert!(decode(&bytes, WIDTH as u32, MEMORY).is_ok());
    let refused = |bytes: &[u8], side, memory| match decode(bytes, side, memory) {
        Err(Refusal::Undecodable(cause)) => cause,
        other => panic!("{other:?}"),
    };
    assert!(refused(&bytes, WIDTH as u32 - 1, MEMORY).contains("11 columns and 6 rows"));
    // A profile of colors that unpacks to a mebibyte, where half of one is allowed.
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&vec![0; 1 << 20]).unwrap();
    let text = chunk(b"iCCP", &[&b"name\0\0"[..], &packed.finish().unwrap()].concat());
    let bytes = file(COLOR, 8, false, &text, &|x, y, c| sample(COLOR, 8, x, y, c));
    assert!(decode(&bytes, SIDE, MEMORY).is_ok());
    assert!(!refused(&bytes, SIDE, 64).is_empty());
    assert!(!refused(b"not a picture", SIDE, MEMORY).is_empty());
    assert!(!refused(b"", SIDE, MEMORY).is_empty());
}
