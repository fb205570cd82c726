//! Batch normalisation of `(rows, c)` and per-channel affine maps.
//!
//! Rows may be of bf16; weights, biases, statistics and their gradients are then of f32.

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
    let Moments { mean, variance, scale, shift } =
        moments(gpu, &Rows::new("batch_norm", x, weight), x, [weight, bias], norm.eps);
    [affine(gpu, x, &scale, &shift, weight.len(), norm.relu), mean, variance]
}

/// The same of `max(batch_norm(x) + skip, 0)`.
pub(crate) fn batch_norm_add_relu(
    gpu: &Arc<Gpu>,
    x: &Array,
    parameters: [&Array; 2],
    skip: &Array,
    eps: f64,
) -> [Block; 3] {
    let op = "batch_norm_add_relu";
    let rows = Rows::new(op, x, parameters[0]);
    let Moments { mean, variance, scale, shift } = moments(gpu, &rows, x, parameters, eps);
    let y = like(gpu, op, x);
    let launch =
        gpu.launch("norm_add_relu", rows.element).arg(read(gpu, op, x)).arg(read(gpu, op, skip)).arg(&scale);
    launch.arg(&shift).arg(&y).arg(x.len()).arg(rows.c).over_packs(x.len());
    [y, mean, variance]
}

/// The adjoints in the input, the weight and the bias.
pub(crate) fn batch_norm_adjoint(
    gpu: &Arc<Gpu>,
    saved: &BatchNormSaved<'_>,
    dy: &Array,
    norm: Norm,
) -> [Block; 3] {
    let rows = Rows::new("batch_norm_adjoint", dy, saved.weight);
    let Rows { op, element, c, piece, .. } = rows;
    let [scale, shift] = map(gpu, &rows, saved, norm.eps);
    let [x, mean] = [saved.x, saved.mean].map(|array| read(gpu, op, array));
    let gradient = read(gpu, op, dy);
    let partial = rows.partial(gpu);
    let launch = gpu.launch("norm_adjoint_sums", element).arg(x).arg(gradient).arg(mean);
    let launch = launch.arg(&scale).arg(&shift).arg(&partial).arg(rows.rows).arg(c).arg(piece);
    launch.arg(norm.relu).run([rows.strips(), rows.pieces()], [COLUMNS, LINES]);
    adjoints(gpu, &rows, saved, &partial, gradient, [&scale, &shift], norm)
}

/// The adjoints in the input, the weight, the bias and what was added, from the value `y`.
pub(crate) fn batch_norm_add_relu_adjoint(
    gpu: &Arc<Gpu>,
    saved: &BatchNormSaved<'_>,
    y: &Array,
    dy: &Array,
    eps: f64,
) -> [Block; 4] {
    let rows = Rows::new("batch_norm_add_relu_adjoint", dy, saved.weight);
    let Rows { op, element, c, piece, .. } = rows;
    let [scale, shift] = map(gpu, &rows, saved, eps);
    let [x, y, dy_block, mean] = [saved.x, y, dy, saved.mean].map(|array| read(gpu, op, array));
    let (partial, dz) = (rows.partial(gpu), like(gpu, op, dy));
    let launch = gpu.launch("norm_add_relu_sums", element).arg(x).arg(y).arg(dy_block).arg(mean).arg(&dz);
    let launch = launch.arg(&partial).arg(rows.rows).arg(c).arg(piece);
    launch.run([rows.strips(), rows.pieces()], [COLUMNS, LINES]);
    let norm = Norm { eps, relu: false };
    let [dx, d_weight, d_bias] = adjoints(gpu, &rows, saved, &partial, &dz, [&scale, &shift], norm);
    [dx, d_weight, d_bias, dz]
}

pub(crate) fn channel_affine(gpu: &Arc<Gpu>, x: &Array, scale: &Array, shift: &Array, relu: bool) -> Block {
    let op = "channel_affine";
    affine(gpu, x, read(gpu, op, scale), read(gpu, op, shift), scale.len(), relu)
}

fn affine(gpu: &Arc<Gpu>, x: &Array, scale: &Block, shift: &Block, c: usize, relu: bool) -> Block {
    let op = "channel_affine";
    let to = like(gpu, op, x);
    let launch = gpu.launch(op, Element::real(op, x.dtype())).arg(read(gpu, op, x)).arg(scale).arg(shift);
    launch.arg(&to).arg(x.len()).arg(c).arg(relu).over_packs(x.len());
    to
}

