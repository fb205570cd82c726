use super::*;
use proptest::prelude::*;
use tarrl_attacks::Threat;
use tarrl_certify::{CertifyConfig, Network, certify};
use tarrl_interop::onnx::{Export, ExportBatch, Graph, export};
use tarrl_tensor::{Arithmetic, Cpu, DType, Device, Key, Random, Tensor};

const TWO: &str = "; comment
(vnnlib-version <2.0>)
(declare-network f
  (declare-input X float32 [1,2,1,1])
  (declare-output Y float32 [1,2])
)
(assert (>= X[0,0,0,0] 0.25))
(assert (<= X[0,0,0,0] 0.5))
(assert (>= X[0,1,0,0] 0.0))
(assert (<= X[0, 1, 0, 0] 1.0))
(assert (or (>= Y[0,0] 0.75) (<= Y[0,0] 0.25) (>= Y[0,1] 0.5) (<= Y[0,1] -0.5)))
";

const ONE: &str = "(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(assert (>= X_0 2.5e-1))
(assert (<= X_0 0.5))
(assert (>= X_1 0))
(assert (<= X_1 1.0))
(assert (or
(and (>= Y_0 0.75))
(and (<= Y_0 0.25))
(and (>= Y_1 0.5))
(and (<= Y_1 -0.5))
))
";

fn direct() -> Device {
    Cpu { threads: 1, arithmetic: Arithmetic::Direct }.open()
}

#[test]
fn both_versions_of_one_query_are_read_alike() {
    let (two, one) = (Query::parse(TWO).unwrap(), Query::parse(ONE).unwrap());
    assert_eq!(two.bounds, [(0.25, 0.5), (0.0, 1.0)]);
    assert_eq!((&two.bounds, &two.cases), (&one.bounds, &one.cases));
    assert_eq!((two.version, one.version, two.input.shape), (Version::Two, Version::One, vec![1, 2, 1, 1]));
    for (y, satisfied) in [([0.75, 0.0], true), ([0.5, 0.0], false), ([0.25, 0.0], true), ([0.5, -0.5], true)]
    {
        assert_eq!(one.is_satisfied(&[0.3, 1.0], &y), satisfied, "{y:?}");
        assert!(!one.is_satisfied(&[0.3, 1.1], &y));
    }
}

/// As the parser `vnnlib` 1.0.2 reads it too: an `and` is as many assertions.
#[test]
fn bounds_within_an_and_are_those_of_the_box() {
    let (head, rest) = TWO.split_at(TWO.find("(assert").unwrap());
    let all = rest.replace("(assert ", "").replace("))\n", ")\n");
    let joined = Query::parse(&format!("{head}(assert (and {all}))")).unwrap();
    let apart = Query::parse(TWO).unwrap();
    assert_eq!((&joined.bounds, &joined.cases), (&apart.bounds, &apart.cases));
    // A strict bound stays a comparison, and an equality is two bounds.
    let some = "(assert (and (> X[0,0,0,0] 0.25) (<= X[0,0,0,0] 0.5) (== X[0,1,0,0] 1.0) (<= Y[0,0] 0.0)))";
    let query = Query::parse(&format!("{head}{some}")).unwrap();
    assert_eq!((query.bounds, query.cases[0].len()), (vec![(0.25, 0.5), (1.0, 1.0)], 2));
    // Within an `or` nothing holds in every case.
    let or = "(assert (or (and (>= X[0,0,0,0] 0.25) (<= X[0,0,0,0] 0.5)) (<= Y[0,0] 0.0)))(assert (<= X[0,1,0,0] 1.0))";
    assert!(
        Query::parse(&format!("{head}{or}")).unwrap_err().to_string().contains("what holds in every case")
    );
}

