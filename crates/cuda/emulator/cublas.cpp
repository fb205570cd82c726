// The products of cuBLAS that the backend calls, as plain loops. Matrices are stored by columns.

typedef int Status;

namespace {

int the_handle;

const int TRANSPOSED = 1;

template <class R>
Status products(int on_a, int on_b, int m, int n, int k, const R* alpha, const R* a, int lda, long long step_a, const R* b,
                int ldb, long long step_b, const R* beta, R* c, int ldc, long long step_c, int batch) {
    // As the library: a column of the stored matrix cannot be longer than the way to the next.
    if (lda < (on_a == TRANSPOSED ? k : m) || ldb < (on_b == TRANSPOSED ? n : k) || ldc < m) return 7;
    for (int i = 0; i < batch; i++, a += step_a, b += step_b, c += step_c) {
        for (int column = 0; column < n; column++) {
            for (int row = 0; row < m; row++) {
                R sum = 0;
                for (int l = 0; l < k; l++) {
                    R left = on_a == TRANSPOSED ? a[l + (long long)row * lda] : a[row + (long long)l * lda];
                    R right = on_b == TRANSPOSED ? b[column + (long long)l * ldb] : b[l + (long long)column * ldb];
                    sum += left * right;
                }
                R* to = &c[row + (long long)column * ldc];
                *to = *alpha * sum + (*beta == 0 ? 0 : *beta * *to);
            }
        }
    }
    return 0;
}

}  // namespace

extern "C" {

Status cublasCreate_v2(void** handle) {
    *handle = &the_handle;
    return 0;
}

Status cublasDestroy_v2(void*) { return 0; }
Status cublasSetStream_v2(void*, void*) { return 0; }
Status cublasSetMathMode(void*, int) { return 0; }

Status cublasGetVersion_v2(void*, int* version) {
    *version = 130000;
    return 0;
}

Status cublasSgemmStridedBatched(void*, int on_a, int on_b, int m, int n, int k, const float* alpha, const float* a,
                                 int lda, long long step_a, const float* b, int ldb, long long step_b, const float* beta,
                                 float* c, int ldc, long long step_c, int batch) {
    return products(on_a, on_b, m, n, k, alpha, a, lda, step_a, b, ldb, step_b, beta, c, ldc, step_c, batch);
}

Status cublasDgemmStridedBatched(void*, int on_a, int on_b, int m, int n, int k, const double* alpha, const double* a,
                                 int lda, long long step_a, const double* b, int ldb, long long step_b,
                                 const double* beta, double* c, int ldc, long long step_c, int batch) {
    return products(on_a, on_b, m, n, k, alpha, a, lda, step_a, b, ldb, step_b, beta, c, ldc, step_c, batch);
}

}  // extern "C"
