// The upper half of a float.
struct bf16 {
    unsigned short bits;

    __device__ __forceinline__ operator float() const { return __int_as_float((int)((u32)bits << 16)); }

    // To the nearest, of two equally near ones to the even one; a NaN stays one whatever its lower half says.
    __device__ __forceinline__ bf16& operator=(float value) {
        u32 whole = (u32)__float_as_int(value);
        u32 near = (whole + 0x7fffu + (whole >> 16 & 1u)) >> 16;
        bits = (unsigned short)(value != value ? whole >> 16 | 0x40u : near);
        return *this;
    }
};
