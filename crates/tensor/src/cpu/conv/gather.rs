//! Input adjoint of convolutions to few channels, as in the first layer of an encoder.
//!
//! A panel of the kernel would be nearly empty there, because its columns are the channels of the input. So the pixels of
//! `dy` are multiplied by all elements of the kernel at once, `P[q, (tap, c)] = Σ_o dy[q, o] · w[tap, c, o]`, and each pixel
//! of the input gathers what belongs to it.
use super::geometry::Geometry;
use super::image::{Cut, Tile};
use crate::cpu::deferred::Source;
use crate::cpu::gemm::kernel::{Block, PANELS, Row, Run};
use crate::cpu::gemm::{DEPTH, Element, Scratch, Strides, pack_panel, parts};
use crate::cpu::threads::Threads;

/// Whether the panels of the other way would be at least three quarters empty.
pub(super) fn chosen<T: Element>(g: &Geometry) -> bool {
    g.groups == 1 && 4 * g.c_in <= T::LANES && g.kh * g.kw > 1
}

/// Elements of the products of a tile at most: a quarter of a second-level cache of 512 KiB.
const TILE: usize = 1 << 15;

pub(super) fn input_adjoint<T: Element>(
    t: &Threads,
    g: &Geometry,
    dy: Source<'_, T>,
    w: &[T],
    dx: &mut [T],
    s: &Scratch,
) {
    if dx.is_empty() {
        return;
    }
    if dy.len() == 0 || w.is_empty() {
        return dx.fill(T::default());
    }
    let columns = g.kh * g.kw * g.c_in;
    let panels = columns.div_ceil(T::LANES);
    let pitch = panels * T::LANES;
    let mut packed = s.take::<T>(pitch * g.c_out);
    for (i, panel) in packed.chunks_exact_mut(g.c_out * T::LANES).enumerate() {
        let first = i * T::LANES;
        pack_panel(panel, &w[first * g.c_out..], Strides { k: 1, j: g.c_out }, T::LANES.min(columns - first));
    }
    let pixels = TILE / pitch * g.stride * g.stride;
    let cut = Cut::new(g.n, g.h, g.w, 1, pixels.min(g.n * g.h * g.w / 32).max(1));
    let most = cut.images * (cut.rows + g.kh).div_ceil(g.stride).min(g.out_h()) * g.out_w();
    let mut rows = s.rows(most);
    for (i, row) in rows.iter_mut().enumerate() {
        *row = Row { a: i * g.c_out, c: i * pitch };
    }
    // A source that is not plain is copied tile by tile.
    let copied = if dy.plain().is_some() { 0 } else { most * g.c_out };
    let mut spaces = s.take::<T>((most * pitch + copied) * t.count());
    let mut rest = dx;
    let tiles = cut.tiles(g.n, g.h).map(|tile| {
        let len = tile.images * tile.rows * g.w * g.c_in;
        (tile, rest.split_off_mut(..len).expect("the tiles cover the input"))
    });
    t.for_each_item_with(parts(&mut spaces, most * pitch + copied), tiles, |space, (tile, dx)| {
        let (products, copy) = space.split_at_mut(most * pitch);
        let (first, count) = sources(g, &tile);
        let len = tile.images * count * g.out_w();
        let start = (tile.image * g.out_h() + first) * g.out_w() * g.c_out;
        let dy = match dy.plain() {
            Some(dy) => &dy[start..],
            None => {
                let copy = &mut copy[..len * g.c_out];
                dy.copy(start, copy);
                copy
            }
        };
        for (i, pair) in packed.chunks(PANELS * g.c_out * T::LANES).enumerate() {
            for k in (0..g.c_out).step_by(DEPTH) {
                let depth = DEPTH.min(g.c_out - k);
                let block = Block {
                    level: s.level,
                    a: dy,
                    step: 1,
                    rows: &rows[..len],
                    runs: &[Run { a: k, len: depth }],
                    b: &pair[k * T::LANES..],
                    pitch: g.c_out * T::LANES,
                    width: pair.len() / g.c_out,
                    add: k > 0,
                };
                T::multiply(&block, &mut products[i * PANELS * T::LANES..]);
            }
        }
        for (i, dx) in dx.chunks_exact_mut(g.w * g.c_in).enumerate() {
            let (image, row) = (i / tile.rows, tile.row + i % tile.rows);
            dx.fill(T::default());
            for a in 0..g.kh {
                let at = (row + g.pad).wrapping_sub(a);
                let source = (at / g.stride).wrapping_sub(first);
                if row + g.pad >= a && at.is_multiple_of(g.stride) && source < count {
                    let from = &products[(image * count + source) * g.out_w() * pitch..][..g.out_w() * pitch];
                    gather(g, &from[a * g.kw * g.c_in..], pitch, dx);
                }
            }
        }
    });
}

