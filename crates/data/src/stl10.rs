//! STL-10's binary format: bytes of images of 96 × 96 with three channels, each channel column by column, and labels from 1.

use std::io::Read;
use std::path::Path;

use ndarray::Array4;

use crate::arrays::{AGAIN, MOST_PIXELS};
use crate::error::{Result, io_error, malformed};

const SIDE: usize = 96;
/// Bytes of an image.
pub(crate) const IMAGE_BYTES: u64 = 3 * 96 * 96;

/// The classes in the order of their labels, which is not that of CIFAR-10.
pub(crate) const CLASSES: [&str; 10] =
    ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"];

/// Images `(n, 96, 96, 3)` of a stream.
///
/// # Errors
/// If it cannot be read, is empty, too long, or ends inside an image.
pub fn parse_images(stream: impl Read, path: &Path) -> Result<Array4<u8>> {
    let mut bytes = Vec::new();
    stream.take(MOST_PIXELS + 1).read_to_end(&mut bytes).map_err(|e| io_error(path, "read the data", e))?;
    let length = bytes.len() as u64;
    if length > MOST_PIXELS || length == 0 || !length.is_multiple_of(IMAGE_BYTES) {
        let cause =
            format!("{length} bytes are not whole images of {IMAGE_BYTES}, and at most {MOST_PIXELS}");
        return Err(malformed(path, cause, AGAIN));
    }
    let n = (length / IMAGE_BYTES) as usize;
    // (n, channel, column, row)
    let planes = Array4::from_shape_vec((n, 3, SIDE, SIDE), bytes).expect("the images are whole");
    Ok(planes.permuted_axes([0, 3, 2, 1]).as_standard_layout().into_owned())
}

/// Labels `(n)` from 0 of a stream with labels from 1 to 10.
///
/// # Errors
/// If it cannot be read, or holds another byte.
pub fn parse_labels(stream: impl Read, path: &Path) -> Result<Vec<u16>> {
    let mut bytes = Vec::new();
    stream.take(1 << 24).read_to_end(&mut bytes).map_err(|e| io_error(path, "read the data", e))?;
    match bytes.iter().position(|label| !(1..=10).contains(label)) {
        Some(i) => {
            let cause = format!("label {i} is {}, which is not in 1 to 10", bytes[i]);
            Err(malformed(path, cause, AGAIN))
        }
        None => Ok(bytes.iter().map(|&label| u16::from(label) - 1).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_before_rows_and_labels_from_1() {
        let path = Path::new("train_X.bin");
        let mut bytes = vec![0; 2 * IMAGE_BYTES as usize];
        // Image 1, row 5, column 7, channel 2.
        bytes[27_648 + 2 * 9216 + 7 * 96 + 5] = 200;
        let images = parse_images(&bytes[..], path).unwrap();
        assert_eq!((images.dim(), images[[1, 5, 7, 2]]), ((2, 96, 96, 3), 200));
        assert_eq!(images.iter().filter(|&&byte| byte != 0).count(), 1);
        assert_eq!(parse_labels(&[1, 10][..], path).unwrap(), [0, 9]);
    }

    #[test]
    fn every_kind_of_damage_is_named() {
        let path = Path::new("train_X.bin");
        for length in [0, 1, 27_647, 27_649] {
            let error = parse_images(&vec![0; length][..], path).unwrap_err().to_string();
            assert!(error.contains(&format!("{length} bytes are not whole images")), "{error}");
        }
        for label in [0, 11] {
            let error = parse_labels(&[1, label][..], path).unwrap_err().to_string();
            assert!(error.contains(&format!("label 1 is {label}")), "{error}");
        }
    }
}
