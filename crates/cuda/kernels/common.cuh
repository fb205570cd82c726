// What every kernel file shares. The text is put in front of a file together with definitions of its element type:
//
//   REAL    float or double, in files of arithmetic
//   STORED  what they are in memory: REAL, or bf16 with float
//   WORD    unsigned short, unsigned int or unsigned long long, in files that only move elements
//   SUFFIX  _f32, _f64, _bf16, _w2, _w4 or _w8: ends the name of every kernel
//
// Only plain CUDA C++ with barriers and shared memory is used, so that the emulator can compile the same text for the
// host. No product and sum is contracted: arithmetic rounds as on the CPU.

typedef unsigned int u32;
typedef unsigned long long u64;

#define JOIN_AGAIN(a, b) a##b
#define JOIN(a, b) JOIN_AGAIN(a, b)
#define KERNEL(name) extern "C" __global__ void __launch_bounds__(256) JOIN(name, SUFFIX)
#define FN static __device__ __forceinline__

// Runs over 0..n with as many threads as there are; arrays have fewer than 2^31 elements, so `i` does not overflow.
#define FOR_EACH(i, n) \
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += gridDim.x * blockDim.x)