/// The first row of `dy` that a tile needs of each image, and how many.
fn sources(g: &Geometry, tile: &Tile) -> (usize, usize) {
    let first = (tile.row + g.pad).saturating_sub(g.kh - 1).div_ceil(g.stride).min(g.out_h());
    let end = ((tile.row + tile.rows - 1 + g.pad) / g.stride + 1).min(g.out_h());
    (first, end.saturating_sub(first))
}

/// Adds to a row of `dx` the products of a row of `dy` with one row of the kernel.
fn gather<T: Element>(g: &Geometry, from: &[T], pitch: usize, dx: &mut [T]) {
    match g.c_in {
        1 => gather_channels::<T, 1>(g, from, pitch, dx),
        2 => gather_channels::<T, 2>(g, from, pitch, dx),
        3 => gather_channels::<T, 3>(g, from, pitch, dx),
        4 => gather_channels::<T, 4>(g, from, pitch, dx),
        c => unreachable!("{c} channels are not gathered"),
    }
}

fn gather_channels<T: Element, const C: usize>(g: &Geometry, from: &[T], pitch: usize, dx: &mut [T]) {
    let dx = dx.as_chunks_mut::<C>().0;
    if (g.kw, g.stride) == (3, 1) && g.pad <= 2 {
        return gather_three(g, from, pitch, dx);
    }
    for b in 0..g.kw {
        // Pixels `j·stride + b − pad` of the input lie between 0 and `w`.
        let first = g.pad.saturating_sub(b).div_ceil(g.stride);
        let end = (g.w + g.pad).saturating_sub(b).div_ceil(g.stride).min(g.out_w());
        if first >= end {
            continue;
        }
        let to = dx[first * g.stride + b - g.pad..].iter_mut().step_by(g.stride);
        let from = from[first * pitch + b * C..].chunks(pitch);
        for (to, from) in to.zip(from).take(end - first) {
            add(to, from);
        }
    }
}

/// The same for three taps side by side, which a pixel gathers at once. The order of the sum is the same.
fn gather_three<T: Element, const C: usize>(g: &Geometry, from: &[T], pitch: usize, dx: &mut [[T; C]]) {
    let (w, out_w, pad) = (g.w, g.out_w(), g.pad);
    let inner = (2 - pad).min(w)..out_w.saturating_sub(pad).min(w);
    for j in (0..inner.start).chain(inner.end.max(inner.start)..w) {
        // Tap `b` meets pixel `j + pad − b` of the output.
        for b in (j + pad + 1).saturating_sub(out_w)..3.min(j + pad + 1) {
            add(&mut dx[j], &from[(j + pad - b) * pitch + b * C..]);
        }
    }
    for (i, to) in dx.iter_mut().take(inner.end).skip(inner.start).enumerate() {
        let from = &from[i * pitch..][..2 * pitch + C];
        add(to, &from[2 * pitch..]);
        add(to, &from[pitch + C..]);
        add(to, &from[2 * C..]);
    }
}

#[inline(always)]
fn add<T: Element, const C: usize>(to: &mut [T; C], from: &[T]) {
    to.iter_mut().zip(&from[..C]).for_each(|(to, from)| *to += *from);
}
