//! Images of any size to one size: the shorter side to a length, then the middle, as torchvision's `Resize` and `CenterCrop` do.
//!
//! `Resize` of a Pillow image is Pillow's `resize` with `BILINEAR`: a triangle as wide as the reduction, so that it averages over
//! all source pixels of a result, applied to columns and then to rows in whole numbers of 22 bits behind the point, with
//! results rounded to bytes in between. The same is computed here, and gives the same bytes.

use std::path::Path;

use ndarray::{Array4, ArrayView3, Axis, Slice};

use crate::arrays::MOST_PIXELS;
use crate::error::{Result, malformed};

/// How images are brought to one size; by default they are left as they are.
///
/// ```
/// use ndarray::Array3;
/// use tarrl_data::Resizing;
///
/// let image = Array3::from_elem((300, 400, 3), 7);
/// let small = Resizing { shorter_side: Some(256), crop: Some(224) }.apply(image.view()).unwrap();
/// assert_eq!((small.dim(), small[[0, 0, 0]]), ((224, 224, 3), 7));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resizing {
    /// The length that the shorter side gets; the other one keeps the ratio, rounded down.
    pub shorter_side: Option<u32>,
    /// The side of the square that is cut from the middle after that.
    pub crop: Option<u32>,
}

/// Bits behind the point of a weight.
const BITS: u32 = 22;

impl Resizing {
    /// Whether images stay as they are.
    pub fn is_none(&self) -> bool {
        *self == Resizing::default()
    }

    /// The image `(h, w, c)` in its new size.
    ///
    /// # Errors
    /// If a side would be 0, or the crop is larger than the image.
    pub fn apply(&self, image: ArrayView3<'_, u8>) -> std::result::Result<ndarray::Array3<u8>, String> {
        let mut image = image.as_standard_layout().into_owned();
        let (h, w, c) = image.dim();
        if let Some(side) = self.shorter_side.map(|side| side as usize).filter(|&side| side != h.min(w)) {
            let long = |long: usize, short: usize| side * long / short;
            let (rows, columns) = if w <= h { (long(h, w), side) } else { (side, long(w, h)) };
            if rows == 0 || columns == 0 || rows.max(columns) > LONGEST_SIDE {
                return Err(format!("{h}×{w} cannot become {rows}×{columns}"));
            }
            let wide = if columns == w {
                image
            } else {
                let weights = weights(w, columns);
                ndarray::Array3::from_shape_fn((h, columns, c), |(y, x, k)| {
                    weights[x].sum(|source| image[[y, source, k]])
                })
            };
            image = if rows == h {
                wide
            } else {
                let weights = weights(h, rows);
                ndarray::Array3::from_shape_fn((rows, columns, c), |(y, x, k)| {
                    weights[y].sum(|source| wide[[source, x, k]])
                })
            };
        }
        let (h, w, _) = image.dim();
        let Some(side) = self.crop.map(|side| side as usize) else { return Ok(image) };
        if side == 0 || side > h.min(w) {
            return Err(format!("no square of {side} pixels can be cut from {h}×{w}"));
        }
        let (top, left) = (half_to_even(h - side), half_to_even(w - side));
        let square = |at: usize| Slice::from(at..at + side);
        Ok(image.slice_axis(Axis(0), square(top)).slice_axis(Axis(1), square(left)).to_owned())
    }

    /// All images of an array, each in its new size.
    pub(crate) fn apply_all(&self, images: Array4<u8>, path: &Path) -> Result<Array4<u8>> {
        if self.is_none() {
            return Ok(images);
        }
        let mut stack = Stack::default();
        for image in images.outer_iter() {
            let image = self.apply(image).map_err(|cause| malformed(path, cause, REMEDY))?;
            stack.push(&image, path)?;
        }
        Ok(stack.finish())
    }
}

pub(crate) const REMEDY: &str = "choose another size to resize or crop to";

/// No side may become longer.
const LONGEST_SIDE: usize = 4096;

/// Half of `n`, where that is no whole number the nearest even one, as Python rounds.
fn half_to_even(n: usize) -> usize {
    let half = n / 2;
    if n.is_multiple_of(2) || half.is_multiple_of(2) { half } else { half + 1 }
}

/// The weights of one pixel of a result.
struct Weights {
    first: usize,
    weights: Vec<i64>,
}

impl Weights {
    fn sum(&self, source: impl Fn(usize) -> u8) -> u8 {
        let half = 1 << (BITS - 1);
        let terms =
            self.weights.iter().enumerate().map(|(i, weight)| weight * i64::from(source(self.first + i)));
        ((half + terms.sum::<i64>()) >> BITS).clamp(0, 255) as u8
    }
}

/// The weights of each of `to` pixels among `from`.
fn weights(from: usize, to: usize) -> Vec<Weights> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let of = |at: usize| {
        let center = (at as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let triangle = |source: usize| (1.0 - ((source as f64 - center + 0.5) / support).abs()).max(0.0);
        let sum: f64 = (first..end).map(triangle).sum();
        let fixed = |source: usize| (0.5 + triangle(source) / sum * f64::from(1u32 << BITS)) as i64;
        Weights { first, weights: (first..end).map(fixed).collect() }
    };
    (0..to).map(of).collect()
}

