// What elements are in memory (STORED), and what they are computed with (REAL): the same, but for bf16.

// Sixteen bytes of elements, which one instruction moves. Arrays begin at multiples of 256 bytes.
#define LANES ((u32)(16 / sizeof(STORED)))

struct __align__(16) Pack {
    STORED lane[16 / sizeof(STORED)];
};

FN Pack pack_at(const STORED* from, u32 i) {
    uint4 bits = reinterpret_cast<const uint4*>(from)[i];
    Pack pack;
    memcpy(&pack, &bits, 16);
    return pack;
}

FN void put(STORED* to, u32 i, Pack pack) {
    uint4 bits;
    memcpy(&bits, &pack, 16);
    reinterpret_cast<uint4*>(to)[i] = bits;
}

// to[i] = f(i % c, from[i]) for all i below n: pack by pack, then those that fill no pack. Who needs no channel gives any
// c, and nothing is computed for it.
template <class F>
FN void map(const STORED* from, STORED* to, u32 n, u32 c, F f) {
    FOR_EACH(p, n / LANES) {
        Pack x = pack_at(from, p);
        u32 channel = p * LANES % c;
        for (u32 l = 0; l < LANES; l++) {
            x.lane[l] = f(channel, x.lane[l]);
            if (++channel == c) channel = 0;
        }
        put(to, p, x);
    }
    FOR_EACH(j, n % LANES) {
        u32 i = n - 1 - j;
        to[i] = f(i % c, from[i]);
    }
}

// The same of two arrays.
template <class F>
FN void map(const STORED* left, const STORED* right, STORED* to, u32 n, u32 c, F f) {
    FOR_EACH(p, n / LANES) {
        Pack a = pack_at(left, p), b = pack_at(right, p);
        u32 channel = p * LANES % c;
        for (u32 l = 0; l < LANES; l++) {
            a.lane[l] = f(channel, a.lane[l], b.lane[l]);
            if (++channel == c) channel = 0;
        }
        put(to, p, a);
    }
    FOR_EACH(j, n % LANES) {
        u32 i = n - 1 - j;
        to[i] = f(i % c, left[i], right[i]);
    }
}
