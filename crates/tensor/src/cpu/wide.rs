//! Function multiversioning: plain loops compiled for the vector instructions of the processor.

/// Defines a function that runs compiled for AVX2 where the processor has it.
///
/// No multiplication and addition is contracted, so that the bits are those of any other processor.
/// What the body calls must be inlined into it to be compiled likewise: mark it `#[inline(always)]`.
macro_rules! wide {
    ($(#[$about:meta])* $vis:vis fn $name:ident<$r:ident: $bound:ident>($($arg:ident: $t:ty),* $(,)?)
     $(-> $out:ty)? $body:block) => {
        $(#[$about])*
        $vis fn $name<$r: $bound>($($arg: $t),*) $(-> $out)? {
            #[inline(always)]
            fn plain<$r: $bound>($($arg: $t),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2<$r: $bound>($($arg: $t),*) $(-> $out)? {
                plain($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2.
                return unsafe { avx2($($arg),*) };
            }
            plain($($arg),*)
        }
    };
}
pub(super) use wide;
