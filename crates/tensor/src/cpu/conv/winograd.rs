//! Winograd's convolution F(4×4, 3×3): a 3×3 convolution of stride 1, or one of its adjoints, as 36 matrix products of a
//! quarter of the multiplications.
//!
//! The 36 products are independent and each is done by one thread, so results have the same bits for any number of
//! threads. Where the transformed kernels are small, each thread takes blocks of images of its own, whose transforms stay in
//! its caches; else all threads share blocks whose transforms stay in the third-level cache.
//!
//! Errors, the largest over the root mean square of the result, against `f64` for the layers of the encoders and uniform
//! random data: 2·10⁻⁶ to 2·10⁻⁵, where direct sums have 1·10⁻⁶ to 3·10⁻⁶. The tests hold them below 5·10⁻⁵.
mod step;
mod transform;

use super::geometry::Geometry;
use super::image::{Map, Window};
use crate::cpu::deferred::Source;
use crate::cpu::gemm::kernel::{Block, PANELS, Row, Run};
use crate::cpu::gemm::{Arithmetic, DEPTH, Element, Scratch, Strides, pack_panel, parts};
use crate::cpu::threads::Threads;
use step::{Step, at_level};
use transform::{OUT, POSITIONS};

const LANES: usize = <f32 as Element>::LANES;

/// Elements of the transformed images and products of a block, 3 MiB: neighbors may fill the third-level cache.
const BLOCK: usize = 3 << 18;

/// Whether this algorithm computes a convolution and its input adjoint. The shape of one image decides, so that a sample
/// has the same bits whatever the batch.
///
/// Measured on an AVX2 machine for 32 to 512 channels, with the transform of the kernels: from 24 tiles on that are at
/// least half full it is 1.4 to 3.5 times as fast in all three directions, mostly above 2. With fewer tiles, which is to say
/// in batches of very few images, that transform weighs too much: the price of equal bits. Maps of 5×5 fill two fifths of
/// their tiles.
pub(super) fn chosen(g: &Geometry, s: &Scratch) -> bool {
    let shape = g.kh == 3 && g.kw == 3 && g.stride == 1 && g.groups == 1;
    let channels = [g.c_in, g.c_out].iter().all(|c| *c >= 32 && c.is_multiple_of(LANES));
    let pixels = g.out_h() * g.out_w();
    s.arithmetic == Arithmetic::Fast
        && shape
        && channels
        && g.n * pixels > 0
        && 2 * pixels >= tiles(g) * OUT * OUT
}

/// Whether it computes the weight adjoint, a sum over the batch, which may depend on the batch's size.
pub(super) fn chosen_for_weights(g: &Geometry, s: &Scratch) -> bool {
    chosen(g, s) && g.n * tiles(g) >= 24
}

/// Tiles of an image.
fn tiles(g: &Geometry) -> usize {
    g.out_h().div_ceil(OUT) * g.out_w().div_ceil(OUT)
}

pub(super) fn forward(t: &Threads, g: &Geometry, x: Source<'_, f32>, w: &[f32], y: &mut [f32], s: &Scratch) {
    let source = Map { h: g.h, w: g.w, c: g.c_in };
    let target = Map { h: g.out_h(), w: g.out_w(), c: g.c_out };
    let u = kernels(t, g, w, Strides { k: g.c_out, j: 1 }, [source.c, target.c], s);
    correlate(t, &Plan::correlation(g.n, source, target, g.pad as isize), x, &u, y, s);
}

/// The convolution of `dy` with the kernel turned by half a circle and its channels exchanged.
pub(super) fn input_adjoint(
    t: &Threads,
    g: &Geometry,
    dy: Source<'_, f32>,
    w: &[f32],
    dx: &mut [f32],
    s: &Scratch,
) {
    let source = Map { h: g.out_h(), w: g.out_w(), c: g.c_out };
    let target = Map { h: g.h, w: g.w, c: g.c_in };
    let u = kernels(t, g, w, Strides { k: 1, j: g.c_out }, [source.c, target.c], s);
    correlate(t, &Plan::correlation(g.n, source, target, 2 - g.pad as isize), dy, &u, dx, s);
}

