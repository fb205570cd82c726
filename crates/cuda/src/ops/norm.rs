//! Batch normalization of `(rows, c)` and per-channel affine maps.
//!
//! Rows may be of bf16; weights, biases, statistics and their gradients are then of f32.

use crate::driver::{Block, read};
use crate::gpu::Gpu;
use crate::kernels::Element;
use crate::launch::{Launch, THREADS};
use crate::ops::sizes::{like, size};
use std::sync::Arc;
use tarrl_tensor::{Array, BatchNormSaved, Norm};

/// Rows of a piece of the statistics at least, and pieces at most.
const ROWS: usize = 64;
const PIECES: usize = 512;
/// Channels that a block ends the sums of, and threads that share the pieces of each, as in `norm.cu`.
const ENDS: usize = 4;
const SHARES: usize = 64;
/// Threads in a line of a block at most.
const LINE: usize = 32;

/// The normalized rows, the mean and the biased variance of each channel.
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
    let [x, gradient] = [saved.x, dy].map(|array| read(gpu, rows.op, array));
    let partial = rows.partial(gpu);
    let launch = gpu.launch(rows.kernel("norm_adjoint_sums", "norm_adjoint_sums_by_pack"), rows.element);
    let launch = parameters(gpu, &rows, saved, launch.arg(x).arg(gradient)).arg(&partial);
    let launch = launch.arg(rows.rows).arg(rows.c).arg(rows.piece).arg(norm.relu).arg(norm.eps);
    launch.run(rows.grid(), rows.block());
    adjoints(gpu, &rows, saved, &partial, gradient, norm)
}

/// The adjoints in the input, the weight, the bias and what was added, from the value `y`, for the gradient `dy`, or
/// `dy + more`.
pub(crate) fn batch_norm_add_relu_adjoint(
    gpu: &Arc<Gpu>,
    saved: &BatchNormSaved<'_>,
    y: &Array,
    (dy, more): (&Array, Option<&Array>),
    eps: f64,
) -> [Block; 4] {
    let rows = Rows::new("batch_norm_add_relu_adjoint", dy, saved.weight);
    let Rows { op, element, c, piece, .. } = rows;
    let [x, y, first, mean] = [saved.x, y, dy, saved.mean].map(|array| read(gpu, op, array));
    let (partial, dz) = (rows.partial(gpu), like(gpu, op, dy));
    let kernel = rows.kernel("norm_add_relu_sums", "norm_add_relu_sums_by_pack");
    let launch = gpu.launch(kernel, element).arg(x).arg(y).arg(first);
    let launch = launch.arg(more.map_or(0, |more| read(gpu, op, more).pointer())).arg(mean).arg(&dz);
    let launch = launch.arg(&partial).arg(rows.rows).arg(c).arg(piece);
    launch.run(rows.grid(), rows.block());
    let norm = Norm { eps, relu: false };
    let [dx, d_weight, d_bias] = adjoints(gpu, &rows, saved, &partial, &dz, norm);
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
    /// Threads in a line of a block, and whether each takes a pack of channels.
    line: usize,
    packed: bool,
}

impl Rows {
    #[track_caller]
    fn new(op: &'static str, x: &Array, weight: &Array) -> Rows {
        let c = weight.len();
        let rows = x.len() / c.max(1);
        let channels = c * size(weight.dtype());
        let element = Element::real(op, x.dtype());
        let packs = c / element.lanes();
        // Lines of a power of two, so that they fill a block.
        let packed = c > 0 && c.is_multiple_of(element.lanes()) && packs.is_power_of_two();
        let line = if packed { packs.min(LINE) } else { LINE };
        let piece = rows.div_ceil(PIECES).max(ROWS);
        Rows { op, element, rows, c, piece, channels, line, packed }
    }

    fn pieces(&self) -> usize {
        self.rows.div_ceil(self.piece)
    }

