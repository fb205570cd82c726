//! Forward convolution and input adjoint: correlations of a padded source with packed kernels.
use super::axis::{Axis, Reach};
use super::geometry::Geometry;
use super::image::{Cut, Map, Tile, Window};
use crate::cpu::deferred::Source;
use crate::cpu::gemm::kernel::{Block, PANELS, Row, Run};
use crate::cpu::gemm::{DEPTH, Element, Scratch, Strides, pack_panel, parts};
use crate::cpu::threads::Threads;

pub(super) fn forward<T: Element>(
    t: &Threads,
    g: &Geometry,
    x: Source<'_, T>,
    w: &[T],
    y: &mut [T],
    s: &Scratch,
) {
    Sweep::new(g, Direction::Forward).run(t, x, w, y, s);
}

pub(super) fn input_adjoint<T: Element>(
    t: &Threads,
    g: &Geometry,
    dy: Source<'_, T>,
    w: &[T],
    dx: &mut [T],
    s: &Scratch,
) {
    Sweep::new(g, Direction::Adjoint).run(t, dy, w, dx, s);
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Forward,
    Adjoint,
}

/// One of the two maps between images: from `source` to `target`.
struct Sweep<'a> {
    g: &'a Geometry,
    direction: Direction,
    source: Map,
    target: Map,
    cut: Cut,
    /// What a tile of the most rows reads of the source.
    height: Reach,
    width: Reach,
    /// The source needs no border and is read where it lies.
    bare: bool,
}

/// A set of target pixels that meet the same elements of the kernel.
#[derive(Clone, Copy)]
struct Class {
    y: Axis,
    x: Axis,
}

/// Elements of a padded tile at most: half of a second-level cache of 512 KiB.
const TILE: usize = 1 << 16;