/// How the rows of an op are cut.
struct Rows {
    op: &'static str,
    element: Element,
    rows: usize,
    c: usize,
    /// Rows of a piece.
    piece: usize,
    /// Bytes of a value for each channel.
    channels: usize,
}

impl Rows {
    #[track_caller]
    fn new(op: &'static str, x: &Array, weight: &Array) -> Rows {
        let c = weight.len();
        let rows = x.len() / c.max(1);
        let channels = c * size(weight.dtype());
        Rows { op, element: Element::real(op, x.dtype()), rows, c, piece: piece(rows, ROWS), channels }
    }

    fn pieces(&self) -> usize {
        self.rows.div_ceil(self.piece)
    }

    fn strips(&self) -> usize {
        self.c.div_ceil(COLUMNS)
    }

    /// Room for two sums of each piece and channel.
    #[track_caller]
    fn partial(&self, gpu: &Arc<Gpu>) -> Block {
        gpu.block(self.op, 2 * self.pieces() * self.c * 8)
    }

    #[track_caller]
    fn channels<const N: usize>(&self, gpu: &Arc<Gpu>) -> [Block; N] {
        std::array::from_fn(|_| gpu.block(self.op, self.channels))
    }
}

/// Of each channel: the statistics, and the affine map that normalises with them.
struct Moments {
    mean: Block,
    variance: Block,
    scale: Block,
    shift: Block,
}

fn moments(gpu: &Arc<Gpu>, rows: &Rows, x: &Array, [weight, bias]: [&Array; 2], eps: f64) -> Moments {
    let &Rows { op, element, c, piece, .. } = rows;
    let [mean, variance, scale, shift] = rows.channels(gpu);
    let (pieces, strips, partial) = (rows.pieces(), rows.strips(), rows.partial(gpu));
    let data = read(gpu, op, x);
    let launch = gpu.launch("moments", element).arg(data).arg(&partial).arg(rows.rows).arg(c).arg(piece);
    launch.run([strips, pieces], [COLUMNS, LINES]);
    let launch = gpu.launch("moments_finish", element).arg(&partial).arg(data);
    let launch = launch.arg(read(gpu, op, weight)).arg(read(gpu, op, bias));
    let launch = launch.arg(&mean).arg(&variance).arg(&scale).arg(&shift);
    launch.arg(rows.rows).arg(c).arg(pieces).arg(eps).run([strips, 1], [COLUMNS, LINES]);
    Moments { mean, variance, scale, shift }
}

/// The affine map of the forward pass.
fn map(gpu: &Arc<Gpu>, rows: &Rows, saved: &BatchNormSaved<'_>, eps: f64) -> [Block; 2] {
    let [scale, shift] = rows.channels(gpu);
    let [weight, bias, mean, variance] =
        [saved.weight, saved.bias, saved.mean, saved.variance].map(|array| read(gpu, rows.op, array));
    let launch = gpu.launch("norm_map", rows.element).arg(weight).arg(bias).arg(mean).arg(variance);
    launch.arg(&scale).arg(&shift).arg(rows.c).arg(eps).over(rows.c);
    [scale, shift]
}

/// The adjoints in the input, the weight and the bias from the sums of the pieces.
fn adjoints(
    gpu: &Arc<Gpu>,
    rows: &Rows,
    saved: &BatchNormSaved<'_>,
    partial: &Block,
    dy: &Block,
    [scale, shift]: [&Block; 2],
    norm: Norm,
) -> [Block; 3] {
    let &Rows { op, element, c, .. } = rows;
    let [d_weight, d_bias, mean_dy, along] = rows.channels(gpu);
    let [x, mean, variance] = [saved.x, saved.mean, saved.variance].map(|array| read(gpu, op, array));
    let launch = gpu.launch("norm_adjoint_finish", element).arg(partial).arg(variance);
    let launch = launch.arg(&d_weight).arg(&d_bias).arg(&mean_dy).arg(&along);
    launch.arg(rows.rows).arg(c).arg(rows.pieces()).arg(norm.eps).run([rows.strips(), 1], [COLUMNS, LINES]);

    let dx = like(gpu, op, saved.x);
    let launch = gpu.launch("norm_adjoint_input", element).arg(x).arg(dy).arg(mean);
    let launch = launch.arg(scale).arg(shift).arg(&mean_dy).arg(&along).arg(&dx);
    launch.arg(saved.x.len()).arg(c).arg(norm.relu).over_packs(saved.x.len());
    [dx, d_weight, d_bias]
}
