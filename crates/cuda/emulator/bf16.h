// The short float of the libraries that are emulated.

#pragma once

#include <cstring>

struct Bf16 {
    unsigned short bits;

    operator float() const {
        unsigned whole = (unsigned)bits << 16;
        float value;
        memcpy(&value, &whole, sizeof value);
        return value;
    }

    // To the nearest, of two equally near ones to the even one.
    Bf16& operator=(float value) {
        unsigned whole;
        memcpy(&whole, &value, sizeof whole);
        unsigned near = (whole + 0x7fff + (whole >> 16 & 1)) >> 16;
        bits = (unsigned short)(value != value ? whole >> 16 | 0x40 : near);
        return *this;
    }
};
