//! MATLAB's format of version 5, as SVHN has it: `X` `(32, 32, 3, n)` and `y` `(n, 1)`, the first axis varying fastest.
//!
//! After a header of 128 bytes come elements: a type, a size and data, padded to 8 bytes. An element of type 15 holds another
//! one, packed by zlib; one of type 14 is a matrix of elements for flags, sides, name and values.

use std::io::{self, Read};
use std::path::Path;

use flate2::read::ZlibDecoder;
use ndarray::Array4;

use crate::arrays::{self, AGAIN, MOST_PIXELS};
use crate::error::{Result, io_error, malformed};

const BYTE: u32 = 2;
const INT_32: u32 = 5;
const DOUBLE: u32 = 9;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
/// What a header of a matrix takes at most; the rest are values.
const MOST_HEADER: u64 = 1 << 12;
const MOST_MATRICES: usize = 64;

/// Images `(n, h, w, 3)` and labels `(n)` of the matrices `X` and `y`; the label 10 is that of the digit 0.
///
/// # Errors
/// If the file is damaged, of another version, or has no such matrices.
pub fn parse(mut stream: impl Read, path: &Path) -> Result<(Array4<u8>, Vec<u16>)> {
    let damaged = |cause: &str| malformed(path, cause.to_owned(), AGAIN);
    let mut header = [0; 128];
    stream.read_exact(&mut header).map_err(|e| reading(path, e))?;
    if header.starts_with(b"MATLAB 7.3") {
        let remedy = "save it with the option -v7, or as npz";
        return Err(malformed(path, "it is of version 7.3, which is HDF5", remedy));
    }
    if header[124..] != [0, 1, b'I', b'M'] {
        return Err(damaged("it is no little-endian file of MATLAB's version 5"));
    }
    let (mut images, mut labels) = (None, None);
    for _ in 0..MOST_MATRICES {
        let Some(tag) = tag(&mut stream, path)? else { break };
        if tag.is_small {
            continue;
        }
        let mut content = (&mut stream).take(tag.size.into());
        let matrix = match tag.kind {
            COMPRESSED => {
                let mut inner = ZlibDecoder::new(&mut content);
                match self::tag(&mut inner, path)? {
                    Some(tag) if tag.kind == MATRIX => matrix(&mut inner.take(tag.size.into()), path)?,
                    _ => None,
                }
            }
            MATRIX => matrix(&mut content, path)?,
            _ => None,
        };
        io::copy(&mut content, &mut io::sink()).map_err(|e| reading(path, e))?;
        if tag.kind != COMPRESSED {
            let padding = u64::from(tag.size).next_multiple_of(8) - u64::from(tag.size);
            io::copy(&mut (&mut stream).take(padding), &mut io::sink()).map_err(|e| reading(path, e))?;
        }
        match matrix {
            Some(matrix) if matrix.name == "X" => images = Some(matrix),
            Some(matrix) if matrix.name == "y" => labels = Some(matrix),
            _ => {}
        }
    }
    let (Some(images), Some(labels)) = (images, labels) else {
        return Err(malformed(path, "it has no matrices X and y", "give images as X and labels as y"));
    };
    let &[h, w, c, n] = &images.sides[..] else {
        let cause = format!("X has the sides {:?}, not those of color images", images.sides);
        return Err(malformed(path, cause, "give X as (height, width, 3, images)"));
    };
    // Reversed sides in C order; images are (n, c, w, h) then.
    let pixels = Array4::from_shape_vec((n, c, w, h), images.values).expect("the values were counted");
    let pixels = pixels.permuted_axes([0, 3, 2, 1]).as_standard_layout().into_owned();
    let numbers: Vec<i64> =
        labels.values.iter().map(|&label| if label == 10 { 0 } else { label.into() }).collect();
    let labels = arrays::labels(&labels.sides, &numbers, path)?;
    arrays::check_pair(n, labels.len(), path)?;
    if c != 3 {
        return Err(damaged(&format!("its images have {c} channels, not 3")));
    }
    Ok((pixels, labels))
}

