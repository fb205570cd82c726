//! One image and what is done to it.

use tarrl_tensor::{Key, math};

/// One image, row by row with its channels last.
pub(super) struct Image<'a> {
    pub(super) values: &'a mut [f64],
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) c: usize,
}

impl Image<'_> {
    pub(super) fn noise(&mut self, deviation: f64, key: Key) {
        let mut stream = key.stream();
        self.values.iter_mut().for_each(|v| *v += deviation * stream.normal());
    }

    pub(super) fn contrast(&mut self, factor: f64) {
        let area = (self.h * self.w) as f64;
        for channel in 0..self.c {
            let mean = self.values.iter().skip(channel).step_by(self.c).sum::<f64>() / area;
            let values = self.values.iter_mut().skip(channel).step_by(self.c);
            values.for_each(|v| *v = mean + factor * (*v - mean));
        }
    }

    pub(super) fn brightness(&mut self, summand: f64) {
        for pixel in self.values.chunks_mut(self.c) {
            let most = pixel.iter().copied().fold(0.0, f64::max);
            let brighter = (most + summand).min(1.0);
            pixel.iter_mut().for_each(|v| *v = if most > 0.0 { *v * brighter / most } else { brighter });
        }
    }

    /// Along rows and then along columns, the nearest pixel repeated beyond the border.
    pub(super) fn blur(&mut self, deviation: f64) {
        let weights = gaussian(deviation);
        let reach = weights.len() / 2;
        for [len, stride, others] in [[self.w, self.c, self.h], [self.h, self.w * self.c, self.w]] {
            let across = if stride == self.c { self.w * self.c } else { self.c };
            for line in 0..others {
                for channel in 0..self.c {
                    let place = |t: usize| line * across + t * stride + channel;
                    let before: Vec<f64> = (0..len).map(|t| self.values[place(t)]).collect();
                    for t in 0..len {
                        let near = |k: usize| (t + k).saturating_sub(reach).min(len - 1);
                        self.values[place(t)] =
                            weights.iter().enumerate().map(|(k, weight)| weight * before[near(k)]).sum();
                    }
                }
            }
        }
    }

    /// The mean over `⌊factor · h⌋` by `⌊factor · w⌋` equal rectangles, each pixel then that of the rectangle of its center.
    pub(super) fn pixelate(&mut self, factor: f64) {
        let fewer = |side: usize| ((factor * side as f64).floor() as usize).max(1);
        let (rows, columns) = (fewer(self.h), fewer(self.w));
        let shares = [(self.h, rows), (self.w, columns)].map(|(side, parts)| overlaps(side, parts));
        let center = |i: usize, side: usize, parts: usize| (2 * i + 1) * parts / (2 * side);
        for channel in 0..self.c {
            let before: Vec<f64> = self.values.iter().skip(channel).step_by(self.c).copied().collect();
            let mut coarse = vec![0.0; rows * columns];
            for (row, across) in shares[0].iter().enumerate() {
                for (column, along) in shares[1].iter().enumerate() {
                    coarse[row * columns + column] = across
                        .iter()
                        .flat_map(|&(y, p)| along.iter().map(move |&(x, q)| (y, x, p * q)))
                        .map(|(y, x, share)| share * before[y * self.w + x])
                        .sum();
                }
            }
            for y in 0..self.h {
                for x in 0..self.w {
                    let place = center(y, self.h, rows) * columns + center(x, self.w, columns);
                    self.values[(y * self.w + x) * self.c + channel] = coarse[place];
                }
            }
        }
    }
}

/// The weights of a Gaussian at the integers up to four deviations from 0, with sum one.
fn gaussian(deviation: f64) -> Vec<f64> {
    let reach = (4.0 * deviation + 0.5).floor() as i64;
    let weight = |t: i64| math::exp(-0.5 * (t as f64 / deviation).powi(2));
    let weights: Vec<f64> = (-reach..=reach).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// For each of `parts` equal parts of `side` pixels, the pixels that it covers and their shares of it.
pub(super) fn overlaps(side: usize, parts: usize) -> Vec<Vec<(usize, f64)>> {
    // In units of a pixel over the number of parts, so that all ends are integers.
    let part = |i: usize| {
        let (start, end) = (i * side, (i + 1) * side);
        let covered = start / parts..end.div_ceil(parts);
        covered.map(move |t| {
            let length = end.min((t + 1) * parts) - start.max(t * parts);
            (t, length as f64 / side as f64)
        })
    };
    (0..parts).map(|i| part(i).collect()).collect()
}
