// Convolution as a matrix product: the patches of an image in rows, and back.
//
// A patch matrix is (groups, rows, kh·kw·channels of a group); a row is one output pixel, `first` of them come before.
// Kernels for a pack of channels at a time are used where it divides the channels of a group.

struct Geometry {
    u32 h, w, c, kh, kw, stride, pad, groups, out_h, out_w;
};

template <class V>
FN void patches_of(const V* x, V* to, u32 n, u32 first, u32 rows, Geometry g, u32 width) {
    u32 c = g.c / width, own = c / g.groups, terms = g.kh * g.kw * own;
    FOR_EACH(i, n) {
        u32 term = i % terms, row = i / terms % rows, group = i / terms / rows;
        u32 channel = term % own, tap = term / own;
        u32 pixel = first + row;
        u32 column = pixel % g.out_w * g.stride + tap % g.kw - g.pad;
        u32 line = pixel / g.out_w % g.out_h * g.stride + tap / g.kw - g.pad;
        u32 image = pixel / g.out_w / g.out_h;
        V value = {};
        // Left and above of the border the difference wraps around to something large.
        if (line < g.h && column < g.w) value = x[((image * g.h + line) * g.w + column) * c + group * own + channel];
        to[i] = value;
    }
}

KERNEL(patches)(const STORED* x, STORED* to, u32 n, u32 first, u32 rows, Geometry g) {
    patches_of<STORED>(x, to, n, first, rows, g, 1);
}

KERNEL(patches_by_pack)(const uint4* x, uint4* to, u32 n, u32 first, u32 rows, Geometry g) {
    patches_of<uint4>(x, to, n, first, rows, g, LANES);
}

// The sums of a pixel: of one channel, or of a pack of them.
struct One {
    REAL sum;
    __device__ __forceinline__ void add(const STORED* from, u32 i) { sum += from[i]; }
    __device__ __forceinline__ void write(STORED* to, u32 i) const { to[i] = sum; }
};

struct Many {
    REAL sum[16 / sizeof(STORED)];
    __device__ __forceinline__ void add(const STORED* from, u32 i) {
        Pack pack = pack_at(from, i);
        for (u32 l = 0; l < LANES; l++) sum[l] += pack.lane[l];
    }
    __device__ __forceinline__ void write(STORED* to, u32 i) const {
        Pack pack;
        for (u32 l = 0; l < LANES; l++) pack.lane[l] = sum[l];
        put(to, i, pack);
    }
};

// The adjoint: every pixel collects its terms from the patches that it lies in, in a fixed order.
template <class Sums>
FN void pixels_of(const STORED* patches, STORED* dx, u32 n, u32 rows, Geometry g, u32 width) {
    u32 c = g.c / width, own = c / g.groups, terms = g.kh * g.kw * own;
    FOR_EACH(i, n) {
        u32 column = i / c % g.w, line = i / c / g.w % g.h, image = i / c / g.w / g.h;
        u32 group = i % c / own, channel = i % c % own;
        Sums sums = {};
        for (u32 ky = 0; ky < g.kh; ky++) {
            u32 down = line + g.pad - ky;
            if (line + g.pad < ky || down % g.stride != 0 || down / g.stride >= g.out_h) continue;
            for (u32 kx = 0; kx < g.kw; kx++) {
                u32 right = column + g.pad - kx;
                if (column + g.pad < kx || right % g.stride != 0 || right / g.stride >= g.out_w) continue;
                u32 row = (image * g.out_h + down / g.stride) * g.out_w + right / g.stride;
                sums.add(patches, (group * rows + row) * terms + (ky * g.kw + kx) * own + channel);
            }
        }
        sums.write(dx, i);
    }
}

KERNEL(pixels)(const STORED* patches, STORED* dx, u32 n, u32 rows, Geometry g) {
    pixels_of<One>(patches, dx, n, rows, g, 1);
}

KERNEL(pixels_by_pack)(const STORED* patches, STORED* dx, u32 n, u32 rows, Geometry g) {
    pixels_of<Many>(patches, dx, n, rows, g, LANES);
}
