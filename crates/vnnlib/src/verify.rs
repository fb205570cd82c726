//! Deciding a query: by an attack whose point is checked in f64, or by a certificate.

use crate::query::{Comparison, Query};
use std::time::Instant;
use tarrl_attacks::{Pgd, Threat, pgd};
use tarrl_certify::{Certificate, CertifyConfig, CertifyError, Evidence, Network, Precision, certify};
use tarrl_interop::onnx::Graph;
use tarrl_tensor::{DType, Device, Key, Tensor, Transpose};

/// What is known of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It has an answer: an input and its output, computed in f64, in the order of the ONNX file.
    Sat {
        /// The input.
        x: Vec<f64>,
        /// The output.
        y: Vec<f64>,
    },
    /// A certificate proves that it has none.
    Unsat,
    /// Neither was found; why not.
    Unknown(String),
    /// The time was up.
    TimedOut,
}

/// How much is done for an answer.
#[derive(Clone, Copy, Debug)]
pub struct VerifyOptions {
    /// When to stop; looked at between attacks, and before certificates.
    pub deadline: Option<Instant>,
    /// Ascents from random points for each case.
    pub restarts: usize,
    /// Steps of an ascent.
    pub steps: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        VerifyOptions { deadline: None, restarts: 4, steps: 40 }
    }
}

/// A query that is not about this network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Another number of inputs.
    #[error(
        "the query has an input of {query} elements, the network one of {network}; take files that belong together"
    )]
    Inputs {
        /// Of the query.
        query: usize,
        /// Of the network.
        network: usize,
    },
    /// Another number of outputs.
    #[error(
        "the query has an output of {query} elements, the network one of {network}; take files that belong together"
    )]
    Outputs {
        /// Of the query.
        query: usize,
        /// Of the network.
        network: usize,
    },
    /// A network for images of any size.
    #[error(
        "the network takes images of any side, which the query's input {0:?} does not tell; export it for one side"
    )]
    Side(Vec<usize>),
}

/// Decides a query about `network`.
///
/// `Sat` comes with a point in the box that was run again in f64, `Unsat` with a certificate for real arithmetic, or, if
/// the query declares `float32`, for the rounding of f32 too. Products on the device have to be plain sums
/// ([`Arithmetic::Direct`](tarrl_tensor::Arithmetic)).
///
/// # Errors
/// If the query is not about this network.
pub fn verify(
    query: &Query,
    network: &Graph,
    options: &VerifyOptions,
    device: &Device,
) -> Result<Answer, VerifyError> {
    let side = network.side().ok_or_else(|| VerifyError::Side(query.input.shape.clone()))?;
    let image = [network.channels(), side, side];
    let elements = image.iter().product();
    if query.bounds.len() != elements {
        return Err(VerifyError::Inputs { query: query.bounds.len(), network: elements });
    }
    if query.output.len() != network.dim() {
        return Err(VerifyError::Outputs { query: query.output.len(), network: network.dim() });
    }
    if query.bounds.iter().any(|(least, most)| least > most) {
        // No input is in an empty box.
        return Ok(Answer::Unsat);
    }
    let problem = Problem::new(query, network, image, device);
    let is_late = || options.deadline.is_some_and(|deadline| Instant::now() >= deadline);
    if is_late() {
        return Ok(Answer::TimedOut);
    }
    for case in 0..query.cases.len() {
        if let Some(found) = problem.attack(case, options) {
            return Ok(found);
        }
        if is_late() {
            return Ok(Answer::TimedOut);
        }
    }
    match problem.certificate() {
        Err(error) => Ok(Answer::Unknown(format!(
            "no counterexample was found, and no certificate can be made: {error}"
        ))),
        Ok(certificate) => {
            let open = query.cases.iter().filter(|case| !problem.is_refuted(case, &certificate)).count();
            if open == 0 {
                return Ok(Answer::Unsat);
            }
            let all = query.cases.len();
            Ok(Answer::Unknown(format!(
                "no counterexample was found, and the certificate leaves {open} of {all} cases open"
            )))
        }
    }
}

/// A query on a cube: the input is `center + half·z` for `z` in `[−1, 1]`.
struct Problem<'a> {
    query: &'a Query,
    network: &'a Graph,
    image: [usize; 3],
    device: &'a Device,
    /// `(1, h, w, c)` in f32; the box lies in `center ± half`.
    center: Tensor,
    half: Tensor,
    /// The ends of the box in f32, inside.
    ends: Vec<(f32, f32)>,
}

impl<'a> Problem<'a> {
    fn new(query: &'a Query, network: &'a Graph, image: [usize; 3], device: &'a Device) -> Self {
        let middle = |&(least, most): &(f64, f64)| (0.5 * least + 0.5 * most) as f32;
        let center: Vec<f32> = query.bounds.iter().map(middle).collect();
        let reach = |(&(least, most), &c): (&(f64, f64), &f32)| {
            let c = f64::from(c);
            let half = (most - c).max(c - least).max(0.0);
            // The cube has to cover the box.
            let single = half as f32;
            if half == 0.0 {
                0.0
            } else if f64::from(single) > half {
                single
            } else {
                single.next_up()
            }
        };
        let half: Vec<f32> = query.bounds.iter().zip(&center).map(reach).collect();
        let ends = query.bounds.iter().map(|&(least, most)| {
            let (l, u) = (least as f32, most as f32);
            let l = if f64::from(l) < least { l.next_up() } else { l };
            let u = if f64::from(u) > most { u.next_down() } else { u };
            (l, u)
        });
        let ends = ends.collect();
        let [c, h, w] = image;
        let images = |values: &[f32]| Tensor::new(device, [1, c, h, w], values).permute(&[0, 2, 3, 1]);
        Problem { query, network, image, device, center: images(&center), half: images(&half), ends }
    }

