// The products of cuBLASLt that the backend asks for, as plain loops. Matrices are stored by columns. What the backend
// does not use is refused.

#include <cstddef>
#include <cstring>

#include "bf16.h"
#include "stream.h"

typedef int Status;
typedef unsigned long long u64;

namespace {

const Status OK = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15;
const int F32 = 0, F64 = 1, BF16 = 14;
const int SUM_IN_F32 = 68, TF32 = 77, SUM_IN_F64 = 70;
const int TRANSPOSED = 1;
const int RELU = 2, BIAS = 4;
const u64 ANSWER = 0x7461727274ull;

int the_handle;

struct Product {
    int compute, scale, on_a = 0, on_b = 0, epilogue = 1;
    const void* bias = nullptr;
};

struct Layout {
    int type;
    u64 rows, columns;
    long long lead;
    int batch = 1;
    long long step = 0;
};

struct Preference {
    u64 workspace = 0;
    unsigned reductions = 7, alignment[4] = {256, 256, 256, 256};
};

struct Heuristic {
    u64 algorithm[8];
    std::size_t workspace;
    Status state;
    float waves;
    int reserved[4];
};

// Factors of type From, sums of R, a result of type To.
template <class R, class From, class To>
Status multiply(const Product& p, R factor, R keep, const From* a, const Layout& la, const From* b, const Layout& lb,
                To* c, const Layout& lc) {
    const To* bias = static_cast<const To*>(p.bias);
    u64 terms = p.on_a == TRANSPOSED ? la.rows : la.columns;
    long long down_a = p.on_a == TRANSPOSED ? la.lead : 1, along_a = p.on_a == TRANSPOSED ? 1 : la.lead;
    long long down_b = p.on_b == TRANSPOSED ? 1 : lb.lead, along_b = p.on_b == TRANSPOSED ? lb.lead : 1;
    for (int i = 0; i < lc.batch; i++, a += la.step, b += lb.step, c += lc.step) {
        for (u64 column = 0; column < lc.columns; column++) {
            for (u64 row = 0; row < lc.rows; row++) {
                R sum = 0;
                for (u64 l = 0; l < terms; l++) {
                    sum += (R)a[row * down_a + l * along_a] * (R)b[column * down_b + l * along_b];
                }
                To& to = c[row + column * lc.lead];
                R value = factor * sum + (keep == 0 ? 0 : keep * (R)to);
                if (p.epilogue & BIAS) value += (R)bias[row];
                if (p.epilogue & RELU) value = value < 0 ? 0 : value;
                to = value;
            }
        }
    }
    return OK;
}

template <class T>
Status set(T& to, const void* from, std::size_t bytes) {
    if (bytes != sizeof to) return INVALID_VALUE;
    memcpy(&to, from, bytes);
    return OK;
}

// As the library: types that go together, extents that fit, columns no longer than the way to the next.
Status check(const Product& p, const Layout& a, const Layout& b, const Layout& c) {
    bool wide = p.compute == SUM_IN_F64;
    bool types = wide ? a.type == F64 && c.type == F64
                      : a.type == F32 ? c.type == F32 : a.type == BF16 && (c.type == BF16 || c.type == F32);
    bool sums = wide ? p.scale == F64
                     : p.scale == F32 && (p.compute == SUM_IN_F32 || (p.compute == TF32 && a.type == F32));
    if (!types || !sums || b.type != a.type) return NOT_SUPPORTED;
    u64 m = p.on_a == TRANSPOSED ? a.columns : a.rows, k = p.on_a == TRANSPOSED ? a.rows : a.columns;
    u64 n = p.on_b == TRANSPOSED ? b.rows : b.columns, l = p.on_b == TRANSPOSED ? b.columns : b.rows;
    bool fits = m == c.rows && n == c.columns && k == l && a.batch == c.batch && b.batch == c.batch;
    bool leads = (u64)a.lead >= a.rows && (u64)b.lead >= b.rows && (u64)c.lead >= c.rows;
    bool end = p.epilogue == 1 || (!wide && (p.epilogue == BIAS || p.epilogue == (BIAS | RELU)));
    return fits && leads && end ? OK : INVALID_VALUE;
}

}  // namespace