/// The adjoint of the algorithm: `dg = Gᵀ [(Bᵀ d B) ⊙ (A dy Aᵀ)] G`, summed over tiles before the outer transform.
pub(super) fn weight_adjoint(
    t: &Threads,
    g: &Geometry,
    x: Source<'_, f32>,
    dy: &[f32],
    dw: &mut [f32],
    s: &Scratch,
) {
    let source = Map { h: g.h, w: g.w, c: g.c_in };
    let target = Map { h: g.out_h(), w: g.out_w(), c: g.c_out };
    let plan = Plan::new(g.n, source, target, g.pad as isize, Sizes { group: 128, block: 4 * BLOCK });
    let per_group = plan.per_group(source.c);
    let pitch_dy = plan.pitch(target.c);
    let per_group_dy = plan.per_group(target.c);
    let mut v = s.take::<f32>(plan.groups() * per_group);
    let mut m = s.take::<f32>(plan.groups() * per_group_dy);
    let mut sums = s.take::<f32>(POSITIONS * source.c * target.c);
    let mut rows = s.rows(source.c);
    for (i, row) in rows.iter_mut().enumerate() {
        *row = Row { a: i, c: i * target.c };
    }
    for first in (0..g.n).step_by(plan.block) {
        let images = plan.block.min(g.n - first);
        plan.transform_source(t, first, images, x, &mut v, s);
        let groups = m[..].chunks_exact_mut(per_group_dy).enumerate().take(images.div_ceil(plan.group));
        t.for_each_item(groups, |(i, m)| {
            let at = i * plan.group;
            let images = plan.group.min(images - at);
            let dy = &dy[(first + at) * target.len()..][..images * target.len()];
            at_level(
                s.level,
                Step::Derivative { map: target, dy, to: m, tiles: plan.group_tiles(), pitch: pitch_dy },
            );
        });
        t.for_each_chunk(&mut sums, source.c * target.c, |position, sums| {
            for panel in (0..target.c / LANES).step_by(PANELS) {
                for (i, at) in (0..images).step_by(plan.group).enumerate() {
                    let tiles = plan.group.min(images - at) * plan.tiles();
                    let from = i * per_group_dy + position * pitch_dy + panel * plan.group_tiles() * LANES;
                    let block = Block {
                        level: s.level,
                        a: &v[i * per_group + position * plan.pitch(source.c)..],
                        step: source.c,
                        rows: &rows,
                        runs: &[Run { a: 0, len: tiles }],
                        b: &m[from..],
                        pitch: plan.group_tiles() * LANES,
                        width: (PANELS * LANES).min(target.c - panel * LANES),
                        add: first + at > 0,
                    };
                    f32::multiply(&block, &mut sums[panel * LANES..]);
                }
            }
        });
    }
    let per_chunk = target.c * (1usize << 12).div_ceil(target.c);
    let mut taps = dw.chunks_exact_mut(source.c * target.c).map(|tap| tap.chunks_mut(per_chunk));
    let mut taps: [_; 9] = std::array::from_fn(|_| taps.next().expect("nine taps"));
    let items = (0..source.c * target.c)
        .step_by(per_chunk)
        .map(|at| (at, std::array::from_fn(|i| taps[i].next().expect("equal taps"))));
    t.for_each_item(items, |(at, dw)| {
        at_level(s.level, Step::Kernel { sums: &sums[at..], pitch: source.c * target.c, dw });
    });
}

