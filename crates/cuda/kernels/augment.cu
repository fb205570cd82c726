// Augmentation of images given as bytes, one block for each image, in the order of operations and of sums that the host
// has, so that both give the same pixels.

struct Transform {
    int top, left, height, width;
    u32 flip, gray, blur, solarize;
    u32 op[4];
    float by[4];
};

#define KEEP 0
#define BRIGHTNESS 1
#define CONTRAST 2
#define SATURATION 3
#define HUE 4
#define LANES 8

FN float to_unit(float x) { return x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x; }
FN float gray_of(float r, float g, float b) { return 0.2989f * r + 0.587f * g + 0.114f * b; }
FN float least(float a, float b) { return a < b ? a : b; }
FN float largest(float a, float b) { return a > b ? a : b; }

// Where position `at` among `to` lies among `from`: between `first` and `second`, at `weight`.
struct Tap {
    u32 first, second;
    float weight;
};

FN Tap tap(u32 at, u32 from, u32 to) {
    float source = ((float)at + 0.5f) * ((float)from / (float)to) - 0.5f;
    if (source < 0.0f) source = 0.0f;
    Tap t;
    t.first = min((u32)source, from - 1);
    t.second = min(t.first + 1, from - 1);
    t.weight = source - (float)t.first;
    return t;
}

// The pixel (y, x) of the window, channel `ch`.
FN float seen(const unsigned char* image, Transform transform, u32 h, u32 w, u32 c, u32 y, u32 x, u32 ch) {
    if (transform.flip) x = w - 1 - x;
    if (transform.height == (int)h && transform.width == (int)w) {
        int row = (int)y + transform.top, column = (int)x + transform.left;
        bool inside = row >= 0 && row < (int)h && column >= 0 && column < (int)w;
        return inside ? (float)image[((u32)row * w + (u32)column) * c + ch] / 255.0f : 0.0f;
    }
    Tap down = tap(y, (u32)transform.height, h), across = tap(x, (u32)transform.width, w);
    const unsigned char* upper = image + ((u32)transform.top + down.first) * w * c + (u32)transform.left * c + ch;
    const unsigned char* lower = image + ((u32)transform.top + down.second) * w * c + (u32)transform.left * c + ch;
    float a = (float)upper[across.first * c], b = (float)lower[across.first * c];
    float left = a + down.weight * (b - a);
    a = (float)upper[across.second * c], b = (float)lower[across.second * c];
    float right = a + down.weight * (b - a);
    return (left + across.weight * (right - left)) * (1.0f / 255.0f);
}

// Brings a number of [-6, 12) into [0, 6).
FN float wrapped(float h) {
    if (h < 0.0f) h = h + 6.0f;
    return h >= 6.0f ? h - 6.0f : h;
}

FN float turned(float h, float shift, float value, float chroma) {
    float k = wrapped(h + shift);
    return value - chroma * to_unit(least(k, 4.0f - k));
}

FN void turn(float* pixel, float by) {
    float r = pixel[0], g = pixel[1], b = pixel[2];
    float value = largest(largest(r, g), b);
    float chroma = value - least(least(r, g), b);
    float inverse = chroma > 0.0f ? 1.0f / chroma : 0.0f;
    float sector = value == r   ? (g - b) * inverse
                   : value == g ? 2.0f + (b - r) * inverse
                                : 4.0f + (r - g) * inverse;
    float h = wrapped(wrapped(sector + 6.0f * by));
    pixel[0] = turned(h, 5.0f, value, chroma);
    pixel[1] = turned(h, 3.0f, value, chroma);
    pixel[2] = turned(h, 1.0f, value, chroma);
}

