//! Image tiles with their border, padded with zeros.
use crate::cpu::deferred::Source;
use crate::cpu::gemm::Element;

/// Images of `(h, w, c)` one behind the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map {
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) c: usize,
}

impl Map {
    pub(super) fn len(&self) -> usize {
        self.h * self.w * self.c
    }
}

/// A window of an image, in pixels from its corner. It may stick out on all sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) top: isize,
    pub(super) left: isize,
    pub(super) h: usize,
    pub(super) w: usize,
}

impl Window {
    /// Copies this window of every image to `to`; what lies outside an image becomes zero.
    pub(super) fn copy<T: Element>(&self, map: Map, images: Source<'_, T>, to: &mut [T]) {
        let row_len = self.w * map.c;
        let (first, skip) = clip(self.left, self.w, map.w);
        let wide = first.len() * map.c;
        let skip = skip * map.c;
        let windows = to.chunks_exact_mut((self.h * row_len).max(1));
        let starts = (0..images.len()).step_by(map.len().max(1));
        for (start, to) in starts.zip(windows) {
            for (i, to) in to.chunks_exact_mut(row_len).enumerate() {
                let y = self.top + i as isize;
                if y < 0 || y >= map.h as isize || wide == 0 {
                    to.fill(T::default());
                    continue;
                }
                to[..skip].fill(T::default());
                images.copy(start + (y as usize * map.w + first.start) * map.c, &mut to[skip..skip + wide]);
                to[skip + wide..].fill(T::default());
            }
        }
    }
}

/// The part of `start .. start + len` inside `0 .. size`, and how far from `start` it begins.
fn clip(start: isize, len: usize, size: usize) -> (std::ops::Range<usize>, usize) {
    let end = (start + len as isize).clamp(0, size as isize) as usize;
    let begin = (start.max(0) as usize).min(end);
    (begin..end, if begin < end { (begin as isize - start) as usize } else { 0 })
}

/// How the images of a batch are cut: `images` whole ones at a time, or `rows` rows of one.
/// Depends on the shapes alone, so that results do not depend on the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cut {
    pub(super) images: usize,
    pub(super) rows: usize,
}

impl Cut {
    /// Tiles of about `pixels` pixels of `n` maps of `h` rows of `w`; rows come in multiples of `step`.
    pub(super) fn new(n: usize, h: usize, w: usize, step: usize, pixels: usize) -> Cut {
        let whole = (h * w).max(1);
        if pixels >= whole {
            return Cut { images: (pixels / whole).min(n).max(1), rows: h };
        }
        let strips = (h * w).div_ceil(pixels.max(1));
        Cut { images: 1, rows: h.div_ceil(strips).next_multiple_of(step).min(h) }
    }

    /// All tiles in order.
    pub(super) fn tiles(self, n: usize, h: usize) -> impl Iterator<Item = Tile> {
        let rows = self.rows.max(1);
        (0..n).step_by(self.images).flat_map(move |image| {
            (0..h).step_by(rows).map(move |row| Tile {
                image,
                images: self.images.min(n - image),
                row,
                rows: rows.min(h - row),
            })
        })
    }
}

/// Some rows of some images.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    pub(super) image: usize,
    pub(super) images: usize,
    pub(super) row: usize,
    pub(super) rows: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_may_stick_out_or_miss_the_image() {
        let map = Map { h: 3, w: 4, c: 2 };
        let images: Vec<f32> = (0..2 * map.len()).map(|i| 1.0 + i as f32).collect();
        for (top, left) in [(0, 0), (-1, -1), (1, 2), (-9, 0), (0, 9), (0, -9), (2, 3), (-2, -5)] {
            for (h, w) in [(1, 1), (3, 4), (5, 6), (2, 12)] {
                let window = Window { top, left, h, w };
                let mut to = vec![f32::NAN; 2 * h * w * map.c];
                window.copy(map, Source::from(&images[..]), &mut to);
                for (i, got) in to.iter().enumerate() {
                    let (c, x, y, n) = (i % 2, i / 2 % w, i / 2 / w % h, i / 2 / w / h);
                    let (y, x) = (y as isize + top, x as isize + left);
                    let inside = (0..3).contains(&y) && (0..4).contains(&x);
                    let want =
                        if inside { images[((n * 3 + y as usize) * 4 + x as usize) * 2 + c] } else { 0.0 };
                    assert_eq!(*got, want);
                }
            }
        }
    }

    #[test]
    fn tiles_cover_every_row_once() {
        for (n, h, w, step, pixels) in
            [(5, 4, 4, 1, 40), (2, 32, 32, 2, 100), (3, 7, 9, 3, 1), (1, 1, 1, 1, 1)]
        {
            let mut seen = vec![0; n * h];
            for tile in Cut::new(n, h, w, step, pixels).tiles(n, h) {
                assert!(tile.row % step == 0 && (tile.images == 1 || tile.rows == h));
                for image in tile.image..tile.image + tile.images {
                    (tile.row..tile.row + tile.rows).for_each(|row| seen[image * h + row] += 1);
                }
            }
            assert!(seen.iter().all(|&count| count == 1));
        }
    }
}
