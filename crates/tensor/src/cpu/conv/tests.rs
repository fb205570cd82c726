//! Tests of every convolution kernel against the definition, in double precision, over a random grid of shapes.
use super::*;
use crate::cpu::gemm::Arithmetic;
use crate::cpu::gemm::kernel::Level;

/// splitmix64 (Steele, Lea and Flood, 2014): small, and independent of what is tested.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Multiples of 2⁻²³ in [-1, 1), exact in both precisions.
    fn values(&mut self, len: usize) -> Vec<f64> {
        (0..len).map(|_| (self.next() >> 40) as f64 / (1u64 << 23) as f64 - 1.0).collect()
    }
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// Calls `f(x, w, y)` with the indices of each product of the definition.
fn products(g: &Geometry, mut f: impl FnMut(usize, usize, usize)) {
    let (per_group, outs) = (g.c_in / g.groups, g.c_out / g.groups);
    for n in 0..g.n {
        for i in 0..g.out_h() {
            for j in 0..g.out_w() {
                for a in 0..g.kh {
                    for b in 0..g.kw {
                        let (v, h) =
                            ((i * g.stride + a).wrapping_sub(g.pad), (j * g.stride + b).wrapping_sub(g.pad));
                        if v >= g.h || h >= g.w {
                            continue;
                        }
                        for o in 0..g.c_out {
                            for c in 0..per_group {
                                let x = ((n * g.h + v) * g.w + h) * g.c_in + o / outs * per_group + c;
                                let w = ((a * g.kw + b) * per_group + c) * g.c_out + o;
                                f(x, w, ((n * g.out_h() + i) * g.out_w() + j) * g.c_out + o);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The three results of the definition, and for each element the sum of magnitudes that bounds its rounding errors.
struct Reference {
    x: Vec<f64>,
    w: Vec<f64>,
    dy: Vec<f64>,
    y: Vec<(f64, f64)>,
    dx: Vec<(f64, f64)>,
    dw: Vec<(f64, f64)>,
    /// Terms of the longest sum.
    terms: usize,
}

impl Reference {
    fn new(g: &Geometry, seed: u64) -> Reference {
        let mut numbers = Numbers(seed);
        let (x, w, dy) = (numbers.values(g.x_len()), numbers.values(g.w_len()), numbers.values(g.y_len()));
        let (mut y, mut dx, mut dw) =
            (vec![(0.0, 0.0); dy.len()], vec![(0.0, 0.0); x.len()], vec![(0.0, 0.0); w.len()]);
        let add = |to: &mut (f64, f64), term: f64| *to = (to.0 + term, to.1 + term.abs());
        products(g, |i, j, k| {
            add(&mut y[k], x[i] * w[j]);
            add(&mut dx[i], dy[k] * w[j]);
            add(&mut dw[j], x[i] * dy[k]);
        });
        let terms = (g.kh * g.kw * g.c_in.max(g.c_out)).max(g.n * g.out_h() * g.out_w());
        Reference { x, w, dy, y, dx, dw, terms }
    }
}

/// A sum of `terms` products in any order, fused or not, errs by at most `(terms + 1)·ε·Σ|term|` to first order.
fn assert_close<T: Into<f64> + Copy>(
    what: &str,
    g: &Geometry,
    got: &[T],
    want: &[(f64, f64)],
    terms: usize,
    eps: f64,
) {
    assert_eq!(got.len(), want.len());
    for (i, (&got, &(want, magnitude))) in got.iter().zip(want).enumerate() {
        let (got, allowed) = (got.into(), (terms + 2) as f64 * eps * magnitude);
        assert!(
            (got - want).abs() <= allowed,
            "{what} [{i}]: {got} instead of {want} ± {allowed:e} for {g:?}"
        );
    }
}

fn shapes() -> Vec<Geometry> {
    let mut shapes = vec![
        geometry(1, 1, 1, 1, 1, 1, 1, 1, 0, 1),
        geometry(3, 1, 1, 5, 3, 3, 7, 1, 1, 1),
        geometry(2, 1, 1, 4, 3, 3, 6, 2, 1, 2),
        geometry(1, 2, 2, 3, 5, 5, 4, 1, 2, 1),
        geometry(2, 2, 3, 3, 7, 7, 4, 2, 3, 1),
        geometry(1, 2, 2, 3, 5, 5, 4, 1, 1, 1),
        geometry(2, 28, 28, 1, 3, 3, 32, 1, 1, 1),
        geometry(2, 7, 8, 1, 3, 3, 9, 1, 0, 1),
        geometry(2, 5, 6, 3, 3, 3, 7, 1, 2, 1),
        geometry(1, 1, 1, 2, 3, 3, 4, 1, 2, 1),
        geometry(1, 3, 2, 1, 3, 3, 5, 1, 3, 1),
        geometry(5, 8, 8, 32, 3, 3, 64, 2, 1, 1),
        geometry(3, 7, 7, 64, 3, 3, 64, 1, 1, 1),
        geometry(2, 7, 7, 16, 3, 3, 128, 2, 1, 1),
        geometry(3, 8, 8, 48, 1, 1, 80, 2, 0, 1),
        geometry(3, 5, 5, 33, 1, 1, 17, 1, 0, 1),
        geometry(2, 6, 6, 24, 3, 3, 24, 1, 1, 24),
        geometry(2, 6, 6, 24, 3, 3, 48, 2, 1, 24),
        geometry(2, 9, 9, 3, 5, 3, 20, 3, 2, 1),
        geometry(1, 70, 70, 4, 3, 3, 8, 1, 1, 1),
        geometry(1, 70, 71, 4, 3, 3, 8, 2, 0, 1),
        geometry(1, 3, 600, 2, 3, 3, 5, 2, 1, 1),
        geometry(0, 4, 4, 3, 3, 3, 5, 1, 1, 1),
        geometry(2, 2, 2, 3, 3, 3, 5, 1, 0, 1),
        geometry(2, 4, 4, 300, 3, 3, 20, 1, 1, 1),
        geometry(40, 4, 4, 20, 3, 3, 20, 1, 1, 1),
    ];
    let mut numbers = Numbers(7);
    for _ in 0..150 {
        let groups = [1, 1, 1, 2, 3][numbers.below(5)];
        shapes.push(Geometry {
            n: 1 + numbers.below(5),
            h: 1 + numbers.below(12),
            w: 1 + numbers.below(12),
            c_in: groups * (1 + numbers.below(20)),
            kh: 1 + numbers.below(4),
            kw: 1 + numbers.below(4),
            c_out: groups * (1 + numbers.below(20)),
            stride: 1 + numbers.below(3),
            pad: numbers.below(4),
            groups,
        });
    }
    shapes
}

#[expect(clippy::too_many_arguments, reason = "a table reads better in rows")]
fn geometry(
    n: usize,
    h: usize,
    w: usize,
    c_in: usize,
    kh: usize,
    kw: usize,
    c_out: usize,
    stride: usize,
    pad: usize,
    groups: usize,
) -> Geometry {
    Geometry { n, h, w, c_in, kh, kw, c_out, stride, pad, groups }
}

struct Results<T> {
    y: Vec<T>,
    dx: Vec<T>,
    dw: Vec<T>,
}

fn run_f32(t: &Threads, g: &Geometry, r: &Reference, s: &Scratch) -> Results<f32> {
    let (x, w, dy) = (single(&r.x), single(&r.w), single(&r.dy));
    let mut results =
        Results { y: vec![f32::NAN; dy.len()], dx: vec![f32::NAN; x.len()], dw: vec![f32::NAN; w.len()] };
    forward_f32(t, g, Source::from(&x[..]), &w, &mut results.y, s);
    input_adjoint_f32(t, g, Source::from(&dy[..]), &w, &mut results.dx, s);
    weight_adjoint_f32(t, g, Source::from(&x[..]), &dy, &mut results.dw, s);
    results
}

fn run_f64(t: &Threads, g: &Geometry, r: &Reference, s: &Scratch) -> Results<f64> {
    let (x, w, dy) = (&r.x, &r.w, &r.dy);
    let mut results =
        Results { y: vec![f64::NAN; dy.len()], dx: vec![f64::NAN; x.len()], dw: vec![f64::NAN; w.len()] };
    forward_f64(t, g, Source::from(&x[..]), w, &mut results.y, s);
    input_adjoint_f64(t, g, Source::from(&dy[..]), w, &mut results.dx, s);
    weight_adjoint_f64(t, g, Source::from(&x[..]), dy, &mut results.dw, s);
    results
}

fn check<T: Into<f64> + Copy>(g: &Geometry, r: &Reference, got: &Results<T>, eps: f64) {
    assert_close("y", g, &got.y, &r.y, r.terms, eps);
    assert_close("dx", g, &got.dx, &r.dx, r.terms, eps);
    assert_close("dw", g, &got.dw, &r.dw, r.terms, eps);
}

fn scratch_at(level: Level, arithmetic: Arithmetic) -> Scratch {
    let mut scratch = Scratch::new(arithmetic);
    scratch.level = level;
    scratch
}

#[test]
fn direct_arithmetic_matches_the_definition_in_both_precisions_and_on_any_processor() {
    let threads = Threads::new(2);
    let scratches: Vec<Scratch> =
        Level::available().into_iter().map(|level| scratch_at(level, Arithmetic::Direct)).collect();
    for (i, g) in shapes().iter().enumerate() {
        let reference = Reference::new(g, i as u64);
        for scratch in &scratches {
            check(g, &reference, &run_f32(&threads, g, &reference, scratch), f64::from(f32::EPSILON));
            check(g, &reference, &run_f64(&threads, g, &reference, scratch), f64::EPSILON);
        }
    }
}

/// AVX2 and AVX-512 sum in the same order and fuse alike. What is portable rounds products by themselves.
#[test]
fn vectors_of_any_width_give_the_same_bits() {
    let threads = Threads::new(2);
    let fused: Vec<Level> =
        Level::available().into_iter().filter(|level| *level != Level::Portable).collect();
    let shapes = [shapes(), winograd_shapes()].concat();
    for (i, g) in shapes.iter().enumerate() {
        let mut numbers = Numbers(i as u64);
        let (x, w, dy) = (numbers.values(g.x_len()), numbers.values(g.w_len()), numbers.values(g.y_len()));
        let r = Reference { x, w, dy, y: vec![], dx: vec![], dw: vec![], terms: 0 };
        let bits = |level: Level| {
            let scratch = scratch_at(level, Arithmetic::Fast);
            let (f32s, f64s) = (run_f32(&threads, g, &r, &scratch), run_f64(&threads, g, &r, &scratch));
            let f32s =
                [f32s.y, f32s.dx, f32s.dw].map(|v| v.into_iter().map(f32::to_bits).collect::<Vec<_>>());
            let f64s =
                [f64s.y, f64s.dx, f64s.dw].map(|v| v.into_iter().map(f64::to_bits).collect::<Vec<_>>());
            (f32s, f64s)
        };
        let results: Vec<_> = fused.iter().map(|level| bits(*level)).collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{fused:?}: {g:?}");
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let pools = [1, 2, 3].map(Threads::new);
    for (i, g) in shapes().iter().enumerate() {
        let reference = Reference::new(g, i as u64);
        let [one, two, three] = [0, 1, 2].map(|p| {
            let got = run_f32(&pools[p], g, &reference, &Scratch::default());
            [got.y, got.dx, got.dw].map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
        });
        assert!(one == two && two == three, "{g:?}");
    }
}

#[test]
fn the_adjoints_are_adjoint() {
    let (threads, scratch) = (Threads::new(2), Scratch::default());
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for (i, g) in shapes().iter().enumerate() {
        let reference = Reference::new(g, 1000 + i as u64);
        let got = run_f64(&threads, g, &reference, &scratch);
        let want = dot(&got.y, &reference.dy);
        let size: f64 = reference.y.iter().map(|y| y.1).sum();
        // Each side sums the same products, whose magnitudes add to less than `size`, since |dy| ≤ 1.
        let allowed = 2.0 * reference.terms as f64 * f64::EPSILON * size + f64::MIN_POSITIVE;
        assert!((dot(&got.dx, &reference.x) - want).abs() <= allowed, "input adjoint of {g:?}");
        assert!((dot(&got.dw, &reference.w) - want).abs() <= allowed, "weight adjoint of {g:?}");
    }
}

#[test]
fn a_second_call_needs_no_new_workspace() {
    let (threads, scratch) = (Threads::new(2), Scratch::default());
    for (i, g) in shapes().iter().enumerate() {
        let reference = Reference::new(g, i as u64);
        run_f32(&threads, g, &reference, &scratch);
        let held = scratch.bytes();
        run_f32(&threads, g, &reference, &scratch);
        assert_eq!(scratch.bytes(), held, "{g:?}");
    }
}

#[test]
#[should_panic(expected = "do not fit")]
fn wrong_lengths_are_refused() {
    let g = geometry(1, 2, 2, 1, 1, 1, 1, 1, 0, 1);
    forward_f32(
        &Threads::new(1),
        &g,
        Source::from(&[0.0; 4][..]),
        &[0.0; 1],
        &mut [0.0; 3],
        &Scratch::default(),
    );
}

/// Shapes for which Winograd's algorithm is chosen: the layers of the encoders at small batches, and awkward borders.
fn winograd_shapes() -> Vec<Geometry> {
    let shapes = vec![
        geometry(2, 32, 32, 64, 3, 3, 64, 1, 1, 1),
        geometry(4, 16, 16, 128, 3, 3, 128, 1, 1, 1),
        geometry(9, 8, 8, 256, 3, 3, 256, 1, 1, 1),
        geometry(33, 4, 4, 512, 3, 3, 512, 1, 1, 1),
        geometry(7, 14, 14, 64, 3, 3, 64, 1, 1, 1),
        geometry(150, 14, 14, 32, 3, 3, 32, 1, 1, 1),
        geometry(3, 11, 13, 32, 3, 3, 48, 1, 0, 1),
        geometry(5, 9, 10, 48, 3, 3, 32, 1, 2, 1),
        geometry(27, 3, 3, 32, 3, 3, 32, 1, 3, 1),
    ];
    assert!(shapes.iter().all(|g| winograd::chosen_for_weights(g, &Scratch::default())));
    shapes
}

/// The largest error over the root mean square of the exact result.
fn relative_error(got: &[f32], want: &[f64]) -> f64 {
    let rms = (want.iter().map(|v| v * v).sum::<f64>() / want.len() as f64).sqrt();
    let error = got.iter().zip(want).map(|(&got, want)| (f64::from(got) - want).abs());
    // Not `max`: a NaN must stay one, to the end.
    error.fold(0.0, |worst, error| if error <= worst || f64::is_nan(worst) { worst } else { error }) / rms
}

#[test]
fn winograd_errs_by_less_than_one_in_twenty_thousand_of_the_rms() {
    let (threads, scratch, direct) = (Threads::new(2), Scratch::default(), Scratch::new(Arithmetic::Direct));
    for (i, g) in winograd_shapes().iter().enumerate() {
        let mut numbers = Numbers(i as u64);
        let (x, w, dy) = (numbers.values(g.x_len()), numbers.values(g.w_len()), numbers.values(g.y_len()));
        let r = Reference { x, w, dy, y: vec![], dx: vec![], dw: vec![], terms: 0 };
        let want = run_f64(&threads, g, &r, &direct);
        let got = run_f32(&threads, g, &r, &scratch);
        let plain = run_f32(&threads, g, &r, &direct);
        for (what, got, plain, want) in [
            ("y", got.y, plain.y, want.y),
            ("dx", got.dx, plain.dx, want.dx),
            ("dw", got.dw, plain.dw, want.dw),
        ] {
            let (error, plain) = (relative_error(&got, &want), relative_error(&plain, &want));
            // Measured: at most 1.7e-5 and 3e-6.
            assert!(error < 5e-5 && plain < 1e-5, "{what}: {error:e}, direct {plain:e}, {g:?}");
        }
    }
}

#[test]
fn winograd_gives_the_same_bits_for_any_number_of_threads() {
    let pools = [1, 2, 3].map(Threads::new);
    for g in winograd_shapes() {
        let mut numbers = Numbers(5);
        let (x, w, dy) = (numbers.values(g.x_len()), numbers.values(g.w_len()), numbers.values(g.y_len()));
        let r = Reference { x, w, dy, y: vec![], dx: vec![], dw: vec![], terms: 0 };
        let [one, two, three] = [0, 1, 2].map(|p| {
            let got = run_f32(&pools[p], &g, &r, &Scratch::default());
            [got.y, got.dx, got.dw].map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
        });
        assert!(one == two && two == three, "{g:?}");
    }
}