struct Tag {
    kind: u32,
    size: u32,
    /// The data of the short form, at most four bytes, which were read with the tag.
    data: [u8; 4],
    is_small: bool,
}

struct Matrix {
    name: String,
    sides: Vec<usize>,
    values: Vec<u8>,
}

/// The next tag; `None` at the end of the stream.
fn tag(stream: &mut impl Read, path: &Path) -> Result<Option<Tag>> {
    let mut bytes = Vec::new();
    stream.take(8).read_to_end(&mut bytes).map_err(|e| reading(path, e))?;
    let Ok([a, b, c, d, data @ ..]) = <[u8; 8]>::try_from(bytes.as_slice()) else {
        let cut = malformed(path, "it ends inside an element", AGAIN);
        return if bytes.is_empty() { Ok(None) } else { Err(cut) };
    };
    let (low, high) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
    Ok(Some(match high {
        0 => Tag { kind: low.into(), size: u32::from_le_bytes(data), data, is_small: false },
        size @ 1..=4 => Tag { kind: low.into(), size: size.into(), data, is_small: true },
        _ => return Err(malformed(path, "an element has an unknown form", AGAIN)),
    }))
}

/// An element of a matrix with its data, of at most `most` bytes.
fn element(stream: &mut impl Read, path: &Path, most: u64) -> Result<(u32, Vec<u8>)> {
    let cut = || malformed(path, "a matrix ends too early", AGAIN);
    let tag = tag(stream, path)?.ok_or_else(cut)?;
    let size = u64::from(tag.size);
    if tag.is_small {
        return Ok((tag.kind, tag.data[..tag.size as usize].to_vec()));
    }
    if size > most {
        return Err(malformed(path, format!("an element has {size} bytes, more than are read"), AGAIN));
    }
    let mut data = Vec::new();
    stream.by_ref().take(size).read_to_end(&mut data).map_err(|e| reading(path, e))?;
    if (data.len() as u64) < size {
        return Err(cut());
    }
    io::copy(&mut stream.by_ref().take(size.next_multiple_of(8) - size), &mut io::sink())
        .map_err(|e| reading(path, e))?;
    Ok((tag.kind, data))
}

/// A matrix of bytes, or of numbers that are bytes; `None` for one of another class.
fn matrix(stream: &mut impl Read, path: &Path) -> Result<Option<Matrix>> {
    let damaged = |cause: String| malformed(path, cause, AGAIN);
    let (_, flags) = element(stream, path, MOST_HEADER)?;
    // Classes 6 to 15 are numbers: doubles, singles and whole numbers; a bit marks complex ones.
    let is_numeric = flags.first().is_some_and(|class| (6..=15).contains(class))
        && flags.get(1).is_some_and(|flags| flags & 0x08 == 0);
    if !is_numeric {
        return Ok(None);
    }
    let (kind, sides) = element(stream, path, MOST_HEADER)?;
    let sides: Option<Vec<usize>> =
        sides.chunks(4).map(|side| usize::try_from(i32::from_le_bytes(side.try_into().ok()?)).ok()).collect();
    let (Some(sides), INT_32) = (sides, kind) else {
        return Err(damaged("the sides of a matrix are damaged".into()));
    };
    let (_, name) = element(stream, path, MOST_HEADER)?;
    let name = String::from_utf8_lossy(&name).into_owned();
    if !["X", "y"].contains(&name.as_str()) {
        return Ok(None);
    }
    let count = arrays::check_pixels(&sides, path)?;
    // Values are stored in the narrowest type that holds them.
    let (kind, data) = element(stream, path, count.saturating_mul(8).min(MOST_PIXELS))?;
    let values = match kind {
        BYTE => data,
        DOUBLE => {
            let byte = |value: &[u8]| {
                let value = f64::from_le_bytes(value.try_into().ok()?);
                (value.fract() == 0.0 && (0.0..=255.0).contains(&value)).then_some(value as u8)
            };
            let values: Option<Vec<u8>> = data.chunks(8).map(byte).collect();
            values.ok_or_else(|| damaged(format!("{name} has values that are no bytes")))?
        }
        kind => return Err(damaged(format!("{name} has values of type {kind}, not bytes or doubles"))),
    };
    if values.len() as u64 != count {
        return Err(damaged(format!("{name} has {} values for the sides {sides:?}", values.len())));
    }
    Ok(Some(Matrix { name, sides, values }))
}