impl<'a> Sweep<'a> {
    fn new(g: &'a Geometry, direction: Direction) -> Sweep<'a> {
        let input = Map { h: g.h, w: g.w, c: g.c_in };
        let output = Map { h: g.out_h(), w: g.out_w(), c: g.c_out };
        let (source, target) = match direction {
            Direction::Forward => (input, output),
            Direction::Adjoint => (output, input),
        };
        let mut sweep = Sweep {
            g,
            direction,
            source,
            target,
            cut: Cut { images: 1, rows: target.h },
            height: Reach::default(),
            width: Reach::default(),
            bare: false,
        };
        sweep.width = Reach::of(sweep.axes().map(|r| sweep.axis_x(r)), |axis| axis.count);
        let whole = Reach::of(sweep.axes().map(|r| sweep.axis_y(r)), |axis| axis.count);
        let total = g.n * target.h * target.w;
        let per_pixel =
            (whole.len * sweep.width.len * source.c).div_ceil((target.h * target.w).max(1)).max(1);
        let pixels = (TILE / per_pixel).min(total / 32).clamp(48, 768);
        sweep.cut = Cut::new(g.n, target.h, target.w, sweep.classes_per_axis(), pixels);
        sweep.height = Reach::of(sweep.axes().map(|r| sweep.axis_y(r)), |axis| axis.below(sweep.cut.rows));
        let inside = |reach: Reach, size| reach.lead == 0 && reach.len <= size;
        sweep.bare = inside(whole, source.h) && inside(sweep.width, source.w);
        sweep
    }

    fn run<T: Element>(mut self, t: &Threads, source: Source<'_, T>, w: &[T], target: &mut [T], s: &Scratch) {
        self.bare &= source.plain().is_some();
        if target.is_empty() {
            return;
        }
        if source.len() == 0 || w.is_empty() {
            return target.fill(T::default());
        }
        let packed = self.pack(t, w, s);
        let rows = self.rows(s);
        let runs = self.runs(s);
        let per_thread =
            if self.bare { 0 } else { self.cut.images * self.height.len * self.width.len * self.source.c };
        let mut padded = s.take::<T>(per_thread * t.count());
        let spaces = parts(&mut padded, per_thread);
        let per_row = self.target.w * self.target.c;
        let mut rest = target;
        let tiles = self.cut.tiles(self.g.n, self.target.h).map(|tile| {
            let part =
                rest.split_off_mut(..tile.images * tile.rows * per_row).expect("the tiles cover the target");
            (tile, part)
        });
        t.for_each_item_with(spaces, tiles, |padded, (tile, target)| {
            let source = self.tile(source, tile, padded);
            self.multiply(tile, source, &packed, &rows, &runs, target, s);
        });
    }

    fn axes(&self) -> std::ops::Range<usize> {
        0..self.classes_per_axis()
    }

    fn classes_per_axis(&self) -> usize {
        if self.direction == Direction::Forward { 1 } else { self.g.stride }
    }

    fn axis_y(&self, residue: usize) -> Axis {
        let g = self.g;
        match self.direction {
            Direction::Forward => Axis::forward(g.out_h(), g.kh, g.stride, g.pad),
            Direction::Adjoint => Axis::adjoint(g.h, g.kh, g.stride, g.pad, residue),
        }
    }

    fn axis_x(&self, residue: usize) -> Axis {
        let g = self.g;
        match self.direction {
            Direction::Forward => Axis::forward(g.out_w(), g.kw, g.stride, g.pad),
            Direction::Adjoint => Axis::adjoint(g.w, g.kw, g.stride, g.pad, residue),
        }
    }

    fn classes(&self) -> impl Iterator<Item = Class> + Send {
        self.axes()
            .flat_map(move |y| self.axes().map(move |x| Class { y: self.axis_y(y), x: self.axis_x(x) }))
    }

    /// Channels of source and target in a group.
    fn group(&self) -> (usize, usize) {
        (self.source.c / self.g.groups, self.target.c / self.g.groups)
    }

    fn panels<T: Element>(&self) -> usize {
        self.group().1.div_ceil(T::LANES)
    }

    /// Terms of a sum in a class.
    fn depth(&self, class: &Class) -> usize {
        class.y.taps * class.x.taps * self.group().0
    }

    /// The kernel in panels, in the order class, group, panel; in a panel in the order of [`Sweep::runs`].
    fn pack<'s, T: Element>(
        &self,
        t: &Threads,
        w: &[T],
        s: &'s Scratch,
    ) -> impl std::ops::Deref<Target = [T]> + use<'s, T> {
        let (inner, outer) = self.group();
        let (panels, g) = (self.panels::<T>(), self.g);
        let mut packed = s.take::<T>(g.kh * g.kw * inner * g.groups * panels * T::LANES);
        let mut rest = &mut packed[..];
        let items = self
            .classes()
            .flat_map(|class| (0..g.groups * panels).map(move |i| (class, i / panels, i % panels)));
        let items = items.map(|item| {
            let len = self.depth(&item.0) * T::LANES;
            (item, rest.split_off_mut(..len).expect("the classes share the kernel"))
        });
        t.for_each_item(items, |((class, group, panel), to)| {
            let (c_in, width) = (g.c_in / g.groups, T::LANES.min(outer - panel * T::LANES));
            let strides = match self.direction {
                Direction::Forward => Strides { k: g.c_out, j: 1 },
                Direction::Adjoint => Strides { k: 1, j: g.c_out },
            };
            let start = group * (g.c_out / g.groups) + panel * T::LANES * strides.j;
            let taps = (0..class.y.taps).flat_map(|a| (0..class.x.taps).map(move |b| (a, b)));
            for ((a, b), to) in taps.zip(to.chunks_exact_mut(inner * T::LANES)) {
                let tap = class.y.kernel(a) * g.kw + class.x.kernel(b);
                pack_panel(to, &w[tap * c_in * g.c_out + start..], strides, width);
            }
        });
        packed
    }

    /// For each class the pixels of a tile: where their windows begin in the padded tile, and where they are in the target.
    fn rows<'s>(&self, s: &'s Scratch) -> impl std::ops::Deref<Target = [Row]> + use<'s> {
        let (tile_h, tile_w) = self.stride_of_source();
        let len =
            self.classes().map(|class| self.cut.images * class.y.below(self.cut.rows) * class.x.count).sum();
        let mut rows = s.rows(len);
        let mut free = rows.iter_mut();
        for Class { y, x } in self.classes() {
            let empty = y.taps == 0 || x.taps == 0;
            for image in 0..self.cut.images {
                for i in 0..y.below(self.cut.rows) {
                    for (j, row) in (0..x.count).zip(&mut free) {
                        let v = (i * y.advance) as isize + self.height.lead - y.lead;
                        let h = (j * x.advance) as isize + self.width.lead - x.lead;
                        let a = if empty { 0 } else { (image * tile_h + v as usize) * tile_w + h as usize };
                        let c = (image * self.cut.rows + y.first + i * y.step) * self.target.w
                            + x.first
                            + j * x.step;
                        *row = Row { a: a * self.source.c, c: c * self.target.c };
                    }
                }
            }
        }
        rows
    }

    /// Rows and columns of an image where windows are read.
    fn stride_of_source(&self) -> (usize, usize) {
        if self.bare { (self.source.h, self.source.w) } else { (self.height.len, self.width.len) }
    }

    /// For each class its sum cut into runs of at most [`DEPTH`] terms.
    fn runs<'s>(&self, s: &'s Scratch) -> impl std::ops::Deref<Target = [Run]> + use<'s> {
        let len = self.classes().map(|class| self.class_runs(&class).count()).sum();
        let mut runs = s.runs(len);
        for (to, run) in runs.iter_mut().zip(self.classes().flat_map(|class| self.class_runs(&class))) {
            *to = run;
        }
        runs
    }

    fn class_runs(&self, class: &Class) -> impl Iterator<Item = Run> + Send + use<> {
        let (inner, c) = (self.group().0, self.source.c);
        // Without groups the taps of a row of the kernel lie side by side.
        let (pieces, len) =
            if self.g.groups == 1 { (1, class.x.taps * inner) } else { (class.x.taps, inner) };
        let pieces = if class.x.taps == 0 { 0 } else { pieces };
        let (taps, width) = (class.y.taps, self.stride_of_source().1);
        let part = len.div_ceil(len.div_ceil(DEPTH).max(1));
        (0..taps).flat_map(move |a| {
            (0..pieces).flat_map(move |b| {
                let parts = (0..len).step_by(part.max(1));
                parts.map(move |at| Run { a: (a * width + b) * c + at, len: part.min(len - at) })
            })
        })
    }

    /// The source below a tile of the target, with its border.
    fn tile<'b, T: Element>(&self, source: Source<'b, T>, tile: Tile, padded: &'b mut [T]) -> &'b [T] {
        let len = self.source.len();
        let images = source.slice(tile.image * len..(tile.image + tile.images) * len);
        let advance = self.axis_y(0).advance;
        let top = tile.row / self.classes_per_axis() * advance;
        if let (true, Some(images)) = (self.bare, images.plain()) {
            return &images[top * self.source.w * self.source.c..];
        }
        let window = Window {
            top: top as isize - self.height.lead,
            left: -self.width.lead,
            h: self.height.len,
            w: self.width.len,
        };
        window.copy(self.source, images, padded);
        padded
    }

    #[expect(clippy::too_many_arguments, reason = "the tables of one call")]
    fn multiply<T: Element>(
        &self,
        tile: Tile,
        source: &[T],
        mut packed: &[T],
        mut rows: &[Row],
        mut runs: &[Run],
        target: &mut [T],
        s: &Scratch,
    ) {
        let (inner, outer) = self.group();
        let (groups, panels) = (self.g.groups, self.panels::<T>());
        if self.classes().any(|class| self.depth(&class) == 0) {
            target.fill(T::default());
        }
        for class in self.classes() {
            let all = self.cut.images * class.y.below(self.cut.rows) * class.x.count;
            let used = tile.images * class.y.below(tile.rows) * class.x.count;
            let rows = &rows.split_off(..all).expect("rows of each class")[..used];
            let runs = runs.split_off(..self.class_runs(&class).count()).expect("runs of each class");
            let pitch = self.depth(&class) * T::LANES;
            let of_group = (0..panels).step_by(PANELS).map(|panel| (panel, PANELS.min(panels - panel)));
            for (group, (panel, count)) in
                (0..groups).flat_map(|group| of_group.clone().map(move |p| (group, p)))
            {
                let kernels = packed.split_off(..pitch * count).expect("panels of each class");
                let first = group * outer + panel * T::LANES;
                let mut done = 0;
                for runs in blocks(runs) {
                    let block = Block {
                        level: s.level,
                        a: &source[group * inner..],
                        step: 1,
                        rows,
                        runs,
                        b: &kernels[done * T::LANES..],
                        pitch,
                        width: (count * T::LANES).min(outer - panel * T::LANES),
                        add: done > 0,
                    };
                    T::multiply(&block, &mut target[first..]);
                    done += runs.iter().map(|run| run.len).sum::<usize>();
                }
            }
        }
    }
}

/// Groups neighboring runs until they have [`DEPTH`] terms together.
pub(super) fn blocks(mut runs: &[Run]) -> impl Iterator<Item = &[Run]> {
    std::iter::from_fn(move || {
        let mut depth = 0;
        let fits = |run: &&Run| {
            depth += run.len;
            depth <= DEPTH
        };
        let len = runs.iter().take_while(fits).count().max(1);
        runs.split_off(..len.min(runs.len())).filter(|runs| !runs.is_empty())
    })
}