// The mean gray of the image: each channel in eight lanes, then the lanes in their order, as the host adds.
FN float mean_gray(const float* view, u32 n, u32 c, float (*lanes)[LANES]) {
    u32 t = threadIdx.x, whole = n / LANES * LANES;
    if (t < LANES * c) {
        u32 ch = t / LANES, lane = t % LANES;
        float sum = 0.0f;
        for (u32 p = lane; p < whole; p += LANES) sum = sum + view[p * c + ch];
        lanes[ch][lane] = sum;
    }
    __syncthreads();
    float total = 0.0f;
    for (u32 ch = 0; ch < c; ch++) {
        float sum = 0.0f, rest = 0.0f;
        for (u32 lane = 0; lane < LANES; lane++) sum = sum + lanes[ch][lane];
        for (u32 p = whole; p < n; p++) rest = rest + view[p * c + ch];
        sum = sum + rest;
        float weight = ch == 0 ? 0.2989f : ch == 1 ? 0.587f : 0.114f;
        total = c == 1 ? sum : total + weight * sum;
    }
    __syncthreads();
    return total / (float)n;
}

// The position that stands for `at - radius` of a line: beyond the ends it runs back.
FN u32 mirrored(u32 at, u32 radius, u32 length) {
    u32 position = at > radius ? at - radius : radius - at;
    return position > length - 1 ? 2 * (length - 1) - position : position;
}

// `views` and `spare` (which only blurs need) are (n, h, w, c).
KERNEL(augment)(const unsigned char* images, const Transform* transforms, const float* weights, u32 kernel, float* views,
              float* spare, u32 h, u32 w, u32 c) {
    __shared__ float lanes[3][LANES];
    Transform transform = transforms[blockIdx.x];
    u32 n = h * w, size = n * c;
    const unsigned char* image = images + (size_t)blockIdx.x * size;
    float* view = views + (size_t)blockIdx.x * size;
    for (u32 i = threadIdx.x; i < size; i += blockDim.x) {
        view[i] = seen(image, transform, h, w, c, i / c / w, i / c % w, i % c);
    }
    __syncthreads();
    for (u32 o = 0; o < 4; o++) {
        u32 op = transforms[blockIdx.x].op[o];
        float by = transforms[blockIdx.x].by[o], offset = 0.0f;
        if (op == KEEP || by == (op == HUE ? 0.0f : 1.0f)) continue;
        if (op == CONTRAST) offset = (1.0f - by) * mean_gray(view, n, c, lanes);
        for (u32 p = threadIdx.x; p < n; p += blockDim.x) {
            float* pixel = view + (size_t)p * c;
            if (op == HUE) {
                if (c == 3) turn(pixel, by);
                continue;
            }
            if (op == SATURATION) {
                if (c == 1) continue;
                offset = (1.0f - by) * gray_of(pixel[0], pixel[1], pixel[2]);
            }
            for (u32 ch = 0; ch < c; ch++) {
                pixel[ch] = to_unit(op == BRIGHTNESS ? by * pixel[ch] : by * pixel[ch] + offset);
            }
        }
        __syncthreads();
    }
    if (transform.gray && c == 3) {
        for (u32 p = threadIdx.x; p < n; p += blockDim.x) {
            float* pixel = view + (size_t)p * c;
            float y = gray_of(pixel[0], pixel[1], pixel[2]);
            pixel[0] = y, pixel[1] = y, pixel[2] = y;
        }
        __syncthreads();
    }
    if (transform.blur) {
        const float* own = weights + (size_t)blockIdx.x * kernel;
        float* half = spare + (size_t)blockIdx.x * size;
        u32 radius = kernel / 2;
        for (u32 i = threadIdx.x; i < size; i += blockDim.x) {
            u32 y = i / c / w, x = i / c % w, ch = i % c;
            float sum = 0.0f;
            for (u32 k = 0; k < kernel; k++) sum = sum + own[k] * view[(y * w + mirrored(x + k, radius, w)) * c + ch];
            half[i] = sum;
        }
        __syncthreads();
        for (u32 i = threadIdx.x; i < size; i += blockDim.x) {
            u32 y = i / c / w, x = i / c % w, ch = i % c;
            float sum = 0.0f;
            for (u32 k = 0; k < kernel; k++) sum = sum + own[k] * half[(mirrored(y + k, radius, h) * w + x) * c + ch];
            view[i] = sum > 1.0f ? 1.0f : sum;
        }
        __syncthreads();
    }
    if (transform.solarize) {
        for (u32 i = threadIdx.x; i < size; i += blockDim.x) view[i] = view[i] >= 0.5f ? 1.0f - view[i] : view[i];
    }
}
