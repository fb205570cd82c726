//! SIMD vectors of scalars, so that a kernel is written once for every set of instructions.
use super::element::Element;

/// A register of scalars. One or two of them hold a line of a panel.
pub(crate) trait Vector: Copy {
    type Scalar: Element;
    const LEN: usize;
    fn zero() -> Self;
    /// # Safety
    /// `LEN` scalars can be read at `from`.
    unsafe fn load(from: *const Self::Scalar) -> Self;
    /// # Safety
    /// One scalar can be read at `from`.
    unsafe fn splat(from: *const Self::Scalar) -> Self;
    /// # Safety
    /// `LEN` scalars can be written at `to`.
    unsafe fn store(self, to: *mut Self::Scalar);
    /// Fetches the cache line at `at`, which need not exist.
    fn prefetch(at: *const Self::Scalar);
    fn constant(value: Self::Scalar) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `self * by + to`
    fn multiply_add(self, by: Self, to: Self) -> Self;
}

/// Arrays in place of vectors: what the compiler makes of them runs anywhere.
pub(crate) mod portable {
    use super::Vector;

    macro_rules! portable {
        ($name:ident, $scalar:ty, $len:literal) => {
            #[derive(Clone, Copy)]
            pub(crate) struct $name([$scalar; $len]);

            impl Vector for $name {
                type Scalar = $scalar;
                const LEN: usize = $len;

                #[inline(always)]
                fn zero() -> Self {
                    Self([0.0; $len])
                }

                #[inline(always)]
                unsafe fn load(from: *const $scalar) -> Self {
                    // SAFETY: the caller grants `LEN` scalars.
                    Self(unsafe { from.cast::<[$scalar; $len]>().read_unaligned() })
                }

                #[inline(always)]
                unsafe fn splat(from: *const $scalar) -> Self {
                    // SAFETY: the caller grants one scalar.
                    Self([unsafe { *from }; $len])
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut $scalar) {
                    // SAFETY: the caller grants `LEN` scalars.
                    unsafe { to.cast::<[$scalar; $len]>().write_unaligned(self.0) }
                }

                #[inline(always)]
                fn prefetch(_at: *const $scalar) {}

                #[inline(always)]
                fn constant(value: $scalar) -> Self {
                    Self([value; $len])
                }

                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
                }

                #[inline(always)]
                fn sub(self, other: Self) -> Self {
                    Self(std::array::from_fn(|i| self.0[i] - other.0[i]))
                }

                #[inline(always)]
                fn mul(self, other: Self) -> Self {
                    Self(std::array::from_fn(|i| self.0[i] * other.0[i]))
                }

                #[inline(always)]
                fn multiply_add(self, by: Self, to: Self) -> Self {
                    Self(std::array::from_fn(|i| self.0[i] * by.0[i] + to.0[i]))
                }
            }
        };
    }

    portable!(Single, f32, 8);
    portable!(Double, f64, 4);
}

#[cfg(target_arch = "x86_64")]
macro_rules! registers {
    ($name:ident, $register:ty, $scalar:ty, $len:literal,
     $zero:ident, $load:ident, $splat:ident, $store:ident, $add:ident, $sub:ident, $mul:ident, $fma:ident) => {
        /// Used only inside functions that are compiled for these instructions and called where they were detected.
        #[derive(Clone, Copy)]
        pub(crate) struct $name($register);

        impl Vector for $name {
            type Scalar = $scalar;
            const LEN: usize = $len;

            #[inline(always)]
            fn zero() -> Self {
                // SAFETY: the processor has the instructions wherever this type is used.
                Self(unsafe { $zero() })
            }

            #[inline(always)]
            unsafe fn load(from: *const $scalar) -> Self {
                // SAFETY: as above, and the caller grants `LEN` scalars.
                Self(unsafe { $load(from) })
            }

            #[inline(always)]
            unsafe fn splat(from: *const $scalar) -> Self {
                // SAFETY: as above, and the caller grants one scalar.
                Self(unsafe { $splat(*from) })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut $scalar) {
                // SAFETY: as above, and the caller grants `LEN` scalars.
                unsafe { $store(to, self.0) }
            }

            #[inline(always)]
            fn prefetch(at: *const $scalar) {
                // SAFETY: a prefetch cannot fault.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
            }

            #[inline(always)]
            fn constant(value: $scalar) -> Self {
                // SAFETY: as above.
                Self(unsafe { $splat(value) })
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                // SAFETY: as above.
                Self(unsafe { $add(self.0, other.0) })
            }

            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                // SAFETY: as above.
                Self(unsafe { $sub(self.0, other.0) })
            }

            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                // SAFETY: as above.
                Self(unsafe { $mul(self.0, other.0) })
            }

            #[inline(always)]
            fn multiply_add(self, by: Self, to: Self) -> Self {
                // SAFETY: as above.
                Self(unsafe { $fma(self.0, by.0, to.0) })
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2 {
    use super::Vector;
    use std::arch::x86_64::*;

    registers!(
        Single,
        __m256,
        f32,
        8,
        _mm256_setzero_ps,
        _mm256_loadu_ps,
        _mm256_set1_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps
    );
    registers!(
        Double,
        __m256d,
        f64,
        4,
        _mm256_setzero_pd,
        _mm256_loadu_pd,
        _mm256_set1_pd,
        _mm256_storeu_pd,
        _mm256_add_pd,
        _mm256_sub_pd,
        _mm256_mul_pd,
        _mm256_fmadd_pd
    );
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    use super::Vector;
    use std::arch::x86_64::*;

    registers!(
        Single,
        __m512,
        f32,
        16,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_set1_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps
    );
    registers!(
        Double,
        __m512d,
        f64,
        8,
        _mm512_setzero_pd,
        _mm512_loadu_pd,
        _mm512_set1_pd,
        _mm512_storeu_pd,
        _mm512_add_pd,
        _mm512_sub_pd,
        _mm512_mul_pd,
        _mm512_fmadd_pd
    );
}
