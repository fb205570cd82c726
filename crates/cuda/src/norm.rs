//! Batch normalisation of `(rows, c)` and per-channel affine maps.

use crate::gpu::Gpu;
use crate::memory::{Block, read};
use crate::pointwise::{like, size};
use crate::programs::Element;
use crate::reduce::{COLUMNS, LINES, piece};
use std::sync::Arc;
use tarrl_tensor::{Array, BatchNormSaved, Norm};

/// Rows of a piece of the statistics at least.
const ROWS: usize = 256;

/// The normalised rows, the mean and the biased variance of each channel.
pub(crate) fn batch_norm(gpu: &Arc<Gpu>, x: &Array, weight: &Array, bias: &Array, norm: Norm) -> [Block; 3] {
    let op = "batch_norm";
    let element = Element::real(op, x.dtype());
    let c = weight.len();
    let rows = x.len() / c.max(1);
    let channels = || gpu.block(op, c * size(x.dtype()));
    let [mean, variance, scale, shift] = [channels(), channels(), channels(), channels()];
    let piece = piece(rows, ROWS);
    let pieces = rows.div_ceil(piece);
    let strips = c.div_ceil(COLUMNS);
    let partial = gpu.block(op, 2 * pieces * c * 8);
    let data = read(gpu, op, x);
    let launch = gpu.launch("moments", element).arg(data).arg(&partial).arg(rows).arg(c).arg(piece);
    launch.run([strips, pieces], [COLUMNS, LINES]);
    let launch = gpu.launch("moments_finish", element).arg(&partial).arg(data);
    let launch = launch.arg(read(gpu, op, weight)).arg(read(gpu, op, bias));
    let launch = launch.arg(&mean).arg(&variance).arg(&scale).arg(&shift);
    launch.arg(rows).arg(c).arg(pieces).arg(norm.eps).run([strips, 1], [COLUMNS, LINES]);
    [affine(gpu, x, &scale, &shift, c, norm.relu), mean, variance]
}

/// The adjoints in the input, the weight and the bias.
pub(crate) fn batch_norm_adjoint(
    gpu: &Arc<Gpu>,
    saved: &BatchNormSaved<'_>,
    dy: &Array,
    norm: Norm,
) -> [Block; 3] {
    let op = "batch_norm_adjoint";
    let element = Element::real(op, dy.dtype());
    let c = saved.weight.len();
    let rows = dy.len() / c.max(1);
    let channels = || gpu.block(op, c * size(dy.dtype()));
    let [scale, shift, d_weight, d_bias, mean_dy, along] = std::array::from_fn(|_| channels());
    let [x, mean, variance] = [saved.x, saved.mean, saved.variance].map(|array| read(gpu, op, array));
    let launch =
        gpu.launch("norm_map", element).arg(read(gpu, op, saved.weight)).arg(read(gpu, op, saved.bias));
    launch.arg(mean).arg(variance).arg(&scale).arg(&shift).arg(c).arg(norm.eps).over(c);

    let piece = piece(rows, ROWS);
    let pieces = rows.div_ceil(piece);
    let strips = c.div_ceil(COLUMNS);
    let partial = gpu.block(op, 2 * pieces * c * 8);
    let gradient = read(gpu, op, dy);
    let launch = gpu.launch("norm_adjoint_sums", element).arg(x).arg(gradient).arg(mean);
    let launch = launch.arg(&scale).arg(&shift).arg(&partial).arg(rows).arg(c).arg(piece);
    launch.arg(norm.relu).run([strips, pieces], [COLUMNS, LINES]);
    let launch = gpu.launch("norm_adjoint_finish", element).arg(&partial).arg(variance);
    let launch = launch.arg(&d_weight).arg(&d_bias).arg(&mean_dy).arg(&along);
    launch.arg(rows).arg(c).arg(pieces).arg(norm.eps).run([strips, 1], [COLUMNS, LINES]);

    let dx = like(gpu, op, dy);
    let launch = gpu.launch("norm_adjoint_input", element).arg(x).arg(gradient).arg(mean);
    let launch = launch.arg(&scale).arg(&shift).arg(&mean_dy).arg(&along).arg(&dx);
    launch.arg(dy.len()).arg(c).arg(norm.relu).over(dy.len());
    [dx, d_weight, d_bias]
}

pub(crate) fn channel_affine(gpu: &Arc<Gpu>, x: &Array, scale: &Array, shift: &Array, relu: bool) -> Block {
    let op = "channel_affine";
    affine(gpu, x, read(gpu, op, scale), read(gpu, op, shift), scale.len(), relu)
}

fn affine(gpu: &Arc<Gpu>, x: &Array, scale: &Block, shift: &Block, c: usize, relu: bool) -> Block {
    let op = "channel_affine";
    let to = like(gpu, op, x);
    let launch = gpu.launch(op, Element::real(op, x.dtype())).arg(read(gpu, op, x)).arg(scale).arg(shift);
    launch.arg(&to).arg(x.len()).arg(c).arg(relu).over(x.len());
    to
}