    fn point(&self, z: &Tensor) -> Tensor {
        &(z * &self.half) + &self.center
    }

    /// `(m)`: how far points `z` are from satisfying a case: the largest left side of its comparisons.
    fn excess(&self, z: &Tensor, case: &[Comparison]) -> Tensor {
        let x = self.point(z);
        let y = self.network.forward(&x);
        let (m, d) = (y.shape()[0], y.shape()[1]);
        let [c, h, w] = self.image;
        let k = case.len();
        let (mut of_inputs, mut of_outputs) = (vec![0.0f32; k * c * h * w], vec![0.0f32; k * d]);
        let mut constants = vec![0.0f32; k];
        for (row, comparison) in case.iter().enumerate() {
            comparison.inputs.iter().for_each(|&(i, factor)| of_inputs[row * c * h * w + i] = factor as f32);
            comparison.outputs.iter().for_each(|&(i, factor)| of_outputs[row * d + i] = factor as f32);
            constants[row] = comparison.constant as f32;
        }
        let mut left = &y.matmul_with(&Tensor::new(self.device, [k, d], &of_outputs), Transpose::RIGHT)
            + &Tensor::new(self.device, [k], &constants);
        if case.iter().any(|comparison| !comparison.inputs.is_empty()) {
            let flat = x.permute(&[0, 3, 1, 2]).reshape([m, c * h * w]);
            left = &left
                + &flat.matmul_with(&Tensor::new(self.device, [k, c * h * w], &of_inputs), Transpose::RIGHT);
        }
        left.max(1).reshape([m])
    }

    /// A point that answers the query by one of its cases.
    fn attack(&self, case: usize, options: &VerifyOptions) -> Option<Answer> {
        let comparisons = &self.query.cases[case];
        let [c, h, w] = self.image;
        let threat = Threat { bounds: None, ..Threat::linf(1.0) };
        let m = options.restarts.max(1);
        let z = Tensor::full(self.device, [m, h, w, c], DType::F32, 0.0);
        if comparisons.is_empty() {
            return self.answer(&z.slice(0, 0, 1));
        }
        let keys: Vec<Key> = (0..m).map(|i| Key::new(0).fold("vnnlib").fold(case).fold(i)).collect();
        let config = Pgd { restarts: 1, ..Pgd::usual(&threat, options.steps) };
        let found = pgd(&z, &|z, _| self.excess(z, comparisons).neg(), &threat, &config, &keys);
        let best = (0..m).filter(|&i| found.value[i] >= -1e-3);
        best.map(|i| found.best.slice(0, i, 1)).find_map(|z| self.answer(&z))
    }

    /// The answer at a point of the cube, if it is one: in the box, its output computed in f64.
    fn answer(&self, z: &Tensor) -> Option<Answer> {
        let [c, h, w] = self.image;
        let x = self.point(&z.detach()).permute(&[0, 3, 1, 2]).to_vec::<f32>();
        let inside = x.iter().zip(&self.ends).map(|(&x, &(least, most))| f64::from(x.max(least).min(most)));
        let x: Vec<f64> = inside.collect();
        let images = Tensor::new(self.device, [1, c, h, w], &x).permute(&[0, 2, 3, 1]);
        let y = self.network.cast(DType::F64).forward(&images).array().to_f64();
        // What overflows even in f64 compares with everything and shows nothing.
        let is_finite = y.iter().all(|v| v.is_finite());
        (is_finite && self.query.is_satisfied(&x, &y)).then_some(Answer::Sat { x, y })
    }

    fn certificate(&self) -> Result<Certificate, CertifyError> {
        let [c, h, w] = self.image;
        let z = Tensor::full(self.device, [1, h, w, c], DType::F32, 0.0);
        let network = Network::trace(&|z| self.network.forward(&self.point(z)), &z)?;
        let precision = if self.query.input.element == "float32" { Precision::F32 } else { Precision::F64 };
        let threat = Threat { bounds: None, ..Threat::linf(1.0) };
        let config = CertifyConfig { threat, precision, ..CertifyConfig::default() };
        let (mut certificates, _) = certify(&network, &z, &config)?;
        Ok(certificates.remove(0))
    }

    /// Whether one comparison of a case cannot hold anywhere in the box.
    fn is_refuted(&self, case: &[Comparison], certificate: &Certificate) -> bool {
        let clean = certificate.representation();
        case.iter().any(|comparison| {
            let mut minus = vec![0.0; clean.len()];
            comparison.outputs.iter().for_each(|&(k, factor)| minus[k] = -factor);
            let reach = certificate.support(&minus, Evidence::All);
            let mut least = comparison.constant;
            let mut size = comparison.constant.abs();
            for &(k, factor) in &comparison.outputs {
                least += factor * clean[k];
                size += (factor * clean[k]).abs();
            }
            for &(i, factor) in &comparison.inputs {
                let (low, high) = self.query.bounds[i];
                least += (factor * low).min(factor * high);
                size += (factor * low).abs().max((factor * high).abs());
            }
            // The sum has fewer than 2²⁴ terms, each rounded once.
            let rounding = 1e-9 * (size + reach.abs());
            least - reach - rounding > 0.0
        })
    }
}