/// Found by fuzzing: the text of a query without a comparison.
#[test]
fn a_query_of_a_box_alone_is_written_and_read() {
    for text in [TWO, ONE] {
        let end = text.find("(assert (or").unwrap();
        let query = Query::parse(&text[..end]).unwrap();
        assert_eq!(query.cases, [vec![]]);
        assert_eq!(Query::parse(&query.to_text("").unwrap()).unwrap().cases, query.cases);
        assert!(query.is_satisfied(&[0.25, 0.0], &[0.0, 0.0]));
    }
}

#[test]
fn sums_of_outputs_and_inputs_are_linear_forms() {
    let margin = "(vnnlib-version <2.0>)(declare-network f(declare-input X real [])(declare-output Y real [1,2]))
        (assert (>= X -1.0))(assert(<= X 1.0))
        (assert (and (<= (+ (* 0.5 Y[0,0]) (* -1.25 Y[0,1]) 0.125) (- X)) (< Y[0,0] Y[0,1]) (!= Y[0,1] 3.0)))";
    let query = Query::parse(margin).unwrap();
    assert_eq!(query.cases.len(), 2);
    let [first, second, third] = &query.cases[0][..] else { panic!("three comparisons") };
    assert_eq!((&first.inputs, &first.outputs), (&vec![(0, 1.0)], &vec![(0, 0.5), (1, -1.25)]));
    assert_eq!(first.value(&[2.0], &[4.0, 8.0]), 2.0 + 2.0 - 10.0 + 0.125);
    assert!(second.strict && !second.holds(&[0.0], &[1.0, 1.0]));
    assert!(third.holds(&[0.0], &[0.0, 2.9]) && !third.holds(&[0.0], &[0.0, 3.0]));
}

#[test]
fn what_the_language_does_not_have_is_refused_at_its_place() {
    let second =
        |joint: &str| TWO.replacen("(assert", &format!("(declare-network g ({joint} f))\n(assert"), 1);
    let cases = [
        (second("equal-to"), (7, 1), "a second network (equal-to) is not supported"),
        (second("isomorphic-to"), (7, 1), "a second network (isomorphic-to) is not supported"),
        (TWO.replace("0.75", "1e-5"), (11, 24), "without an exponent"),
        (TWO.replace("0.75", ".5"), (11, 24), "no number of version 2.0"),
        (TWO.replace("0.75", "1"), (11, 24), "no number of version 2.0"),
        (TWO.replace("(>= Y[0,0] 0.75)", "(= Y[0,0] 0.75)"), (11, 13), "written =="),
        (TWO.replace("Y[0,0] 0.75", "Y[0,2] 0.75"), (11, 17), "not below 2"),
        (TWO.replace("Y[0,0] 0.75", "Y[0] 0.75"), (11, 17), "needs 2 indices"),
        (TWO.replace("Y[0,0] 0.75", "Z[0,0] 0.75"), (11, 17), "\"Z\" is not declared"),
        (TWO.replace("<2.0>", "<3.0>"), (2, 1), "only version <2.0>"),
        (TWO.replace("float32 [1,2,1,1]", "banana [1,2,1,1]"), (4, 20), "use float32 or real"),
        (TWO.replace("[1,2,1,1]", "[-1,2,1,1]"), (4, 28), "no positive extent"),
        (TWO.replace("declare-network f", "declare-network f-copy"), (3, 18), "is no name"),
        (TWO.replace("declare-network f", "declare-network f (equal-to g)"), (3, 20), "second network"),
        (TWO.replace("(or (>= Y", "(or (* Y"), (11, 13), "not supported"),
        (TWO.replace("(or (>= Y[0,0] 0.75)", "(or (>= (* Y[0,0] Y[0,1]) 0.75)"), (11, 17), "is not linear"),
        (TWO.replace("(assert (<= X[0,0,0,0] 0.5))", ""), (1, 1), "X[0,0,0,0] is not bounded"),
        (TWO.replace("-0.5)))", "-0.5))"), (11, 1), "never closed"),
        (TWO.replace("-0.5)))", "-0.5))))"), (11, 81), "closes nothing"),
        (ONE.replace("X_1 Real", "X_3 Real"), (2, 1), "not the next"),
        (ONE.replace("(<= X_0 0.5)", "(< X_0 0.5)"), (6, 9), "<= and >= alone"),
        (ONE.replace("(<= Y_0 0.25)", "(<= (+ Y_0 Y_1) 0.25)"), (11, 10), "no arithmetic"),
        (String::new(), (1, 1), "empty"),
    ];
    for (text, (line, column), reason) in cases {
        let error = Query::parse(&text).unwrap_err();
        assert!(error.reason.contains(reason), "{error} for {reason}");
        assert_eq!((error.line, error.column), (line, column), "{error}");
    }
}

