//! Weight adjoint of convolutions: for each element of the kernel the sum over all windows of input times output derivative.
mod staged;
mod tiles;

use super::geometry::Geometry;
use super::image::{Cut, Map, Tile, Window};
use super::sweep::blocks;
use crate::cpu::deferred::Source;
use crate::cpu::gemm::kernel::{Block, PANELS, Row, Run};
use crate::cpu::gemm::{DEPTH, Element, Scratch, Strides, pack_panel, parts};
use crate::cpu::threads::Threads;
use tiles::{kernel_rows, tile_h, tile_w};

/// Elements of all partial sums together at most: 16 MiB in single precision.
const PARTIALS: usize = 1 << 22;

/// Elements of a padded tile at most: half of a second-level cache of 512 KiB.
const TILE: usize = 1 << 16;

/// The batch is cut into fixed parts, each part sums its windows in order, and the parts are summed in order.
pub(super) fn weight_adjoint<T: Element>(
    t: &Threads,
    g: &Geometry,
    x: Source<'_, T>,
    dy: &[T],
    dw: &mut [T],
    s: &Scratch,
) {
    if dw.is_empty() {
        return;
    }
    if x.len() == 0 || dy.is_empty() {
        return dw.fill(T::default());
    }
    if staged::chosen(g) {
        return staged::weight_adjoint(t, g, x, dy, dw, s);
    }
    let work = Work::new(g);
    let parts_of_batch = g.n.div_ceil(work.batch);
    let rows = kernel_rows(g, s);
    let runs = work.runs(s);
    let per_thread = work.tile_len() + work.packed_len::<T>();
    let mut spaces = s.take::<T>(per_thread * t.count());
    let mut partials = s.take::<T>(parts_of_batch * dw.len());
    let sums = partials.chunks_exact_mut(dw.len()).enumerate();
    t.for_each_item_with(parts(&mut spaces, per_thread), sums, |space, (part, sums)| {
        let (padded, packed) = space.split_at_mut(work.tile_len());
        work.sum(part, x, dy, Tables { rows: &rows, runs: &runs, padded, packed }, sums, s);
    });
    let len = dw.len();
    t.for_each_chunk(dw, 1 << 13, |i, to| {
        let at = i << 13;
        to.copy_from_slice(&partials[at..at + to.len()]);
        for part in 1..parts_of_batch {
            let from = &partials[part * len + at..][..to.len()];
            to.iter_mut().zip(from).for_each(|(to, from)| *to += *from);
        }
    });
}

struct Work<'a> {
    g: &'a Geometry,
    input: Map,
    output: Map,
    /// Images in a part of the batch.
    batch: usize,
    cut: Cut,
}

/// What the items of work share, and the space of a thread.
struct Tables<'a, T> {
    rows: &'a [Row],
    runs: &'a [Run],
    padded: &'a mut [T],
    packed: &'a mut [T],
}

