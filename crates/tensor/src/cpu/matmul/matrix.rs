//! Matrices in slices, by rows or by columns.

/// A matrix in a slice: the entry of row `i` and column `j` is `data[i * row_step + j * column_step]`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<D> {
    pub(super) data: D,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_step: usize,
    pub(super) column_step: usize,
}

impl<D> Matrix<D> {
    pub(super) fn row_major(data: D, rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, row_step: columns, column_step: 1 }
    }

    pub(super) fn transposed(self) -> Self {
        let Self { data, rows, columns, row_step, column_step } = self;
        Self { data, rows: columns, columns: rows, row_step: column_step, column_step: row_step }
    }
}

impl<T: Copy> Matrix<&[T]> {
    pub(super) fn at(&self, i: usize, j: usize) -> T {
        self.data[i * self.row_step + j * self.column_step]
    }

    /// The rows from `first` on.
    pub(super) fn some_rows(self, first: usize, rows: usize) -> Self {
        Self { data: &self.data[(first * self.row_step).min(self.data.len())..], rows, ..self }
    }
}

/// A stored factor, looked at as `(rows, columns)`.
pub(super) fn stored<T>(x: &[T], rows: usize, columns: usize, transposed: bool) -> Matrix<&[T]> {
    if transposed {
        Matrix::row_major(x, columns, rows).transposed()
    } else {
        Matrix::row_major(x, rows, columns)
    }
}
