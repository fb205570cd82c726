//! Winograd passes: the transforms applied to images, kernels and products.
use super::super::image::Map;
use super::transform::{
    Input, Kernel, KernelAdjoint, OUT, Output, OutputAdjoint, POSITIONS, SIDE, Square, both,
};
use crate::cpu::gemm::Element;
use crate::cpu::gemm::kernel::Level;
use crate::cpu::gemm::vector::{Vector, portable};

const LANES: usize = <f32 as Element>::LANES;

/// A pass, with its data. Channels and lengths are multiples of 16.
pub(super) enum Step<'a> {
    /// A padded image to patches.
    Input { map: Map, x: &'a [f32], v: &'a mut [f32], pitch: usize },
    /// Products to images.
    Output { map: Map, m: &'a [f32], pitch: usize, target: &'a mut [f32] },
    /// Images of derivatives to panels `[position][panel][tile][16]`, each with room for `tiles`.
    Derivative { map: Map, dy: &'a [f32], to: &'a mut [f32], tiles: usize, pitch: usize },
    /// Nine panels to 36.
    Weights { taps: &'a [f32], u: &'a mut [f32] },
    /// Summed products to the derivatives of nine taps.
    Kernel { sums: &'a [f32], pitch: usize, dw: [&'a mut [f32]; 9] },
}

pub(super) fn at_level(level: Level, step: Step<'_>) {
    match level {
        // SAFETY: arrays need no special instructions.
        Level::Portable => unsafe { step.run::<portable::Single>() },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Level::Avx2` exists only where AVX2 and FMA were detected.
        Level::Avx2 => unsafe { with_avx2(step) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Level::Avx512` exists only where AVX-512F was detected.
        Level::Avx512 => unsafe { with_avx512(step) },
    }
}

/// # Safety
/// The processor has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn with_avx2(step: Step<'_>) {
    // SAFETY: as for this function.
    unsafe { step.run::<crate::cpu::gemm::vector::avx2::Single>() }
}

/// # Safety
/// The processor has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn with_avx512(step: Step<'_>) {
    // SAFETY: as for this function.
    unsafe { step.run::<crate::cpu::gemm::vector::avx512::Single>() }
}

impl Step<'_> {
    /// # Safety
    /// The processor has the instructions of `V`.
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = f32>>(self) {
        // SAFETY: as for this function.
        unsafe {
            match self {
                Step::Input { map, x, v, pitch } => input::<V>(map, x, v, pitch),
                Step::Output { map, m, pitch, target } => output::<V>(map, m, pitch, target),
                Step::Derivative { map, dy, to, tiles, pitch } => derivative::<V>(map, dy, to, tiles, pitch),
                Step::Weights { taps, u } => weights::<V>(taps, u),
                Step::Kernel { sums, pitch, dw } => kernel::<V>(sums, pitch, dw),
            }
        }
    }
}

/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn input<V: Vector<Scalar = f32>>(map: Map, x: &[f32], v: &mut [f32], pitch: usize) {
    assert!(map.c.is_multiple_of(V::LEN), "whole vectors of channels");
    let (down, across) = ((map.h - 2) / OUT, (map.w - 2) / OUT);
    let read = Square { down: map.w * map.c, across: map.c, rows: SIDE, columns: SIDE };
    let write = Square::positions(pitch);
    for tile in 0..down * across {
        let x = &x[(tile / across * map.w + tile % across) * OUT * map.c..];
        let v = &mut v[tile * map.c..];
        assert!(read.end(SIDE, map.c) <= x.len() && write.end(SIDE, map.c) <= v.len());
        for c in (0..map.c).step_by(V::LEN) {
            // SAFETY: the squares of all channels were compared with the lengths, and `LEN` with the number of channels.
            unsafe { both::<V, Input, SIDE, SIDE>(x.as_ptr().add(c), read, v.as_mut_ptr().add(c), write) };
        }
    }
}

