//! Arrays of other programs as images and labels: their axes, their values, and what is refused of them.

use std::path::Path;

use ndarray::{Array4, ArrayD, IxDyn, ShapeBuilder};

use crate::error::{Result, malformed};

/// The most pixels of one split that are held in memory, one byte each.
pub(crate) const MOST_PIXELS: u64 = 1 << 32;

/// The most labels of one split.
pub(crate) const MOST_LABELS: u64 = 1 << 28;

/// Checks, before anything is allocated, that an array of pixels has images and is not too large; returns their number of
/// values.
pub(crate) fn check_pixels(shape: &[usize], path: &Path) -> Result<u64> {
    let values = shape.iter().try_fold(1u64, |product, &side| product.checked_mul(side as u64));
    match values {
        Some(0) => Err(malformed(path, format!("an array of shape {shape:?} holds no image"), AGAIN)),
        Some(values) if values <= MOST_PIXELS => Ok(values),
        _ => Err(malformed(
            path,
            format!("an array of shape {shape:?} has more than {MOST_PIXELS} values, the most that are read"),
            "take fewer images, or bring them to a smaller size before",
        )),
    }
}

/// Images `(n, h, w, c)` from an array `(n, h, w)`, `(n, h, w, c)` or `(n, c, h, w)` with c = 1 or 3, in C order or, if
/// `fortran`, with the first axis varying fastest.
pub(crate) fn images(shape: &[usize], fortran: bool, pixels: Vec<u8>, path: &Path) -> Result<Array4<u8>> {
    let is_color = |side: usize| side == 1 || side == 3;
    let array = ArrayD::from_shape_vec(IxDyn(shape).set_f(fortran), pixels).expect("the values were counted");
    let array = match *shape {
        [_, _, _] => array.insert_axis(ndarray::Axis(3)),
        [_, _, _, c] if is_color(c) => array,
        [_, c, _, _] if is_color(c) => array.permuted_axes(IxDyn(&[0, 2, 3, 1])),
        _ => {
            return Err(malformed(
                path,
                format!("an array of shape {shape:?} is not one of gray or color images"),
                "give images as (n, h, w), (n, h, w, 3) or (n, 3, h, w)",
            ));
        }
    };
    let array = array.into_dimensionality().expect("it has four axes");
    Ok(if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() })
}

/// One label for each image from an array `(n)` or `(n, 1)`.
pub(crate) fn labels(shape: &[usize], numbers: &[i64], path: &Path) -> Result<Vec<u16>> {
    match *shape {
        [_] | [_, 1] => {}
        [_, columns] => {
            return Err(malformed(
                path,
                format!("every image has {columns} labels, so that classes do not exclude each other"),
                "take one column of them, or a dataset with one label for each image",
            ));
        }
        _ => {
            let cause = format!("an array of shape {shape:?} is not one of labels");
            return Err(malformed(path, cause, "give labels as (n) or (n, 1)"));
        }
    }
    let label = |(i, &number): (usize, &i64)| {
        u16::try_from(number).map_err(|_| {
            let cause = format!("label {i} is {number}, which is not in 0 to 65,535");
            malformed(path, cause, "number the classes from 0")
        })
    };
    numbers.iter().enumerate().map(label).collect()
}

/// Checks that there is a label for every image.
pub(crate) fn check_pair(images: usize, labels: usize, path: &Path) -> Result<()> {
    if images == labels {
        return Ok(());
    }
    let cause = format!("there are {labels} labels for {images} images");
    Err(malformed(path, cause, "take both from the same split of the same dataset"))
}

pub(crate) const AGAIN: &str = "copy or download the file again";

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixel (n, y, x, c) has the value 100 n + 10 y + 3 x + c, whatever the order of axes.
    #[test]
    fn every_order_of_axes_gives_the_same_images() {
        let value = |n: usize, y: usize, x: usize, c: usize| (100 * n + 10 * y + 3 * x + c) as u8;
        let path = Path::new("images");
        let hwc = Array4::from_shape_fn((2, 4, 5, 3), |(n, y, x, c)| value(n, y, x, c));
        let chw = Array4::from_shape_fn((2, 3, 4, 5), |(n, c, y, x)| value(n, y, x, c));
        let flat = |array: &Array4<u8>| array.iter().copied().collect::<Vec<_>>();
        assert_eq!(images(&[2, 4, 5, 3], false, flat(&hwc), path).unwrap(), hwc);
        assert_eq!(images(&[2, 3, 4, 5], false, flat(&chw), path).unwrap(), hwc);
        // In Fortran order the values come as those of the transposed array in C order.
        let fortran: Vec<u8> = hwc.t().iter().copied().collect();
        assert_eq!(images(&[2, 4, 5, 3], true, fortran, path).unwrap(), hwc);
        let gray = Array4::from_shape_fn((2, 4, 5, 1), |(n, y, x, _)| value(n, y, x, 0));
        assert_eq!(images(&[2, 4, 5], false, flat(&gray), path).unwrap(), gray);
    }

    #[test]
    fn volumes_and_labels_that_do_not_exclude_each_other_are_refused() {
        let path = Path::new("file");
        let error = images(&[1, 4, 4, 4], false, vec![0; 64], path).unwrap_err().to_string();
        assert!(error.contains("not one of gray or color images"), "{error}");
        assert_eq!(labels(&[2, 1], &[7, 0], path).unwrap(), [7, 0]);
        let error = labels(&[2, 14], &[0; 28], path).unwrap_err().to_string();
        assert!(error.contains("14 labels"), "{error}");
        let error = labels(&[1], &[-1], path).unwrap_err().to_string();
        assert!(error.contains("label 0 is -1"), "{error}");
    }

    #[test]
    fn sizes_are_checked_before_anything_is_allocated() {
        for shape in [[usize::MAX, 2, 2], [1 << 20, 1 << 10, 1 << 10]] {
            assert!(check_pixels(&shape, Path::new("x")).unwrap_err().to_string().contains("4294967296"));
        }
        assert!(check_pixels(&[0, 4, 4], Path::new("x")).unwrap_err().to_string().contains("no image"));
    }
}