/// `target = source ⋆ u` for transformed kernels `u` as [`kernels`] makes them.
fn correlate(t: &Threads, plan: &Plan, source: Source<'_, f32>, u: &[f32], target: &mut [f32], s: &Scratch) {
    let all = plan.block * plan.tiles();
    let pitch = all * plan.target.c + LANES;
    let (patches, products) = (plan.groups() * plan.per_group(plan.source.c), POSITIONS * pitch);
    let mut rows = s.rows(all);
    for (i, row) in rows.iter_mut().enumerate() {
        let (group, tile) = (i / plan.group_tiles(), i % plan.group_tiles());
        *row = Row { a: group * plan.per_group(plan.source.c) + tile * plan.source.c, c: i * plan.target.c };
    }
    let block = |t: &Threads, space: &mut [f32], (i, target): (usize, &mut [f32])| {
        let (v, m) = space.split_at_mut(patches);
        plan.transform_source(t, i * plan.block, target.len() / plan.target.len(), source, v, s);
        plan.multiply(t, v, &rows, u, (&mut m[..], pitch), target, s);
    };
    let blocks = target.chunks_mut(plan.block * plan.target.len()).enumerate();
    if plan.alone {
        let mut spaces = s.take::<f32>((patches + products) * t.count());
        let spaces = parts(&mut spaces, patches + products);
        t.for_each_item_with(spaces, blocks, |space, item| block(Threads::alone(), space, item));
    } else {
        let mut space = s.take::<f32>(patches + products);
        blocks.for_each(|item| block(t, &mut space, item));
    }
}

/// `u[panel][position][c_in][16]`, the transformed kernels. `strides` tells where the channels of source and target are in
/// `w`; exchanged channels mean a turned kernel.
fn kernels<'s>(
    t: &Threads,
    g: &Geometry,
    w: &[f32],
    strides: Strides,
    [c_in, c_out]: [usize; 2],
    s: &'s Scratch,
) -> impl std::ops::Deref<Target = [f32]> + use<'s> {
    let turned = strides.j != 1;
    let mut u = s.take::<f32>(POSITIONS * c_in * c_out);
    let mut spaces = s.take::<f32>(9 * c_in * LANES * t.count());
    let panels = u.chunks_exact_mut(POSITIONS * c_in * LANES).enumerate();
    t.for_each_item_with(parts(&mut spaces, 9 * c_in * LANES), panels, |space, (panel, u)| {
        for (tap, to) in space.chunks_exact_mut(c_in * LANES).enumerate() {
            let tap = if turned { 8 - tap } else { tap };
            let from = &w[tap * g.c_in * g.c_out + panel * LANES * strides.j..];
            pack_panel(to, from, strides, LANES);
        }
        at_level(s.level, Step::Weights { taps: space, u });
    });
    u
}

/// How images are cut into tiles, groups that are transformed together, and blocks that are multiplied together.
struct Plan {
    source: Map,
    target: Map,
    pad: isize,
    /// Images in a group.
    group: usize,
    /// Images in a block, a multiple of `group`.
    block: usize,
    /// Each thread takes whole blocks.
    alone: bool,
}

/// About how much is worked on at a time.
struct Sizes {
    /// Tiles in a group.
    group: usize,
    /// Elements of the transformed images in a block.
    block: usize,
}

const FORWARD: Sizes = Sizes { group: 16, block: BLOCK };

/// Elements of transformed kernels up to which each thread can afford to read them for blocks of its own. What it
/// transforms, multiplies and transforms back then stays in its own caches.
const KERNELS: usize = 3 << 18;

/// Such blocks at least, so that all threads have work.
const BLOCKS: usize = 8;

impl Plan {
    fn new(n: usize, source: Map, target: Map, pad: isize, sizes: Sizes) -> Plan {
        let mut plan = Plan { source, target, pad, group: 1, block: 1, alone: false };
        plan.group = (sizes.group / plan.tiles()).clamp(1, n);
        let per_image = POSITIONS * (source.c + target.c) * plan.tiles();
        let images = (sizes.block / per_image).max(96usize.div_ceil(plan.tiles())).min(n);
        // Equal blocks.
        plan.block = n.div_ceil(n.div_ceil(images)).next_multiple_of(plan.group);
        plan
    }

