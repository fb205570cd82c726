// Rows of random numbers: row i holds numbers of the stream at keys[i], four for each block of Philox 4×32-10.

struct Words {
    u32 at[4];
};

FN Words philox(u64 key, u64 block) {
    u32 c0 = (u32)block, c1 = (u32)(block >> 32), c2 = 0, c3 = 0;
    u32 k0 = (u32)key, k1 = (u32)(key >> 32);
    for (int round = 0; round < 10; round++) {
        u64 p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
        c0 = (u32)(p1 >> 32) ^ c1 ^ k0;
        c1 = (u32)p1;
        c2 = (u32)(p0 >> 32) ^ c3 ^ k1;
        c3 = (u32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    Words words = {{c0, c1, c2, c3}};
    return words;
}

// `blocks` counts those of one row, the last of which may be cut off.
KERNEL(uniform)(const u64* keys, STORED* to, u32 n, u32 blocks, u32 width) {
    FOR_EACH(i, n) {
        u32 row = i / blocks, block = i % blocks;
        Words words = philox(keys[row], block);
        for (u32 j = 0; j < 4 && 4 * block + j < width; j++) {
            to[(size_t)row * width + 4 * block + j] = (REAL)((float)(words.at[j] >> 8) * (1.0f / 16777216.0f));
        }
    }
}

// Box–Muller in double, two numbers from two words; (u + 1) / 2³² is in (0, 1], so the logarithm is finite.
KERNEL(normal)(const u64* keys, STORED* to, u32 n, u32 blocks, u32 width) {
    FOR_EACH(i, n) {
        u32 row = i / blocks, block = i % blocks;
        Words words = philox(keys[row], block);
        for (u32 pair = 0; pair < 2; pair++) {
            double radius = sqrt(-2.0 * log(((double)words.at[2 * pair] + 1.0) / 4294967296.0));
            double angle = 6.28318530717958647692 * ((double)words.at[2 * pair + 1] / 4294967296.0);
            u32 at = 4 * block + 2 * pair;
            if (at < width) to[(size_t)row * width + at] = (REAL)(radius * cos(angle));
            if (at + 1 < width) to[(size_t)row * width + at + 1] = (REAL)(radius * sin(angle));
        }
    }
}
