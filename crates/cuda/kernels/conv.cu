// Convolution as a matrix product: the patches of an image in rows, and back.
//
// A patch matrix is (groups, rows, kh·kw·channels of a group); a row is one output pixel, `first` of them come before.
// Kernels for four channels at a time are used where the channels of a group are a multiple of four.

struct Geometry {
    u32 h, w, c, kh, kw, stride, pad, groups, out_h, out_w;
};

struct __align__(16) Four {
    REAL lane[4];
};

FN void add(REAL* to, REAL value) { *to += value; }
FN void add(Four* to, Four value) {
    for (int i = 0; i < 4; i++) to->lane[i] += value.lane[i];
}

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

KERNEL(patches)(const REAL* x, REAL* to, u32 n, u32 first, u32 rows, Geometry g) {
    patches_of<REAL>(x, to, n, first, rows, g, 1);
}

KERNEL(patches_by_four)(const Four* x, Four* to, u32 n, u32 first, u32 rows, Geometry g) {
    patches_of<Four>(x, to, n, first, rows, g, 4);
}

// The adjoint: every pixel collects its terms from the patches that it lies in, in a fixed order.
template <class V>
FN void pixels_of(const V* patches, V* dx, u32 n, u32 rows, Geometry g, u32 width) {
    u32 c = g.c / width, own = c / g.groups, terms = g.kh * g.kw * own;
    FOR_EACH(i, n) {
        u32 column = i / c % g.w, line = i / c / g.w % g.h, image = i / c / g.w / g.h;
        u32 group = i % c / own, channel = i % c % own;
        V sum = {};
        for (u32 ky = 0; ky < g.kh; ky++) {
            u32 down = line + g.pad - ky;
            if (line + g.pad < ky || down % g.stride != 0 || down / g.stride >= g.out_h) continue;
            for (u32 kx = 0; kx < g.kw; kx++) {
                u32 right = column + g.pad - kx;
                if (column + g.pad < kx || right % g.stride != 0 || right / g.stride >= g.out_w) continue;
                u32 row = (image * g.out_h + down / g.stride) * g.out_w + right / g.stride;
                add(&sum, patches[(group * rows + row) * terms + (ky * g.kw + kx) * own + channel]);
            }
        }
        dx[i] = sum;
    }
}

KERNEL(pixels)(const REAL* patches, REAL* dx, u32 n, u32 rows, Geometry g) {
    pixels_of<REAL>(patches, dx, n, rows, g, 1);
}

KERNEL(pixels_by_four)(const Four* patches, Four* dx, u32 n, u32 rows, Geometry g) {
    pixels_of<Four>(patches, dx, n, rows, g, 4);
}
