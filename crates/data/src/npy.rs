//! NumPy's format `npy`: pixels and labels, in either byte order and either order of axes.
//!
//! A file is `\x93NUMPY`, two bytes of version, the length of the header (`u16` in version 1, `u32` later), a Python
//! dictionary with `descr`, `fortran_order` and `shape`, and the values.
//!
//! ```
//! use tarrl_data::npy;
//!
//! let bytes = npy::encode_u8(&[2, 2, 2], &[0, 1, 2, 3, 4, 5, 6, 7]);
//! let images = npy::parse_images(&bytes[..], "images.npy".as_ref())?;
//! assert_eq!((images.dim(), images[[1, 0, 1, 0]]), ((2, 2, 2, 1), 5));
//! # Ok::<(), tarrl_data::Error>(())
//! ```

use std::io::{self, Read};
use std::path::Path;

use ndarray::Array4;

use crate::arrays::{self, AGAIN, MOST_LABELS};
use crate::error::{Result, io_error, malformed};

/// What a file begins with.
pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";
/// The longest header that is read; NumPy itself believes no more than 10,000 bytes.
const MOST_HEADER: usize = 1 << 16;
/// Axes of an array.
const MOST_AXES: usize = 8;
/// Values that are converted at a time.
const CHUNK: u64 = 1 << 16;

/// How a value is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Element {
    /// `u`, `i`, `f` or `b`.
    kind: u8,
    size: usize,
    is_big_endian: bool,
}

#[derive(Debug, PartialEq)]
struct Header {
    element: Element,
    fortran: bool,
    shape: Vec<usize>,
}

/// Images `(n, h, w, c)` from an unpacked stream; `path` is for messages.
///
/// Bytes are taken as they are, other whole numbers if they lie in 0 to 255, and floating-point numbers in \[0, 1\] if they
/// are multiples of 1/255.
///
/// # Errors
/// If the file is damaged, holds objects, texts or other numbers than pixels, or its shape is not one of images.
pub fn parse_images(stream: impl Read, path: &Path) -> Result<Array4<u8>> {
    parse_severity(stream, path, None)
}

/// As [`parse_images`], of five equal blocks of images, one after the other, only block `severity`, counted from 1.
pub(crate) fn parse_severity(mut stream: impl Read, path: &Path, severity: Option<u8>) -> Result<Array4<u8>> {
    let header = Header::read(&mut stream, path)?;
    let Header { mut shape, element, fortran } = header;
    let mut values = arrays::check_pixels(&shape, path)?;
    if let Some(severity) = severity {
        shape[0] = fifth(shape[0], path)?;
        values /= 5;
        if fortran {
            let cause = "its first axis varies fastest, so that severities do not follow each other";
            return Err(malformed(path, cause, "save it in C order"));
        }
        let before = values * (u64::from(severity) - 1) * element.size as u64;
        let skipped = io::copy(&mut (&mut stream).take(before), &mut io::sink());
        skipped.map_err(|e| io_error(path, "read the data", e))?;
    }
    let mut pixels = Vec::new();
    element.each(&mut stream, path, values, &mut |value| {
        pixels.push(value.pixel()?);
        Some(())
    })?;
    if severity.is_none() {
        expect_end(&mut stream, path)?;
    }
    arrays::images(&shape, fortran, pixels, path)
}

/// Labels `(n)` from an unpacked stream of an array `(n)` or `(n, 1)`; `path` is for messages.
///
/// # Errors
/// If the file is damaged, its numbers are not whole, or an image has several labels.
pub fn parse_labels(mut stream: impl Read, path: &Path) -> Result<Vec<u16>> {
    let Header { shape, element, .. } = Header::read(&mut stream, path)?;
    let count = shape.iter().try_fold(1u64, |product, &side| product.checked_mul(side as u64));
    let Some(count) = count.filter(|&count| count <= MOST_LABELS) else {
        let cause = format!("an array of shape {shape:?} has more than {MOST_LABELS} values");
        return Err(malformed(path, cause, "check that it is the file of labels"));
    };
    let mut numbers = Vec::new();
    element.each(&mut stream, path, count, &mut |value| {
        numbers.push(value.whole()?);
        Some(())
    })?;
    expect_end(&mut stream, path)?;
    arrays::labels(&shape, &numbers, path)
}

/// A fifth of `n` images.
pub(crate) fn fifth(n: usize, path: &Path) -> Result<usize> {
    if n > 0 && n.is_multiple_of(5) {
        return Ok(n / 5);
    }
    let cause = format!("{n} images are not five severities of equally many");
    Err(malformed(path, cause, "leave out the severity"))
}