fn reading(path: &Path, error: io::Error) -> crate::error::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => malformed(path, "the file is cut off", AGAIN),
        _ => io_error(path, "read the data", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn element(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn matrix(class: u8, sides: &[i32], name: u8, (kind, values): (u32, &[u8])) -> Vec<u8> {
        let sides: Vec<u8> = sides.iter().flat_map(|side| side.to_le_bytes()).collect();
        let parts = [
            element(6, &[class, 0, 0, 0, 0, 0, 0, 0]),
            element(INT_32, &sides),
            // The short form.
            vec![1, 0, 1, 0, name, 0, 0, 0],
            element(kind, values),
        ];
        element(MATRIX, &parts.concat())
    }

    fn file(parts: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![b' '; 124];
        bytes.extend([0, 1, b'I', b'M']);
        bytes.extend(parts.concat());
        bytes
    }

    fn packed(matrix: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(matrix).unwrap();
        let data = out.finish().unwrap();
        [&COMPRESSED.to_le_bytes(), &(data.len() as u32).to_le_bytes()[..], &data].concat()
    }

    /// Byte `r + 2 c + 6 k + 18 n` of X is pixel (n, r, c, k) of images of 2 × 3.
    fn parts() -> [Vec<u8>; 2] {
        let pixels: Vec<u8> = (0..36).collect();
        [matrix(9, &[2, 3, 3, 2], b'X', (BYTE, &pixels)), matrix(9, &[2, 1], b'y', (BYTE, &[10, 3]))]
    }

    fn read(bytes: &[u8]) -> Result<(Array4<u8>, Vec<u16>)> {
        parse(bytes, Path::new("train_32x32.mat"))
    }

    #[test]
    fn columns_come_first_and_the_label_10_is_0() {
        let [x, y] = parts();
        for bytes in [file(&[x.clone(), y.clone()]), file(&[packed(&x), packed(&y)])] {
            let (images, labels) = read(&bytes).unwrap();
            assert_eq!((images.dim(), labels), ((2, 2, 3, 3), vec![0, 3]));
            let want = |n: usize, r: usize, c: usize, k: usize| (r + 2 * c + 6 * k + 18 * n) as u8;
            for ((n, r, c, k), &byte) in images.indexed_iter() {
                assert_eq!(byte, want(n, r, c, k), "{n} {r} {c} {k}");
            }
        }
    }

    #[test]
    fn labels_may_be_doubles() {
        let [x, _] = parts();
        let doubles: Vec<u8> = [10.0f64, 9.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let y = matrix(6, &[2, 1], b'y', (DOUBLE, &doubles));
        assert_eq!(read(&file(&[x, y])).unwrap().1, [0, 9]);
    }

    #[test]
    fn every_kind_of_damage_is_named() {
        let [x, y] = parts();
        let huge = matrix(9, &[i32::MAX, i32::MAX, 3, 2], b'X', (BYTE, &[0]));
        let short = matrix(9, &[2, 3, 3, 3], b'X', (BYTE, &[0; 36]));
        let good = file(&[x.clone(), y.clone()]);
        let mut hdf5 = good.clone();
        hdf5[..10].copy_from_slice(b"MATLAB 7.3");
        let cases = [
            (file(std::slice::from_ref(&x)), "no matrices X and y"),
            (good[..good.len() - 7].to_vec(), "ends too early"),
            (good[..100].to_vec(), "cut off"),
            (hdf5, "HDF5"),
            (vec![0; 200], "no little-endian file"),
            (file(&[huge, y.clone()]), "more than 4294967296 values"),
            (file(&[short, y]), "36 values for the sides"),
            (file(&[x, matrix(9, &[1, 1], b'y', (BYTE, &[3]))]), "1 labels for 2 images"),
        ];
        for (bytes, cause) in cases {
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains(cause) && error.contains("train_32x32.mat"), "{cause}: {error}");
        }
    }
}