extern "C" {

Status cublasLtCreate(void** handle) {
    *handle = &the_handle;
    return OK;
}

Status cublasLtDestroy(void*) { return OK; }

std::size_t cublasLtGetVersion() { return 130000; }

Status cublasLtMatmulDescCreate(void** product, int compute, int scale) {
    *product = new Product{compute, scale};
    return OK;
}

Status cublasLtMatmulDescSetAttribute(void* product, int attribute, const void* from, std::size_t bytes) {
    Product& p = *static_cast<Product*>(product);
    switch (attribute) {
        case 3: return set(p.on_a, from, bytes);
        case 4: return set(p.on_b, from, bytes);
        case 7: return set(p.epilogue, from, bytes);
        case 8: return set(p.bias, from, bytes);
        default: return INVALID_VALUE;
    }
}

Status cublasLtMatmulDescDestroy(void* product) {
    delete static_cast<Product*>(product);
    return OK;
}

Status cublasLtMatrixLayoutCreate(void** layout, int type, u64 rows, u64 columns, long long lead) {
    *layout = new Layout{type, rows, columns, lead};
    return OK;
}

Status cublasLtMatrixLayoutSetAttribute(void* layout, int attribute, const void* from, std::size_t bytes) {
    Layout& l = *static_cast<Layout*>(layout);
    switch (attribute) {
        case 5: return set(l.batch, from, bytes);
        case 6: return set(l.step, from, bytes);
        default: return INVALID_VALUE;
    }
}

Status cublasLtMatrixLayoutDestroy(void* layout) {
    delete static_cast<Layout*>(layout);
    return OK;
}

Status cublasLtMatmulPreferenceCreate(void** preference) {
    *preference = new Preference();
    return OK;
}

Status cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute, const void* from, std::size_t bytes) {
    Preference& p = *static_cast<Preference*>(preference);
    switch (attribute) {
        case 1: return set(p.workspace, from, bytes);
        case 3: return set(p.reductions, from, bytes);
        case 5: case 6: case 7: case 8: return set(p.alignment[attribute - 5], from, bytes);
        default: return INVALID_VALUE;
    }
}

Status cublasLtMatmulPreferenceDestroy(void* preference) {
    delete static_cast<Preference*>(preference);
    return OK;
}

// One algorithm, which remembers the alignments that it was asked for.
Status cublasLtMatmulAlgoGetHeuristic(void*, void* product, void* a, void* b, void* c, void*, void* preference, int wanted,
                                      Heuristic* found, int* count) {
    const Preference& p = *static_cast<Preference*>(preference);
    Status status = check(*static_cast<Product*>(product), *static_cast<Layout*>(a), *static_cast<Layout*>(b),
                          *static_cast<Layout*>(c));
    *count = status == OK && wanted > 0 ? 1 : 0;
    if (status != OK) return status;
    *found = {{ANSWER, p.alignment[0], p.alignment[1], p.alignment[2], p.alignment[3]}, 0, OK, 1, {}};
    return OK;
}

Status cublasLtMatmul(void*, void* product, const void* alpha, const void* a, void* la, const void* b, void* lb,
                      const void* beta, const void* c, void* lc, void* d, void* ld, const u64* algorithm, void*,
                      std::size_t, void* stream) {
    const Product p = *static_cast<Product*>(product);
    const Layout left = *static_cast<Layout*>(la), right = *static_cast<Layout*>(lb), to = *static_cast<Layout*>(lc);
    Status status = check(p, left, right, to);
    if (status != OK) return status;
    const void* at[] = {a, b, c, d};
    for (int i = 0; i < 4; i++) {
        if (algorithm[0] != ANSWER || reinterpret_cast<u64>(at[i]) % algorithm[i + 1] != 0) return INVALID_VALUE;
    }
    if (c != d || lc != ld || ((p.epilogue & BIAS) && p.bias == nullptr)) return INVALID_VALUE;
    auto run = [&](auto sum, auto from, auto result) {
        typedef decltype(sum) R;
        typedef decltype(from) From;
        typedef decltype(result) To;
        // Factors are read now, from the host.
        R factor = *static_cast<const R*>(alpha), keep = *static_cast<const R*>(beta);
        return queue(stream, [=] {
            return multiply<R>(p, factor, keep, static_cast<const From*>(a), left, static_cast<const From*>(b), right,
                               static_cast<To*>(d), to);
        });
    };
    if (left.type == F64) return run(double(), double(), double());
    if (left.type == F32) return run(float(), float(), float());
    return to.type == F32 ? run(float(), Bf16(), float()) : run(float(), Bf16(), Bf16());
}

}  // extern "C"