impl<'a> Work<'a> {
    fn new(g: &'a Geometry) -> Work<'a> {
        let input = Map { h: g.h, w: g.w, c: g.c_in };
        let output = Map { h: g.out_h(), w: g.out_w(), c: g.c_out };
        let most = (PARTIALS / g.w_len()).clamp(1, 16);
        let batch = g.n.div_ceil(most);
        let per_pixel = (tile_h(g, output.h) * tile_w(g) * g.c_in).div_ceil(output.h * output.w);
        let cut = Cut::new(batch, output.h, output.w, 1, (TILE / per_pixel).clamp(48, 1024));
        Work { g, input, output, batch, cut }
    }

    fn panels<T: Element>(&self) -> usize {
        self.g.groups * (self.output.c / self.g.groups).div_ceil(T::LANES)
    }

    fn tile_len(&self) -> usize {
        self.cut.images * tile_h(self.g, self.cut.rows) * tile_w(self.g) * self.input.c
    }

    fn packed_len<T: Element>(&self) -> usize {
        self.panels::<T>() * self.cut.images * self.cut.rows * self.output.w * T::LANES
    }

    /// The rows of output pixels of a tile, cut where they are longer than [`DEPTH`].
    fn runs<'s>(&self, s: &'s Scratch) -> impl std::ops::Deref<Target = [Run]> + use<'s> {
        let (g, w) = (self.g, self.output.w);
        let part = w.div_ceil(w.div_ceil(DEPTH));
        let mut runs = s.runs(self.cut.images * self.cut.rows * w.div_ceil(part));
        let mut free = runs.iter_mut();
        for image in 0..self.cut.images {
            for row in 0..self.cut.rows {
                let start = image * tile_h(g, self.cut.rows) + row * g.stride;
                for (at, run) in (0..w).step_by(part).zip(&mut free) {
                    *run = Run { a: (start * tile_w(g) + at * g.stride) * g.c_in, len: part.min(w - at) };
                }
            }
        }
        runs
    }

    fn sum<T: Element>(
        &self,
        part: usize,
        x: Source<'_, T>,
        dy: &[T],
        tables: Tables<'_, T>,
        sums: &mut [T],
        s: &Scratch,
    ) {
        let Tables { rows, runs, padded, packed } = tables;
        let first = part * self.batch;
        let images = self.batch.min(self.g.n - first);
        let x = x.slice(first * self.input.len()..(first + images) * self.input.len());
        let dy = &dy[first * self.output.len()..][..images * self.output.len()];
        for (i, tile) in self.cut.tiles(images, self.output.h).enumerate() {
            let runs = &runs[..tile.images * tile.rows * (runs.len() / (self.cut.images * self.cut.rows))];
            self.copy(x, tile, padded);
            let pixels = self.pack(dy, tile, packed);
            self.multiply(pixels, Tables { rows, runs, padded, packed }, sums, i > 0, s);
        }
    }

    fn copy<T: Element>(&self, x: Source<'_, T>, tile: Tile, padded: &mut [T]) {
        let window = Window {
            top: (tile.row * self.g.stride) as isize - self.g.pad as isize,
            left: -(self.g.pad as isize),
            h: tile_h(self.g, self.cut.rows),
            w: tile_w(self.g),
        };
        let len = self.input.len();
        window.copy(self.input, x.slice(tile.image * len..(tile.image + tile.images) * len), padded);
    }

    /// The output derivatives of a tile in panels; returns their number of pixels.
    fn pack<T: Element>(&self, dy: &[T], tile: Tile, packed: &mut [T]) -> usize {
        let c = self.output.c;
        let start = tile.image * self.output.len() + tile.row * self.output.w * c;
        let pixels = tile.images * tile.rows * self.output.w;
        let dy = &dy[start..start + pixels * c];
        let per_group = c / self.g.groups;
        let panels = per_group.div_ceil(T::LANES);
        for (i, panel) in packed.chunks_exact_mut(pixels * T::LANES).enumerate().take(self.panels::<T>()) {
            let (group, at) = (i / panels, i % panels * T::LANES);
            let width = T::LANES.min(per_group - at);
            pack_panel(panel, &dy[group * per_group + at..], Strides { k: c, j: 1 }, width);
        }
        pixels
    }

    fn multiply<T: Element>(
        &self,
        pixels: usize,
        tables: Tables<'_, T>,
        sums: &mut [T],
        add: bool,
        s: &Scratch,
    ) {
        let Tables { rows, runs, padded, packed } = tables;
        let (c, groups) = (self.output.c, self.g.groups);
        let panels = self.panels::<T>() / groups;
        let pitch = pixels * T::LANES;
        for (group, packed) in packed.chunks_exact(panels * pitch).enumerate().take(groups) {
            for (i, pair) in packed.chunks(PANELS * pitch).enumerate() {
                let at = i * PANELS * T::LANES;
                let mut done = 0;
                for runs in blocks(runs) {
                    let block = Block {
                        level: s.level,
                        a: &padded[group * (self.input.c / groups)..],
                        step: self.g.stride * self.input.c,
                        rows,
                        runs,
                        b: &pair[done * T::LANES..],
                        pitch,
                        width: (PANELS * T::LANES).min(c / groups - at),
                        add: add || done > 0,
                    };
                    T::multiply(&block, &mut sums[group * (c / groups) + at..]);
                    done += runs.iter().map(|run| run.len).sum::<usize>();
                }
            }
        }
    }
}
