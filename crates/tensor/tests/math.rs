//! Elementary functions: close to the exact values, and the same bits with and without fused multiply-add.

use std::process::Command;
use tarrl_tensor::{DType, Key, Random, Tensor, cpu, math};

/// Units in the last place between two finite numbers of one sign.
#[track_caller]
fn assert_near(what: f64, got: f64, want: f64) {
    assert!(got.to_bits().abs_diff(want.to_bits()) <= 1, "at {what:e}: {got:e} instead of {want:e}");
}

#[track_caller]
fn check(f: fn(f64) -> f64, values: &[(f64, f64)]) {
    values.iter().for_each(|&(x, want)| assert_near(x, f(x), want));
}

/// The references have been rounded from 200 bits, by mpmath 1.3.
#[test]
#[expect(clippy::approx_constant, reason = "values of functions")]
fn functions_are_within_one_unit_in_the_last_place() {
    check(
        math::exp,
        &[
            (-700.25, 7.678723813110872e-305),
            (-1.5, 0.22313016014842982),
            (0.001, 1.0010005001667084),
            (0.7, 2.0137527074704766),
            (30.1, 11810380924255.479),
            (709.0, 8.218407461554972e307),
        ],
    );
    check(
        math::exp2,
        &[
            (-1000.5, 6.599170332783212e-302),
            (-0.3, 0.8122523963562356),
            (0.1, 1.0717734625362931),
            (52.7, 7316119179121484.0),
        ],
    );
    check(
        math::exp_m1,
        &[
            (-20.5, -0.9999999987498471),
            (-1e-9, -9.999999995e-10),
            (1e-12, 1.0000000000005e-12),
            (0.3, 0.3498588075760031),
            (5.5, 243.69193226422038),
        ],
    );
    check(
        math::ln,
        &[
            (1e-300, -690.7755278982137),
            (0.1, -2.3025850929940455),
            (0.999999, -1.000000500029089e-6),
            (1.7, 0.5306282510621704),
            (12345.678, 9.421061321291832),
        ],
    );
    check(
        math::ln_1p,
        &[
            (-0.75, -1.3862943611198906),
            (-1e-11, -1.000000000005e-11),
            (1e-9, 9.999999995e-10),
            (0.4, 0.33647223662121295),
            (1e5, 11.51293546492023),
        ],
    );
    check(
        math::log2,
        &[
            (1e-10, -33.219280948873624),
            (0.3, -1.7369655941662063),
            (1.0001, 0.0001442622910945383),
            (10.0, 3.321928094887362),
        ],
    );
    check(
        math::sin,
        &[
            (1e-8, 1e-8),
            (0.5, 0.479425538604203),
            (3.0, 0.1411200080598672),
            (6.2, -0.0830894028174964),
            (1000.1, 0.8788928116493216),
        ],
    );
    check(
        math::cos,
        &[
            (0.0001, 0.999999995),
            (1.5707, 9.632679474766714e-5),
            (3.1, -0.9991351502732795),
            (6.28, 0.9999949269133752),
            (1000.1, 0.4770193136877689),
        ],
    );
    check(
        math::asin,
        &[
            (-0.99, -1.4292568534704693),
            (1e-7, 1.0000000000000017e-7),
            (0.5, 0.5235987755982989),
            (0.9999, 1.5566540733173846),
        ],
    );
    check(
        math::acos,
        &[
            (-0.99, 3.000053180265366),
            (1e-7, 1.5707962267948967),
            (0.5, 1.0471975511965979),
            (0.9999, 0.014142253477512098),
        ],
    );
    for (x, p, want) in [
        (10.0, -0.5, 0.31622776601683794),
        (0.3, 1.0 / 784.0, 0.9984654989551881),
        (2.5, 100.5, 9.839451096033404e39),
        (1e-5, 0.1, 0.31622776601683794),
    ] {
        assert_near(x, math::powf(x, p), want);
    }
    for (y, x, want) in [(0.3, 0.4, 0.6435011087932844), (-1e-9, 2.0, -5e-10), (1.0, -1.0, 2.356194490192345)]
    {
        assert_near(y, math::atan2(y, x), want);
    }
    for (x, y, want) in [(0.3, 0.4, 0.5), (1e200, 1e200, 1.414213562373095e200), (1e-170, 3.0, 3.0)] {
        assert_near(x, math::hypot(x, y), want);
    }
    assert_eq!(math::sin_cos(0.7), (math::sin(0.7), math::cos(0.7)));
}

/// FNV-1a of the bits.
fn digest(values: impl IntoIterator<Item = f64>) -> u64 {
    let bytes = values.into_iter().flat_map(|v| v.to_bits().to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// Digests of what is drawn and computed here, and last of a logarithm and a cosine of the system.
fn digests() -> Vec<u64> {
    let mut stream = Key::new(1).stream();
    let mut found = vec![digest((0..100_000).map(|_| stream.normal()))];
    let device = cpu();
    let keys: Vec<Key> = (0..100u64).map(|i| Key::new(2).fold(i)).collect();
    for dtype in [DType::F32, DType::F64] {
        let x = Tensor::random(&device, Random::Normal, &keys, &[1000], dtype);
        let positive = x.abs().add_scalar(1e-3);
        let rows = [x.softmax(), x.log_softmax(), x.gelu(), x.silu()];
        let each = [
            x.exp(),
            positive.log(),
            x.tanh(),
            x.sigmoid(),
            x.erf(),
            positive.powf(-0.5),
            positive.powf(0.3),
        ];
        found.extend(std::iter::once(&x).chain(&rows).chain(&each).map(|t| digest(t.array().to_f64())));
    }
    let numbers = || (1..=100_000).map(|i| 1e-5 * f64::from(i));
    let functions = [
        math::exp,
        math::exp2,
        math::exp_m1,
        math::ln,
        math::ln_1p,
        math::log2,
        math::sin,
        math::cos,
        math::asin,
        math::acos,
    ];
    found.extend(functions.map(|f| digest(numbers().map(f))));
    let pairs = [math::powf, math::atan2, math::hypot];
    found.extend(pairs.map(|f| digest(numbers().map(|x| f(x, 0.7)))));
    found.push(digest(numbers().map(|x| x.ln() + x.cos())));
    found
}

/// The test below runs this one in another process and reads what it prints.
#[test]
fn digests_are_the_same_again() {
    let found = digests();
    println!("{MARK}{found:?}");
    assert_eq!(digests(), found);
}

const MARK: &str = "digests: ";

/// The GNU C library can be told to do without instructions of the processor, as on one that lacks them.
#[test]
fn no_bit_depends_on_fused_multiply_add() {
    let without = "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F,-AVX2_Usable,-FMA_Usable,-AVX512F_Usable";
    let child = Command::new(std::env::current_exe().expect("a path of this program"))
        .args(["--exact", "digests_are_the_same_again", "--nocapture"])
        .env("GLIBC_TUNABLES", without)
        .output()
        .expect("a child process");
    let text = String::from_utf8_lossy(&child.stdout);
    let line = text.lines().find_map(|line| line.split_once(MARK)).expect("digests of the child").1;
    let here = digests();
    let there: Vec<u64> =
        line.trim_matches(['[', ']']).split(", ").map(|d| d.parse().expect("a digest")).collect();
    let ours = here.len() - 1;
    assert_eq!(here[..ours], there[..ours]);
    if here[ours] == there[ours] {
        eprintln!("not compared: this system's libm cannot be told to do without fused multiply-add");
    }
}
