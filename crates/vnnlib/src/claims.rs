//! Certificates as queries: each asks for a point that would refute what a certificate says.

use crate::query::{Comparison, Query, Variable, Version};
use tarrl_certify::{Certificate, Evidence};

/// How far beyond a certified bound a query looks, as a share of the output's size, at least of one: competitions accept a
/// counterexample that misses its property by 1e-4, so that a smaller gap decides nothing.
pub const MARGIN: f64 = 1e-4;

/// What a certificate is about.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// `(c, h, w)`: the pixels at the center of the ball, in the order of the ONNX file.
    pub pixels: &'a [f64],
    /// Channels, height and width.
    pub image: [usize; 3],
    /// The radius of the l-infinity ball.
    pub epsilon: f64,
    /// The range of pixels.
    pub range: Option<(f64, f64)>,
}

impl Claim<'_> {
    /// The box of the ball: rounded inwards, by at most 1e-16, so that all of it is certified.
    fn bounds(&self) -> Vec<(f64, f64)> {
        let (low, high) = self.range.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let ends = |&x: &f64| {
            let (least, most) = ((x - self.epsilon).next_up(), (x + self.epsilon).next_down());
            (least.max(low).min(x), most.min(high).max(x))
        };
        self.pixels.iter().map(ends).collect()
    }

    fn query(&self, version: Version, d: usize, cases: Vec<Vec<Comparison>>) -> Query {
        let [c, h, w] = self.image;
        let variable = |name: &str, shape: &[usize]| Variable {
            name: name.into(),
            element: "real".into(),
            shape: shape.into(),
        };
        Query {
            version,
            network: "f".into(),
            input: variable("X", &[1, c, h, w]),
            output: variable("Y", &[1, d]),
            bounds: self.bounds(),
            cases,
        }
    }
}

/// The query for a point of the ball where a feature leaves the interval that a certificate keeps it in, by more than
/// [`MARGIN`]; `None` if the certificate claims nothing.
pub fn displacement_claim(claim: &Claim<'_>, certificate: &Certificate, version: Version) -> Option<Query> {
    let clean = certificate.representation();
    let mut cases = Vec::new();
    for (k, &z) in clean.iter().enumerate() {
        for sign in [1.0, -1.0] {
            let mut direction = vec![0.0; clean.len()];
            direction[k] = sign;
            let reach = certificate.support(&direction, Evidence::All);
            if !reach.is_finite() {
                return None;
            }
            // sign·Y ≥ sign·z + reach + margin, rounded away from the claim.
            let bound = (sign * z + reach + MARGIN * z.abs().max(1.0)).next_up();
            cases.push(vec![Comparison {
                inputs: vec![],
                outputs: vec![(k, -sign)],
                constant: bound,
                strict: false,
            }]);
        }
    }
    Some(claim.query(version, clean.len(), cases))
}

/// The query for a point of the ball where another of `classes` logits is at least that of `label`.
pub fn classification_claim(claim: &Claim<'_>, classes: usize, label: usize, version: Version) -> Query {
    let others = (0..classes).filter(|&j| j != label);
    let case = |j: usize| {
        let mut outputs = vec![(label, 1.0), (j, -1.0)];
        outputs.sort_by_key(|term| term.0);
        vec![Comparison { inputs: vec![], outputs, constant: 0.0, strict: false }]
    };
    claim.query(version, classes, others.map(case).collect())
}
