// Pooling of (n, h, w, c).

struct Windows {
    u32 h, w, c, window, stride, pad, out_h, out_w;
};

// Pixels start..end along one axis of window `o`, padding left out.
struct Span {
    u32 start, end;
};

FN Span span(u32 o, Windows s, u32 extent) {
    u32 start = o * s.stride, end = start + s.window;
    Span span = {start > s.pad ? start - s.pad : 0, end > s.pad ? min(end - s.pad, extent) : 0};
    return span;
}

KERNEL(sum_pool)(const STORED* x, STORED* to, u32 n, Windows s) {
    FOR_EACH(i, n) {
        u32 image = i / s.c / s.out_w / s.out_h;
        Span lines = span(i / s.c / s.out_w % s.out_h, s, s.h), columns = span(i / s.c % s.out_w, s, s.w);
        REAL sum = 0;
        for (u32 y = lines.start; y < lines.end; y++) {
            for (u32 z = columns.start; z < columns.end; z++) sum += x[((image * s.h + y) * s.w + z) * s.c + i % s.c];
        }
        to[i] = sum;
    }
}

// Windows whose span holds the pixel `at`.
FN Span windows(u32 at, Windows s, u32 out) {
    u32 shifted = at + s.pad;
    Span span = {shifted < s.window ? 0 : (shifted - s.window) / s.stride + 1, min(shifted / s.stride + 1, out)};
    return span;
}

KERNEL(sum_pool_adjoint)(const STORED* dy, STORED* dx, u32 n, Windows s) {
    FOR_EACH(i, n) {
        u32 image = i / s.c / s.w / s.h;
        Span lines = windows(i / s.c / s.w % s.h, s, s.out_h), columns = windows(i / s.c % s.w, s, s.out_w);
        REAL sum = 0;
        for (u32 y = lines.start; y < lines.end; y++) {
            for (u32 z = columns.start; z < columns.end; z++) {
                sum += dy[((image * s.out_h + y) * s.out_w + z) * s.c + i % s.c];
            }
        }
        dx[i] = sum;
    }
}

// The flat position of the first largest element of each window.
KERNEL(max_pool)(const STORED* x, u32* to, u32 n, Windows s) {
    FOR_EACH(i, n) {
        u32 image = i / s.c / s.out_w / s.out_h;
        Span lines = span(i / s.c / s.out_w % s.out_h, s, s.h), columns = span(i / s.c % s.out_w, s, s.w);
        u32 best = ((image * s.h + lines.start) * s.w + columns.start) * s.c + i % s.c;
        REAL top = x[best];
        for (u32 y = lines.start; y < lines.end; y++) {
            for (u32 z = columns.start; z < columns.end; z++) {
                u32 at = ((image * s.h + y) * s.w + z) * s.c + i % s.c;
                if (x[at] > top) {
                    top = x[at];
                    best = at;
                }
            }
        }
        to[i] = best;
    }
}