    /// The kernel for these channels.
    fn kernel(&self, one: &'static str, pack: &'static str) -> &'static str {
        if self.packed { pack } else { one }
    }

    /// Blocks along the channels and along the pieces.
    fn grid(&self) -> [usize; 2] {
        let width = if self.packed { self.element.lanes() } else { 1 };
        [self.c.div_ceil(self.line * width), self.pieces()]
    }

    fn block(&self) -> [usize; 2] {
        [self.line, THREADS / self.line]
    }

    /// PinnedBuffer for two sums of each piece and channel.
    #[track_caller]
    fn partial(&self, gpu: &Arc<Gpu>) -> Block {
        gpu.block(self.op, 2 * self.pieces() * self.c * 8)
    }

    #[track_caller]
    fn channels<const N: usize>(&self, gpu: &Arc<Gpu>) -> [Block; N] {
        std::array::from_fn(|_| gpu.block(self.op, self.channels))
    }
}

/// Of each channel: the statistics, and the affine map that normalizes with them.
struct Moments {
    mean: Block,
    variance: Block,
    scale: Block,
    shift: Block,
}

fn moments(gpu: &Arc<Gpu>, rows: &Rows, x: &Array, [weight, bias]: [&Array; 2], eps: f64) -> Moments {
    let &Rows { op, element, c, piece, .. } = rows;
    let [mean, variance, scale, shift] = rows.channels(gpu);
    let partial = rows.partial(gpu);
    let data = read(gpu, op, x);
    let launch = gpu.launch(rows.kernel("moments", "moments_by_pack"), element).arg(data).arg(&partial);
    launch.arg(rows.rows).arg(c).arg(piece).run(rows.grid(), rows.block());
    let launch = gpu.launch("moments_finish", element).arg(&partial).arg(data);
    let launch = launch.arg(read(gpu, op, weight)).arg(read(gpu, op, bias));
    let launch = launch.arg(&mean).arg(&variance).arg(&scale).arg(&shift);
    launch.arg(rows.rows).arg(c).arg(rows.pieces()).arg(eps).run([c.div_ceil(ENDS), 1], [ENDS, SHARES]);
    Moments { mean, variance, scale, shift }
}

/// Weight, bias, mean and variance as the next arguments.
fn parameters<'a>(gpu: &Arc<Gpu>, rows: &Rows, saved: &BatchNormSaved<'_>, launch: Launch<'a>) -> Launch<'a> {
    [saved.weight, saved.bias, saved.mean, saved.variance]
        .into_iter()
        .fold(launch, |launch, array| launch.arg(read(gpu, rows.op, array)))
}

/// The adjoints in the input, the weight and the bias from the sums of the pieces.
fn adjoints(
    gpu: &Arc<Gpu>,
    rows: &Rows,
    saved: &BatchNormSaved<'_>,
    partial: &Block,
    dy: &Block,
    norm: Norm,
) -> [Block; 3] {
    let &Rows { op, element, c, .. } = rows;
    let [d_weight, d_bias, mean_dy, along, scale, shift] = rows.channels(gpu);
    let launch = parameters(gpu, rows, saved, gpu.launch("norm_adjoint_finish", element).arg(partial));
    let launch = launch.arg(&d_weight).arg(&d_bias).arg(&mean_dy).arg(&along).arg(&scale).arg(&shift);
    let launch = launch.arg(rows.rows).arg(c).arg(rows.pieces()).arg(norm.eps);
    launch.run([c.div_ceil(ENDS), 1], [ENDS, SHARES]);

    let [x, mean] = [saved.x, saved.mean].map(|array| read(gpu, op, array));
    let dx = like(gpu, op, saved.x);
    let launch = gpu.launch("norm_adjoint_input", element).arg(x).arg(dy).arg(mean);
    let launch = launch.arg(&scale).arg(&shift).arg(&mean_dy).arg(&along).arg(&dx);
    launch.arg(saved.x.len()).arg(c).arg(norm.relu).over_packs(saved.x.len());
    [dx, d_weight, d_bias]
}
