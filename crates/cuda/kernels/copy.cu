// Many arrays copied in one launch: block `b` copies piece `b`. Pieces begin at multiples of sixteen bytes.

struct Piece {
    u64 from, to, bytes;
};

KERNEL(copy)(const Piece* pieces) {
    Piece piece = pieces[blockIdx.x];
    u32 packs = (u32)(piece.bytes / 16);
    for (u32 i = threadIdx.x; i < packs; i += blockDim.x) ((uint4*)piece.to)[i] = ((const uint4*)piece.from)[i];
    for (u32 i = 16 * packs + threadIdx.x; i < piece.bytes; i += blockDim.x) {
        ((unsigned char*)piece.to)[i] = ((const unsigned char*)piece.from)[i];
    }
}