/// Images of one size, gray until the first one in color.
#[derive(Default)]
pub(crate) struct Stack {
    size: (usize, usize),
    channels: usize,
    n: usize,
    pixels: Vec<u8>,
}

impl Stack {
    /// Appends an image `(h, w, 1)` or `(h, w, 3)`.
    pub(crate) fn push(&mut self, image: &ndarray::Array3<u8>, path: &Path) -> Result<()> {
        let (h, w, channels) = image.dim();
        if self.n == 0 {
            (self.size, self.channels) = ((h, w), channels);
        }
        if (h, w) != self.size {
            let cause = format!("it is {h}×{w}, the first image {}×{}", self.size.0, self.size.1);
            return Err(malformed(
                path,
                cause,
                "bring all images to one size, here with a resize and a crop",
            ));
        }
        if channels > self.channels {
            self.channels = channels;
            self.pixels = self.pixels.iter().flat_map(|&byte| [byte; 3]).collect();
        }
        let repeat = self.channels / channels;
        if (self.pixels.len() + repeat * image.len()) as u64 > MOST_PIXELS {
            let cause =
                format!("the images have more than {MOST_PIXELS} values in all, the most that are held");
            return Err(malformed(path, cause, "take fewer images, or a smaller size to resize and crop to"));
        }
        match repeat {
            1 => self.pixels.extend(image.iter()),
            _ => self.pixels.extend(image.iter().flat_map(|&byte| [byte; 3])),
        }
        self.n += 1;
        Ok(())
    }

    #[cfg(feature = "parquet")]
    pub(crate) fn len(&self) -> usize {
        self.n
    }

    /// `(n, h, w, c)`.
    pub(crate) fn finish(self) -> Array4<u8> {
        let shape = (self.n, self.size.0, self.size.1, self.channels);
        Array4::from_shape_vec(shape, self.pixels).expect("every image was checked to have this size")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    /// The byte of (y, x, k) is `7 (37 y + 101 x + 59 k) mod 251`.
    fn image(h: usize, w: usize, c: usize) -> Array3<u8> {
        Array3::from_shape_fn((h, w, c), |(y, x, k)| ((37 * y + 101 * x + 59 * k) * 7 % 251) as u8)
    }

    fn apply(image: &Array3<u8>, shorter_side: Option<u32>, crop: Option<u32>) -> Vec<Vec<u8>> {
        let found = Resizing { shorter_side, crop }.apply(image.view()).unwrap();
        found.outer_iter().map(|row| row.iter().copied().collect()).collect()
    }

    /// Pillow 13.0: `Image.fromarray(a).resize(size, Image.BILINEAR)` with the size of torchvision's `Resize`, then `crop` with
    /// that of its `CenterCrop`.
    #[test]
    fn the_bytes_are_those_of_pillow() {
        let wide = [
            [105, 154, 69, 165, 147, 74],
            [118, 167, 82, 178, 160, 87],
            [132, 181, 96, 99, 170, 101],
            [89, 171, 109, 76, 181, 114],
        ];
        assert_eq!(apply(&image(7, 11, 1), Some(4), None), wide);
        assert_eq!(
            apply(&image(7, 11, 1), Some(4), Some(3)),
            [[69, 165, 147], [82, 178, 160], [96, 99, 170]]
        );
        let enlarged = [
            [0, 29, 117, 205, 185, 166, 159],
            [1, 30, 118, 206, 186, 167, 160],
            [4, 33, 121, 209, 189, 170, 163],
            [7, 36, 124, 212, 192, 173, 166],
            [8, 37, 125, 213, 193, 174, 167],
        ];
        assert_eq!(apply(&image(2, 3, 1), Some(5), None), enlarged);
        let color = [[120, 174, 85, 191, 102, 69], [61, 189, 100, 168, 117, 84]];
        assert_eq!(apply(&image(9, 5, 3), Some(3), Some(2)), color);
    }

    #[test]
    fn the_size_is_that_of_torchvision() {
        // int(256 · 500 / 333) = 384.
        let found =
            Resizing { shorter_side: Some(256), crop: None }.apply(image(333, 500, 1).view()).unwrap();
        assert_eq!(found.dim(), (256, 384, 1));
        assert_eq!([0, 1, 2, 3, 4, 5, 7].map(half_to_even), [0, 0, 1, 2, 2, 2, 4]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused =
            |shorter_side, crop| Resizing { shorter_side, crop }.apply(image(4, 5, 1).view()).unwrap_err();
        assert!(refused(None, Some(5)).contains("no square of 5 pixels can be cut from 4×5"));
        assert!(refused(Some(0), None).contains("cannot become 0×0"));
        assert!(refused(Some(u32::MAX), None).contains("cannot become"));
        let mut stack = Stack::default();
        stack.push(&image(2, 2, 1), Path::new("a")).unwrap();
        assert!(
            stack.push(&image(2, 3, 1), Path::new("b")).unwrap_err().to_string().contains("b: it is 2×3")
        );
        stack.push(&image(2, 2, 3), Path::new("c")).unwrap();
        let all = stack.finish();
        assert_eq!((all.dim(), all[[0, 1, 1, 2]]), ((2, 2, 2, 3), image(2, 2, 1)[[1, 1, 0]]));
    }
}
