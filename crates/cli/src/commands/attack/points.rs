//! Points that an attack found, as npz for other programs.

use std::path::Path;

use tarrl_data::{npy, write_zip};
use tarrl_jobs::files::{cannot_write, write_atomic};
use tarrl_tensor::Tensor;

/// Writes images and points `(n, h, w, c)`, labels, places in the split, and which points are misclassified.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn save_points(
    path: &Path,
    (images, points): (&Tensor, &Tensor),
    (labels, indices): (&[u32], &[usize]),
    broken: &[bool],
) -> anyhow::Result<()> {
    let n = [labels.len()];
    let pixels = |of: &Tensor| npy::encode_f32(&of.shape()[..], &of.to_vec::<f32>());
    let places: Vec<u32> = indices.iter().map(|&index| index as u32).collect();
    let broken: Vec<u8> = broken.iter().map(|&broken| broken.into()).collect();
    let members = [
        ("index.npy", npy::encode_u32(&n, &places)),
        ("labels.npy", npy::encode_u32(&n, labels)),
        ("broken.npy", npy::encode_u8(&n, &broken)),
        ("images.npy", pixels(images)),
        ("points.npy", pixels(points)),
    ];
    let members = members.each_ref().map(|(name, bytes)| (*name, &bytes[..]));
    let mut bytes = Vec::new();
    write_zip(&mut bytes, &members)?;
    write_atomic(path, &bytes).map_err(|error| cannot_write(path, "--points FILE", error))
}
