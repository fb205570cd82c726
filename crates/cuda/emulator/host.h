// CUDA C++ for the host: what the kernels use of the language, so that their text compiles as plain C++.
//
// A generated file includes this one, then every kernel file in a namespace of its own, then lists all kernels.

#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(n)
#define __align__(n) alignas(n)
// Blocks run one after the other, so that one copy serves them all.
#define __shared__ static

// Vectors of the language, which move whatever lies under them.
struct __attribute__((aligned(16), may_alias)) uint4 {
    unsigned x, y, z, w;
};
struct __attribute__((aligned(16), may_alias)) float4 {
    float x, y, z, w;
};

struct Dim {
    unsigned x, y, z;
};
extern Dim threadIdx, blockIdx, blockDim, gridDim;

// Lets the other threads of the block run to their next barrier.
void __syncthreads();

static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }

static inline unsigned atomicExch(unsigned* at, unsigned value) {
    unsigned old = *at;
    *at = value;
    return old;
}

static inline float __int_as_float(int bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline int __float_as_int(float value) {
    int bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

struct Kernel {
    const char* name;
    void (*call)(void** arguments);
    // Whether its threads wait for each other.
    bool barriers;
    // Bytes of each argument, with a zero behind the last.
    const std::size_t* sizes;
};
extern const Kernel kernels[];
extern const unsigned kernel_count;

template <class... A, std::size_t... I>
void apply(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

template <class... A>
constexpr std::size_t sizes_of[] = {sizeof(A)..., 0};

template <class... A>
const std::size_t* sizes(void (*)(A...)) {
    return sizes_of<A...>;
}

// Calls a kernel with arguments as the driver gets them: a pointer to each.
template <class... A>
void apply(void (*kernel)(A...), void** arguments) {
    apply(kernel, arguments, std::index_sequence_for<A...>{});
}