#[test]
fn deep_and_exploding_formulas_are_refused() {
    let deep = TWO.replace("(or (>=", &format!("{}(or (>=", "(and ".repeat(100_000)));
    assert!(Query::parse(&deep).unwrap_err().reason.contains("are open"));
    let either = "(or (>= Y[0,0] 0.75) (<= Y[0,0] 0.25))";
    let product = TWO.replace("(or (>=", &format!("(and {} (or (>=", vec![either; 40].join(" "))) + ")";
    assert!(Query::parse(&product).unwrap_err().reason.contains("comparisons"));
    let huge = TWO.replace("[1,2,1,1]", "[1,99999999999,99999999999,1]");
    assert!(Query::parse(&huge).unwrap_err().reason.contains("elements"));
}

fn queries() -> impl Strategy<Value = Query> {
    let value = || prop_oneof![Just(0.0), -2.0f64..2.0, Just(1e-30), Just(-12345678.0)];
    let case = move || {
        (0usize..3, 0usize..3, value(), any::<bool>()).prop_map(|(i, j, constant, strict)| {
            let outputs = if i == j {
                vec![(i, -1.0)]
            } else if i < j {
                vec![(i, 1.0), (j, -1.0)]
            } else {
                vec![(j, -1.0), (i, 1.0)]
            };
            let constant = if i == j { constant } else { 0.0 };
            vec![Comparison { inputs: vec![], outputs, constant: constant + 0.0, strict }]
        })
    };
    let bounds = proptest::collection::vec((value(), 0.0f64..1.0), 4);
    (any::<bool>(), bounds, proptest::collection::vec(case(), 1..5)).prop_map(|(two, bounds, mut cases)| {
        for comparison in cases.iter_mut().flatten() {
            comparison.outputs.sort_by_key(|term| term.0);
            comparison.strict &= two;
        }
        let variable = |name: &str, shape: &[usize]| Variable {
            name: name.into(),
            element: "real".into(),
            shape: shape.into(),
        };
        Query {
            version: if two { Version::Two } else { Version::One },
            network: "f".into(),
            input: if two { variable("X", &[1, 1, 2, 2]) } else { variable("X", &[4]) },
            output: if two { variable("Y", &[1, 3]) } else { variable("Y", &[3]) },
            bounds: bounds.into_iter().map(|(l, width)| (l, l + width)).collect(),
            cases,
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(query in queries()) {
        let text = query.to_text("a comment\nof two lines").unwrap();
        let read = Query::parse(&text);
        prop_assert_eq!(read.unwrap(), query, "{}", text);
    }
}

/// `y = (x₀ + x₁, max(x₀ − x₁, 0))` of an image of two channels and one pixel.
fn small(device: &Device) -> Graph {
    let function = |x: &Tensor| {
        let flat = x.permute(&[0, 3, 1, 2]).reshape([x.shape()[0], 2]);
        let w = Tensor::new(device, [2, 2], &[1.0f32, 1.0, 1.0, -1.0]);
        // A sum of positive pixels is its own ReLU.
        flat.matmul(&w).relu()
    };
    let what =
        Export { image: [1, 1, 2], dtype: DType::F32, batch: ExportBatch::One, names: &[], metadata: &[] };
    let bytes = export(&function, &what, device).unwrap();
    Graph::from_bytes(&bytes, &|_, _, _| Err(String::new()), device).unwrap()
}

/// Over `[0.25, 0.5] × [0, 1]` the outputs fill `[0.25, 1.5]` and `[0, 0.5]`.
#[test]
fn queries_are_decided_where_the_range_of_the_outputs_is_known() {
    let device = direct();
    let network = small(&device);
    let ask = |formula: &str| {
        let text =
            TWO.replace("(or (>= Y[0,0] 0.75) (<= Y[0,0] 0.25) (>= Y[0,1] 0.5) (<= Y[0,1] -0.5))", formula);
        verify(&Query::parse(&text).unwrap(), &network, &VerifyOptions::default(), &device).unwrap()
    };
    for formula in
        ["(>= Y[0,0] 1.49)", "(<= Y[0,0] 0.26)", "(>= Y[0,1] 0.49)", "(and (>= Y[0,0] 0.6) (>= Y[0,1] 0.3))"]
    {
        let Answer::Sat { x, y } = ask(formula) else { panic!("{formula}: {:?}", ask(formula)) };
        assert_eq!(y, [x[0] + x[1], (x[0] - x[1]).max(0.0)], "{formula}");
        assert!((0.25..=0.5).contains(&x[0]) && (0.0..=1.0).contains(&x[1]));
    }
    // The certificate covers the rounding of f32, so it needs some room.
    for formula in ["(>= Y[0,0] 1.501)", "(<= Y[0,1] -0.001)", "(or (>= Y[0,0] 1.501) (<= Y[0,0] 0.249))"] {
        assert_eq!(ask(formula), Answer::Unsat, "{formula}");
    }
    // Both outputs depend on the same pixels, which the certificate of a sum of them does not see in full.
    let both = ask("(and (>= Y[0,0] 1.4) (>= Y[0,1] 0.2))");
    assert!(matches!(both, Answer::Unknown(_) | Answer::Unsat), "{both:?}");
    let empty = TWO.replace("0.25))", "0.75))");
    let empty = verify(&Query::parse(&empty).unwrap(), &network, &VerifyOptions::default(), &device).unwrap();
    assert_eq!(empty, Answer::Unsat);
    let late = VerifyOptions { deadline: Some(std::time::Instant::now()), ..VerifyOptions::default() };
    assert_eq!(verify(&Query::parse(TWO).unwrap(), &network, &late, &device), Ok(Answer::TimedOut));
    let other = TWO
        .replace("[1,2,1,1]", "[2]")
        .replace("[0,0,0,0]", "[0]")
        .replace("[0,1,0,0]", "[1]")
        .replace("[0, 1, 0, 0]", "[1]");
    assert!(verify(&Query::parse(&other).unwrap(), &network, &VerifyOptions::default(), &device).is_ok());
    let wide = TWO.replace("Y float32 [1,2]", "Y float32 [1,3]");
    let error =
        verify(&Query::parse(&wide).unwrap(), &network, &VerifyOptions::default(), &device).unwrap_err();
    assert!(error.to_string().contains("3 elements"), "{error}");
}

/// Outputs that overflow even in f64 satisfy every comparison with a number and answer none.
#[test]
fn outputs_that_are_no_numbers_are_no_answer() {
    let device = direct();
    let function = |x: &Tensor| {
        let flat = x.permute(&[0, 3, 1, 2]).reshape([x.shape()[0], 2]);
        (0..9).fold(flat, |y, _| y.mul_scalar(1e38))
    };
    let what =
        Export { image: [1, 1, 2], dtype: DType::F32, batch: ExportBatch::One, names: &[], metadata: &[] };
    let bytes = export(&function, &what, &device).unwrap();
    let network = Graph::from_bytes(&bytes, &|_, _, _| Err(String::new()), &device).unwrap();
    let answer = verify(&Query::parse(TWO).unwrap(), &network, &VerifyOptions::default(), &device).unwrap();
    assert!(matches!(answer, Answer::Unknown(_)), "{answer:?}");
}

/// At the one point (½, ¼) of the box, with outputs ¾ and ¼, the left side is
/// `2⁵⁴ + 4·¾ + 10·¼ + 5·½ − 4(2⁵⁴ + 8)·¼ = 0`, which satisfies `≤ 0`. Each of the three terms in the middle is rounded up to
/// 4, so that a sum in f64 is 4.
#[test]
fn a_sum_that_rounding_lifts_above_zero_refutes_nothing() {
    let device = direct();
    let mut query = Query::parse(TWO).unwrap();
    let large = 54f64.exp2();
    query.bounds = vec![(0.5, 0.5), (0.25, 0.25)];
    let inputs = vec![(0, 5.0), (1, -4.0 * (large + 8.0))];
    query.cases =
        vec![vec![Comparison { inputs, outputs: vec![(0, 4.0), (1, 10.0)], constant: large, strict: false }]];
    let answer = verify(&query, &small(&device), &VerifyOptions::default(), &device).unwrap();
    assert!(matches!(answer, Answer::Unknown(_)), "{answer:?}");
}

/// What a certificate says is confirmed; a bound that an attack passes is refuted.
#[test]
fn queries_of_certificates_are_unsatisfiable_until_their_bounds_are_cut() {
    let device = direct();
    let normal = |name: &str, rows: usize, columns: usize| {
        let keys: Vec<Key> = (0..rows).map(|row| Key::new(7).fold(name).fold(row)).collect();
        Tensor::random(&device, Random::Normal, &keys, &[columns], DType::F32)
    };
    let (first, second) = (normal("first", 12, 16), normal("second", 16, 3));
    let function = |x: &Tensor| {
        let flat = x.permute(&[0, 3, 1, 2]).reshape([x.shape()[0], 12]);
        flat.matmul(&first.cast(x.dtype())).relu().matmul(&second.cast(x.dtype()))
    };
    let x = Tensor::random(&device, Random::Uniform, &[Key::new(3)], &[2, 2, 3], DType::F32);
    let epsilon = 0.02;
    let config = CertifyConfig { threat: Threat::linf(epsilon), ..CertifyConfig::default() };
    let network = Network::trace(&function, &x).unwrap();
    let (certificates, _) = certify(&network, &x, &config).unwrap();
    let what =
        Export { image: [2, 2, 3], dtype: DType::F32, batch: ExportBatch::One, names: &[], metadata: &[] };
    let bytes = export(&function, &what, &device).unwrap();
    let graph = Graph::from_bytes(&bytes, &|_, _, _| Err(String::new()), &device).unwrap();
    let pixels = x.permute(&[0, 3, 1, 2]).array().to_f64();
    let claim = Claim { pixels: &pixels, image: [3, 2, 2], epsilon, range: Some((0.0, 1.0)) };
    for version in [Version::One, Version::Two] {
        let query = displacement_claim(&claim, &certificates[0], version).unwrap();
        let text = query.to_text("").unwrap();
        let read = Query::parse(&text).unwrap();
        assert_eq!((&read.bounds, &read.cases), (&query.bounds, &query.cases));
        assert_eq!(read.cases.len(), 6);
        let options = VerifyOptions::default();
        assert_eq!(verify(&read, &graph, &options, &device), Ok(Answer::Unsat));
        // At the clean output every bound is passed.
        let mut cut = read.clone();
        let clean = certificates[0].representation();
        cut.cases.iter_mut().flatten().for_each(|comparison| {
            let (k, factor) = comparison.outputs[0];
            comparison.constant = -factor * clean[k];
        });
        assert!(matches!(verify(&cut, &graph, &options, &device), Ok(Answer::Sat { .. })));
    }
    let logits = classification_claim(&claim, 3, 1, Version::One).to_text("").unwrap();
    assert!(logits.contains("(and (<= Y_1 Y_0))") && logits.contains("(and (<= Y_1 Y_2))"), "{logits}");
}
