//! Tiles of the weight adjoint: their extents, and the rows that a kernel's taps begin at.

use crate::cpu::conv::geometry::Geometry;
use crate::cpu::gemm::Scratch;
use crate::cpu::gemm::kernel::Row;

/// Elements of the kernel: where their windows begin in the padded tile, and where their sums are.
pub(super) fn kernel_rows<'s>(
    g: &Geometry,
    s: &'s Scratch,
) -> impl std::ops::Deref<Target = [Row]> + use<'s> {
    let per_tap = g.c_in / g.groups;
    let mut rows = s.rows(g.kh * g.kw * per_tap);
    for (i, row) in rows.iter_mut().enumerate() {
        let (tap, c) = (i / per_tap, i % per_tap);
        let (y, x) = (tap / g.kw, tap % g.kw);
        *row = Row { a: (y * tile_w(g) + x) * g.c_in + c, c: i * g.c_out };
    }
    rows
}

/// Rows of the padded input below `rows` rows of the output.
pub(super) fn tile_h(g: &Geometry, rows: usize) -> usize {
    (rows - 1) * g.stride + g.kh
}

pub(super) fn tile_w(g: &Geometry) -> usize {
    (g.out_w() - 1) * g.stride + g.kw
}
