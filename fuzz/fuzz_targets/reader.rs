//! One reader under libFuzzer: that whose target is called as this program.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tarrl_fuzz::check(env!("CARGO_BIN_NAME"), input));