/// A file with an array of bytes in C order.
///
/// # Panics
/// If the shape is not that of the values.
#[track_caller]
pub fn encode_u8(shape: &[usize], values: &[u8]) -> Vec<u8> {
    encode("|u1", shape, values.len(), values.iter().copied())
}

/// A file with an array of 32-bit whole numbers in C order.
///
/// # Panics
/// If the shape is not that of the values.
#[track_caller]
pub fn encode_u32(shape: &[usize], values: &[u32]) -> Vec<u8> {
    encode("<u4", shape, values.len(), values.iter().flat_map(|value| value.to_le_bytes()))
}

/// A file with an array of 32-bit floating-point numbers in C order.
///
/// # Panics
/// If the shape is not that of the values.
#[track_caller]
pub fn encode_f32(shape: &[usize], values: &[f32]) -> Vec<u8> {
    encode("<f4", shape, values.len(), values.iter().flat_map(|value| value.to_le_bytes()))
}

#[track_caller]
fn encode(descr: &str, shape: &[usize], count: usize, bytes: impl Iterator<Item = u8>) -> Vec<u8> {
    assert_eq!(shape.iter().product::<usize>(), count, "npy: {count} values for an array {shape:?}");
    let sides: String = shape.iter().map(|side| format!("{side}, ")).collect();
    let sides = if shape.len() == 1 { sides.trim_end() } else { sides.trim_end_matches(", ") };
    let dictionary = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sides}), }}");
    // The values begin at a multiple of 64 bytes, after a line feed.
    let padding = 63 - (MAGIC.len() + 4 + dictionary.len()) % 64;
    let header = format!("{dictionary}{}\n", " ".repeat(padding));
    let length = u16::try_from(header.len()).expect("a header of at most eight axes is short");
    let mut file = [MAGIC, &[1, 0], &length.to_le_bytes(), header.as_bytes()].concat();
    file.extend(bytes);
    file
}

impl Header {
    fn read(stream: &mut impl Read, path: &Path) -> Result<Self> {
        let again = |cause: &str| malformed(path, cause.to_owned(), AGAIN);
        let mut start = [0; 8];
        let cut = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => again("the file ends inside its header"),
            _ => io_error(path, "read the header", e),
        };
        stream.read_exact(&mut start).map_err(cut)?;
        if !start.starts_with(MAGIC) {
            return Err(again("it does not begin as a file of NumPy"));
        }
        let length = match start[6] {
            1 => {
                let mut length = [0; 2];
                stream.read_exact(&mut length).map_err(cut)?;
                usize::from(u16::from_le_bytes(length))
            }
            2 | 3 => {
                let mut length = [0; 4];
                stream.read_exact(&mut length).map_err(cut)?;
                u32::from_le_bytes(length) as usize
            }
            version => return Err(again(&format!("its version {version} is unknown"))),
        };
        if length > MOST_HEADER {
            return Err(again(&format!("its header announces {length} bytes")));
        }
        let mut text = vec![0; length];
        stream.read_exact(&mut text).map_err(cut)?;
        let text = String::from_utf8(text).map_err(|_| again("its header is no text"))?;
        let fields = dictionary(&text).ok_or_else(|| again(&format!("its header is {:?}", text.trim())))?;
        let element = Element::parse(&fields.descr).ok_or_else(|| {
            let cause = format!("its values have the type {}, which are no numbers", fields.descr);
            malformed(path, cause, "save them as numbers, such as uint8 for images and int64 for labels")
        })?;
        Ok(Header { element, fortran: fields.fortran, shape: fields.shape })
    }
}

#[derive(Debug)]
struct Fields {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

/// The dictionary of a header.
fn dictionary(text: &str) -> Option<Fields> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let quote = rest.chars().next().filter(|c| ['\'', '"'].contains(c))?;
        let (key, after) = rest[1..].split_once(quote)?;
        let value = after.trim_start().strip_prefix(':')?.trim_start();
        let (taken, after) = match key {
            "descr" => {
                let quote = value.chars().next()?;
                // A list of fields is no type of numbers; its text serves the message.
                let (text, after) = match quote {
                    '\'' | '"' => value[1..].split_once(quote)?,
                    '[' => value.split_once(']')?,
                    _ => return None,
                };
                (descr.replace(text.to_owned()).is_none(), after)
            }
            "fortran_order" => {
                let (is, after) = match value.strip_prefix("True") {
                    Some(after) => (true, after),
                    None => (false, value.strip_prefix("False")?),
                };
                (fortran.replace(is).is_none(), after)
            }
            "shape" => {
                let (sides, after) = value.strip_prefix('(')?.split_once(')')?;
                let sides = sides.trim().trim_end_matches(',');
                let parse = |side: &str| side.trim().trim_end_matches('L').parse::<usize>().ok();
                let sides = match sides {
                    "" => Vec::new(),
                    sides => sides.split(',').map(parse).collect::<Option<Vec<_>>>()?,
                };
                (sides.len() <= MOST_AXES && shape.replace(sides).is_none(), after)
            }
            _ => return None,
        };
        let after = after.trim_start();
        if !taken || !(after.is_empty() || after.starts_with(',')) {
            return None;
        }
        rest = after.strip_prefix(',').unwrap_or(after).trim_start();
    }
    Some(Fields { descr: descr?, fortran: fortran?, shape: shape? })
}

