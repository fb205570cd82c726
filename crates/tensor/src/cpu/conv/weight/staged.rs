//! Weight adjoint of convolutions with large kernels on small maps, as in the last layers of an encoder.
//!
//! Partial sums of such a kernel would fill the caches. So a block of images is laid out once for all threads, and each
//! thread then sums over all of it for some rows of the kernel. The input below these rows is copied once more into the
//! order in which the micro-kernel reads it, which pays because there are many output channels to multiply it by.
use super::super::geometry::Geometry;
use super::super::image::{Map, Window};
use super::tiles::{kernel_rows, tile_h, tile_w};
use crate::cpu::deferred::Source;
use crate::cpu::gemm::kernel::{Block, PANELS, ROWS, Row, Run};
use crate::cpu::gemm::{DEPTH, Element, Scratch, Strides, pack_panel, parts};
use crate::cpu::threads::Threads;

/// Elements of a kernel from which on this way is quicker.
const LARGE: usize = 1 << 17;

/// Elements of a block of images, 8 MiB in single precision.
const BLOCK: usize = 1 << 21;

/// Rows of the kernel, as a matrix with `c_out` columns, that are summed together.
const SLICE: usize = 96;

pub(super) fn chosen(g: &Geometry) -> bool {
    g.groups == 1 && g.w_len() >= LARGE && g.out_w() <= 16
}

pub(super) fn weight_adjoint<T: Element>(
    t: &Threads,
    g: &Geometry,
    x: Source<'_, T>,
    dy: &[T],
    dw: &mut [T],
    s: &Scratch,
) {
    let input = Map { h: g.h, w: g.w, c: g.c_in };
    let output = Map { h: g.out_h(), w: g.out_w(), c: g.c_out };
    let border = -(g.pad as isize);
    let window = Window { top: border, left: border, h: tile_h(g, output.h), w: tile_w(g) };
    // The extra line keeps the images out of each other's cache sets.
    let pitch = window.h * window.w * g.c_in + T::LANES;
    let most = (BLOCK / (pitch + output.len())).clamp(1, DEPTH.min(g.n));
    let block = g.n.div_ceil(g.n.div_ceil(most));
    let (pixels, panels) = (output.h * output.w, g.c_out.div_ceil(T::LANES));
    let mut padded = s.take::<T>(block * pitch);
    let mut packed = s.take::<T>(panels * pixels * block * T::LANES);
    let mut left = s.take::<T>(SLICE * DEPTH * t.count());
    let windows = windows(g, &output, pitch, window.w, block, s);
    let kernel = kernel_rows(g, s);
    let mut rows = s.rows(SLICE);
    for (r, row) in rows.iter_mut().enumerate() {
        *row = Row { a: r / ROWS * (ROWS * DEPTH) + r % ROWS, c: r * g.c_out };
    }
    for first in (0..g.n).step_by(block) {
        let images = block.min(g.n - first);
        let dy = &dy[first * output.len()..][..images * output.len()];
        t.for_each_item((first..first + images).zip(padded.chunks_exact_mut(pitch)), |(image, to)| {
            window.copy(input, x.slice(image * input.len()..(image + 1) * input.len()), to);
        });
        let per_panel = pixels * images * T::LANES;
        t.for_each_item(packed.chunks_exact_mut(per_panel).take(panels).enumerate(), |(i, panel)| {
            let at = i * T::LANES;
            pack_panel(panel, &dy[at..], Strides { k: g.c_out, j: 1 }, T::LANES.min(g.c_out - at));
        });
        let slices = dw.chunks_mut(SLICE * g.c_out).zip(kernel.chunks(SLICE));
        t.for_each_item_with(parts(&mut left, SLICE * DEPTH), slices, |left, (sums, kernel)| {
            for (i, windows) in windows[..pixels * images].chunks(DEPTH).enumerate() {
                pack_windows(left, &padded, windows, kernel);
                for (pair, lines) in packed[..panels * per_panel].chunks(PANELS * per_panel).enumerate() {
                    let at = pair * PANELS * T::LANES;
                    let block = Block {
                        level: s.level,
                        a: left,
                        step: ROWS,
                        rows: &rows[..kernel.len()],
                        runs: &[Run { a: 0, len: windows.len() }],
                        b: &lines[i * DEPTH * T::LANES..],
                        pitch: per_panel,
                        width: (PANELS * T::LANES).min(g.c_out - at),
                        add: first + i > 0,
                    };
                    T::multiply(&block, &mut sums[at..]);
                }
            }
        });
    }
}

/// Where the windows of a block of images begin in the padded images.
fn windows<'s>(
    g: &Geometry,
    output: &Map,
    pitch: usize,
    width: usize,
    images: usize,
    s: &'s Scratch,
) -> impl std::ops::Deref<Target = [Run]> + use<'s> {
    let pixels = output.h * output.w;
    let mut windows = s.runs(images * pixels);
    for (i, window) in windows.iter_mut().enumerate() {
        let (image, y, x) = (i / pixels, i % pixels / output.w, i % output.w);
        *window = Run { a: image * pitch + (y * width + x) * g.stride * g.c_in, len: 1 };
    }
    windows
}

/// `left[r / 6][k][r % 6] = padded[windows[k] + kernel[r]]`, each group of six rows `DEPTH` deep.
fn pack_windows<T: Element>(left: &mut [T], padded: &[T], windows: &[Run], kernel: &[Row]) {
    for (group, kernel) in left.chunks_exact_mut(ROWS * DEPTH).zip(kernel.chunks(ROWS)) {
        let lines = group.as_chunks_mut::<ROWS>().0.iter_mut().zip(windows);
        if kernel.len() == ROWS && kernel[ROWS - 1].a == kernel[0].a + ROWS - 1 {
            lines.for_each(|(line, window)| line.copy_from_slice(&padded[window.a + kernel[0].a..][..ROWS]));
        } else {
            for (line, window) in lines {
                line.iter_mut().zip(kernel).for_each(|(to, row)| *to = padded[window.a + row.a]);
            }
        }
    }
}