/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn output<V: Vector<Scalar = f32>>(map: Map, m: &[f32], pitch: usize, target: &mut [f32]) {
    assert!(map.c.is_multiple_of(V::LEN), "whole vectors of channels");
    let (down, across) = (map.h.div_ceil(OUT), map.w.div_ceil(OUT));
    let read = Square::positions(pitch);
    for (n, image) in target.chunks_exact_mut(map.len()).enumerate() {
        for tile in 0..down * across {
            let (y, x) = (tile / across * OUT, tile % across * OUT);
            let m = &m[(n * down * across + tile) * map.c..];
            let image = &mut image[(y * map.w + x) * map.c..];
            let write = Square { down: map.w * map.c, across: map.c, rows: map.h - y, columns: map.w - x };
            assert!(read.end(SIDE, map.c) <= m.len() && write.end(OUT, map.c) <= image.len());
            for c in (0..map.c).step_by(V::LEN) {
                // SAFETY: as in `input`.
                unsafe {
                    both::<V, Output, SIDE, OUT>(m.as_ptr().add(c), read, image.as_mut_ptr().add(c), write)
                };
            }
        }
    }
}

/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn derivative<V: Vector<Scalar = f32>>(
    map: Map,
    dy: &[f32],
    to: &mut [f32],
    tiles: usize,
    pitch: usize,
) {
    assert!(map.c.is_multiple_of(V::LEN), "whole vectors of channels");
    let (down, across) = (map.h.div_ceil(OUT), map.w.div_ceil(OUT));
    let write = Square::positions(pitch);
    for (n, image) in dy.chunks_exact(map.len()).enumerate() {
        for tile in 0..down * across {
            let (y, x) = (tile / across * OUT, tile % across * OUT);
            let image = &image[(y * map.w + x) * map.c..];
            let read = Square { down: map.w * map.c, across: map.c, rows: map.h - y, columns: map.w - x };
            assert!(read.end(OUT, map.c) <= image.len());
            for c in (0..map.c).step_by(V::LEN) {
                let at = (c / LANES * tiles + n * down * across + tile) * LANES + c % LANES;
                let to = &mut to[at..];
                assert!(write.end(SIDE, V::LEN) <= to.len());
                // SAFETY: both squares were compared with the lengths, and `LEN` with the number of channels.
                unsafe {
                    both::<V, OutputAdjoint, OUT, SIDE>(image.as_ptr().add(c), read, to.as_mut_ptr(), write)
                };
            }
        }
    }
}

/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn weights<V: Vector<Scalar = f32>>(taps: &[f32], u: &mut [f32]) {
    let (from, to) = (taps.len() / 9, u.len() / POSITIONS);
    let read = Square { down: 3 * from, across: from, rows: 3, columns: 3 };
    assert!(from <= to && from % V::LEN == 0);
    for at in (0..from).step_by(V::LEN) {
        // SAFETY: nine parts of `from` elements are read, 36 of `to` are written, each up to `at + LEN` ≤ `from`.
        unsafe {
            both::<V, Kernel, 3, SIDE>(
                taps.as_ptr().add(at),
                read,
                u.as_mut_ptr().add(at),
                Square::positions(to),
            );
        }
    }
}

/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn kernel<V: Vector<Scalar = f32>>(sums: &[f32], pitch: usize, mut dw: [&mut [f32]; 9]) {
    let mut line = [0.0; 9 * LANES];
    let write = Square { down: 3 * V::LEN, across: V::LEN, rows: 3, columns: 3 };
    for at in (0..dw[0].len()).step_by(V::LEN) {
        let sums = &sums[at..];
        assert!(
            Square::positions(pitch).end(SIDE, V::LEN) <= sums.len() && write.end(3, V::LEN) <= line.len()
        );
        // SAFETY: both squares were compared with the lengths.
        unsafe {
            both::<V, KernelAdjoint, SIDE, 3>(
                sums.as_ptr(),
                Square::positions(pitch),
                line.as_mut_ptr(),
                write,
            );
        }
        for (dw, line) in dw.iter_mut().zip(line.chunks_exact(V::LEN)) {
            dw[at..at + V::LEN].copy_from_slice(line);
        }
    }
}