/// A stored value.
enum Number {
    Whole(i64),
    Float(f64),
}

/// The largest distance of `255 v` from a whole number where `v` was a byte divided by 255 in 32 bits: half a unit in the
/// last place of a number below 1, times 255, with room for a division by a reciprocal.
const NEAR: f64 = 1e-4;

impl Number {
    fn pixel(self) -> Option<u8> {
        match self {
            Number::Whole(value) => u8::try_from(value).ok(),
            Number::Float(value) => {
                let scaled = 255.0 * value;
                let is_level =
                    (scaled - scaled.round()).abs() <= NEAR && (-NEAR..=255.0 + NEAR).contains(&scaled);
                is_level.then_some(scaled.round() as u8)
            }
        }
    }

    fn whole(self) -> Option<i64> {
        match self {
            Number::Whole(value) => Some(value),
            Number::Float(value) => (value.fract() == 0.0 && value.abs() < 1e15).then_some(value as i64),
        }
    }
}

impl Element {
    fn parse(descr: &str) -> Option<Self> {
        let mut chars = descr.chars();
        let order = chars.next()?;
        let kind = u8::try_from(chars.next()?).ok()?;
        let size: usize = chars.as_str().parse().ok()?;
        let sizes: &[usize] = match kind {
            b'u' | b'i' => &[1, 2, 4, 8],
            b'f' => &[4, 8],
            b'b' => &[1],
            _ => return None,
        };
        let is_big_endian = match order {
            '>' => true,
            '<' | '|' | '=' => false,
            _ => return None,
        };
        sizes.contains(&size).then_some(Element { kind, size, is_big_endian })
    }

    fn number(self, bytes: &[u8]) -> Number {
        let mut wide = [0; 8];
        let size = self.size;
        wide[..size].copy_from_slice(bytes);
        if self.is_big_endian {
            wide[..size].reverse();
        }
        let bits = u64::from_le_bytes(wide);
        match (self.kind, size) {
            (b'f', 4) => Number::Float(f32::from_bits(bits as u32).into()),
            (b'f', _) => Number::Float(f64::from_bits(bits)),
            // Above the largest of 64 bits with a sign is neither a pixel nor a label.
            (b'i', _) => Number::Whole((bits << (64 - 8 * size)) as i64 >> (64 - 8 * size)),
            _ => Number::Whole(i64::try_from(bits).unwrap_or(i64::MAX)),
        }
    }

    /// Gives `count` values of the stream to `take`, which refuses with `None`. Memory grows with what is there.
    fn each(
        self,
        stream: &mut impl Read,
        path: &Path,
        count: u64,
        take: &mut dyn FnMut(Number) -> Option<()>,
    ) -> Result<()> {
        let mut buffer = vec![0; CHUNK.min(count) as usize * self.size];
        let mut done = 0;
        while done < count {
            let bytes = &mut buffer[..CHUNK.min(count - done) as usize * self.size];
            stream.read_exact(bytes).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => {
                    malformed(path, format!("the file is cut off: it announces {count} values"), AGAIN)
                }
                _ => io_error(path, "read the data", e),
            })?;
            for (i, value) in bytes.chunks_exact(self.size).enumerate() {
                if take(self.number(value)).is_none() {
                    let shown = match self.number(value) {
                        Number::Whole(value) => value.to_string(),
                        Number::Float(value) => value.to_string(),
                    };
                    let cause = format!("value {} is {shown}", done + i as u64);
                    let remedy = "pixels are whole numbers in 0 to 255 or multiples of 1/255 in 0 to 1, without \
                                  normalization, and labels whole numbers: save images as uint8";
                    return Err(malformed(path, cause, remedy));
                }
            }
            done += (bytes.len() / self.size) as u64;
        }
        Ok(())
    }
}

fn expect_end(stream: &mut impl Read, path: &Path) -> Result<()> {
    match stream.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(malformed(path, "bytes follow after the values that the header announces", AGAIN)),
        Err(e) => Err(io_error(path, "read the data", e)),
    }
}

#[cfg(test)]
mod tests;