    /// A plan for correlations, whose results do not depend on the blocks.
    fn correlation(n: usize, source: Map, target: Map, pad: isize) -> Plan {
        let mut plan = Plan::new(n, source, target, pad, FORWARD);
        // As much of images as of kernels goes through the caches then.
        let tiles = source.c * target.c / (source.c + target.c);
        let images = tiles.div_ceil(plan.tiles()).next_multiple_of(plan.group);
        if POSITIONS * source.c * target.c <= KERNELS && n >= BLOCKS * images {
            (plan.block, plan.alone) = (images, true);
        }
        plan
    }

    /// Tiles of an image.
    fn tiles(&self) -> usize {
        self.target.h.div_ceil(OUT) * self.target.w.div_ceil(OUT)
    }

    fn group_tiles(&self) -> usize {
        self.group * self.tiles()
    }

    /// Groups of a block.
    fn groups(&self) -> usize {
        self.block / self.group
    }

    /// Distance of two positions in a transformed group: the extra line keeps them out of each other's cache sets.
    fn pitch(&self, c: usize) -> usize {
        self.group_tiles() * c + LANES
    }

    fn per_group(&self, c: usize) -> usize {
        POSITIONS * self.pitch(c)
    }

    /// The patches of a block of images in the form `v[group][position][tile][c]`.
    fn transform_source(
        &self,
        t: &Threads,
        first: usize,
        images: usize,
        x: Source<'_, f32>,
        v: &mut [f32],
        s: &Scratch,
    ) {
        let window = Window {
            top: -self.pad,
            left: -self.pad,
            h: self.target.h.next_multiple_of(OUT) + 2,
            w: self.target.w.next_multiple_of(OUT) + 2,
        };
        let padded = Map { h: window.h, w: window.w, c: self.source.c };
        let mut spaces = s.take::<f32>(padded.len() * t.count());
        let groups =
            v.chunks_exact_mut(self.per_group(self.source.c)).enumerate().take(images.div_ceil(self.group));
        t.for_each_item_with(parts(&mut spaces, padded.len()), groups, |space, (i, v)| {
            let at = i * self.group;
            for k in 0..self.group.min(images - at) {
                let (image, len) = (first + at + k, self.source.len());
                let x = x.slice(image * len..(image + 1) * len);
                window.copy(self.source, x, space);
                let v = &mut v[k * self.tiles() * self.source.c..];
                at_level(s.level, Step::Input { map: padded, x: space, v, pitch: self.pitch(self.source.c) });
            }
        });
    }

    /// The products of all positions of a block, and its images from them. `pitch` is the distance of two positions.
    #[expect(clippy::too_many_arguments, reason = "the tables of one call")]
    fn multiply(
        &self,
        t: &Threads,
        v: &[f32],
        rows: &[Row],
        u: &[f32],
        (m, pitch): (&mut [f32], usize),
        target: &mut [f32],
        s: &Scratch,
    ) {
        let (c_in, c_out) = (self.source.c, self.target.c);
        let rows = &rows[..target.len() / self.target.len() * self.tiles()];
        t.for_each_chunk(m, pitch, |position, m| {
            let v = &v[position * self.pitch(c_in)..];
            for panel in (0..c_out / LANES).step_by(PANELS) {
                let u = &u[(panel * POSITIONS + position) * c_in * LANES..];
                for first in (0..c_in).step_by(DEPTH) {
                    let len = DEPTH.min(c_in - first);
                    let block = Block {
                        level: s.level,
                        a: v,
                        step: 1,
                        rows,
                        runs: &[Run { a: first, len }],
                        b: &u[first * LANES..],
                        pitch: POSITIONS * c_in * LANES,
                        width: (PANELS * LANES).min(c_out - panel * LANES),
                        add: first > 0,
                    };
                    f32::multiply(&block, &mut m[panel * LANES..]);
                }
            }
        });
        t.for_each_chunk(target, self.group * self.target.len(), |i, target| {
            let m = &m[i * self.group_tiles() * c_out..];
            at_level(s.level, Step::Output { map: self.target, m, pitch, target });
        });
    }
}
