//! Head reports: stored certificates applied to a head that was trained later.

use crate::certificate::{Certificate, Evidence};
use crate::certificate_file::Certificates;
use crate::error::CertifyError;
use crate::rounding::UNIT;
use crate::vector::{l2_norm, max_or_nan};
use serde::{Deserialize, Serialize};
use tarrl_bound::LpNorm;
use tarrl_bound::confidence::accuracy_lower;
use tarrl_bound::gap;
use tarrl_bound::{KnnHead, LinearHead, RegressionHead, SoftmaxHead, out_of_order};

/// The losses of one sample under a classification head, each at most the next up to rounding, and what is certified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CertifiedChain {
    /// `L`: the clean loss.
    pub clean: f64,
    /// `A`: the largest loss at points that an attack reached, the clean one included.
    pub attacked: f64,
    /// `ln(1 + Σ e^{m_j + s_j})` with the smallest supports of the certificate: the certified loss.
    pub certified: f64,
    /// The same with `s_j` from the radius alone.
    pub radius: f64,
    /// `ln(1 + (eᴸ − 1) eˢ)`, from the radius.
    pub odds: f64,
    /// `L + C_y r`.
    pub label_additive: f64,
    /// `L + C r`: the shape of the task-agnostic bound.
    pub additive: f64,
    /// Whether the sample is classified correctly.
    pub correct: bool,
    /// Whether it is at every point that an attack reached.
    pub survives: bool,
    /// Whether it is at every point of the ball: Theorem B2 (docs/theory.md).
    pub is_certified: bool,
    /// The same from the radius alone.
    pub certified_by_radius: bool,
}

/// One head on all samples of stored certificates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadReport {
    /// One for each sample.
    pub chains: Vec<CertifiedChain>,
}

impl CertifiedChain {
    /// The losses in their order.
    pub fn in_order(&self) -> [f64; 7] {
        [
            self.clean,
            self.attacked,
            self.certified,
            self.radius,
            self.odds,
            self.label_additive,
            self.additive,
        ]
    }

    /// Whether each loss is at most the next, up to rounding (1e-11 of their size; infinite ones are equal), and
    /// nothing is certified that an attack broke. NaN is out of order.
    pub fn holds(&self) -> bool {
        let sorted = |pair: &[f64]| pair[0] <= pair[1] + 1e-11 * (1.0 + pair[0].abs() + pair[1].abs());
        self.in_order().windows(2).all(sorted)
            && (self.survives || !self.is_certified)
            && (self.is_certified || !self.certified_by_radius)
    }

    /// Whether a loss is above a later one, or something is certified that an attack broke. What is NaN or infinite
    /// because numbers of this size overflow is left out: it claims nothing and shows nothing.
    pub fn is_violated(&self) -> bool {
        out_of_order(&self.in_order())
            || (self.is_certified && !self.survives && self.attacked.is_finite())
            || (self.certified_by_radius && !self.is_certified)
    }
}

impl HeadReport {
    /// The mean of a loss over the samples.
    pub fn mean(&self, of: fn(&CertifiedChain) -> f64) -> f64 {
        self.chains.iter().map(of).sum::<f64>() / self.chains.len() as f64
    }

    /// How many samples have a property.
    pub fn count(&self, of: fn(&CertifiedChain) -> bool) -> usize {
        self.chains.iter().filter(|chain| of(chain)).count()
    }

    /// Samples whose chain is violated: zero unless the program has an error.
    pub fn violations(&self) -> usize {
        self.chains.iter().filter(|chain| chain.is_violated()).count()
    }

    /// With probability at least `1 − delta` over the samples, the accuracy under any attack in the ball is not below:
    /// Theorem D3 (docs/theory.md). The head must not have seen the samples.
    pub fn certified_accuracy_lower(&self, delta: f64) -> f64 {
        accuracy_lower(self.count(|chain| chain.is_certified), self.chains.len(), delta)
    }
}

impl Certificates {
    /// A linear head on the certified samples: their chains, with the losses at `attacked` points, each the
    /// representations `(n, d)` of all samples where one attack ended.
    ///
    /// Costs `d` multiply-adds for each generator and pair of classes, and no pass through the encoder.
    ///
    /// # Errors
    /// If the head has another width, or the labels another number.
    ///
    /// # Panics
    /// If a label is out of range or attacked representations have another length.
    #[track_caller]
    pub fn apply(
        &self,
        head: &LinearHead,
        labels: &[usize],
        attacked: &[&[f64]],
    ) -> Result<HeadReport, CertifyError> {
        self.fits(head.features(), labels.len())?;
        let constant = head.constant(LpNorm::L2);
        let rounding = |c: &Certificate, y| largest(&head.gap_rounding(&c.representation(), y, c.radius()));
        let supports = |c: &Certificate, y: usize| -> Vec<f64> {
            let support = |j| if j == y { 0.0 } else { c.support(&head.gap_vector(j, y), Evidence::All) };
            (0..head.classes()).map(support).collect()
        };
        let chain = |(i, c): (usize, &Certificate)| {
            let y = labels[i];
            let mut chain = chain(head, c, y, points(attacked, i, c.features()), supports(c, y));
            chain.additive = chain.clean + constant * c.radius() + rounding(c, y);
            chain
        };
        Ok(HeadReport { chains: self.samples.iter().enumerate().map(chain).collect() })
    }

    /// As [`apply`](Certificates::apply) for any head that bounds its gaps by a radius, such as
    /// [`MlpHead`](tarrl_bound::MlpHead): Theorem B1 (docs/theory.md).
    ///
    /// # Errors
    /// As [`apply`](Certificates::apply).
    ///
    /// # Panics
    /// As [`apply`](Certificates::apply).
    #[track_caller]
    pub fn apply_by_radius(
        &self,
        head: &dyn SoftmaxHead,
        labels: &[usize],
        attacked: &[&[f64]],
    ) -> Result<HeadReport, CertifyError> {
        self.fits(head.features(), labels.len())?;
        let chain = |(i, c): (usize, &Certificate)| {
            let (y, z) = (labels[i], c.representation());
            let supports = head.radius_supports(&z, y, c.radius());
            chain(head, c, y, points(attacked, i, c.features()), supports)
        };
        Ok(HeadReport { chains: self.samples.iter().enumerate().map(chain).collect() })
    }

    /// Whether k-nearest neighbors keep the label of each sample at every point of the ball: Theorem B4
    /// (docs/theory.md).
    ///
    /// # Errors
    /// If there is another number of labels.
    ///
    /// # Panics
    /// If the bank has another width.
    #[track_caller]
    pub fn certified_neighbors(&self, head: &KnnHead, labels: &[usize]) -> Result<Vec<bool>, CertifyError> {
        self.fits(self.features(), labels.len())?;
        let certified = |(c, &y): (&Certificate, &usize)| {
            let z = c.representation();
            // Distances are compared in f64: the margin has to exceed their rounding too.
            c.radius() + 1e-9 * (1.0 + l2_norm(&z)) < head.certified_radius(&z, y)
        };
        Ok(self.samples.iter().zip(labels).map(certified).collect())
    }

    /// The certified squared error of each sample, with clean error: `(clean, certified)` `(n)`. Theorem B3
    /// (docs/theory.md), the shift of each output taken in its own direction. `targets` is `(n, o)` row-major.
    ///
    /// # Errors
    /// If the head has another width than the representations.
    ///
    /// # Panics
    /// If there are not `o` targets for each sample.
    #[track_caller]
    pub fn squared_errors(
        &self,
        head: &RegressionHead,
        rows: &[&[f64]],
        targets: &[f64],
    ) -> Result<Vec<(f64, f64)>, CertifyError> {
        let width = rows.first().map_or(0, |row| row.len());
        self.fits(width, targets.len() / rows.len().max(1))?;
        let errors = |(c, target): (&Certificate, &[f64])| {
            let prediction = head.predict(&c.representation());
            let (mut clean, mut worst) = (0.0, 0.0);
            let rounding = head.rounding(&c.representation(), c.radius());
            for (((row, p), t), rounding) in rows.iter().zip(&prediction).zip(target).zip(rounding) {
                let minus: Vec<f64> = row.iter().map(|w| -w).collect();
                let rounding = rounding + 4.0 * UNIT * (p.abs() + t.abs());
                let up = p - t + c.support(row, Evidence::All) + rounding;
                let down = t - p + c.support(&minus, Evidence::All) + rounding;
                clean += (p - t).powi(2);
                worst += if up > down || up.is_nan() { up * up } else { down * down };
            }
            (clean, worst * (1.0 + 1e-12))
        };
        Ok(self.samples.iter().zip(targets.chunks(rows.len().max(1))).map(errors).collect())
    }

    fn fits(&self, head: usize, labels: usize) -> Result<(), CertifyError> {
        let (features, samples) = (self.features(), self.samples.len());
        if head != features {
            return Err(CertifyError::Width { features, head });
        }
        if labels != samples {
            return Err(CertifyError::Labels { samples, labels });
        }
        Ok(())
    }
}

/// The largest of several numbers and zero; NaN if one is.
fn largest(of: &[f64]) -> f64 {
    of.iter().fold(0.0, |largest, &v| max_or_nan(v, largest))
}

/// The rows of sample `i` of each attack.
fn points<'a>(attacked: &[&'a [f64]], i: usize, d: usize) -> Vec<&'a [f64]> {
    attacked.iter().map(|points| &points[i * d..][..d]).collect()
}

fn chain(
    head: &dyn SoftmaxHead,
    certificate: &Certificate,
    y: usize,
    attacked: Vec<&[f64]>,
    supports: Vec<f64>,
) -> CertifiedChain {
    let z = certificate.representation();
    let gaps = head.gaps(&z, y);
    let loss = gap::loss(&gaps, y);
    // What the arithmetic of the head itself adds at both points.
    let rounding = head.gap_rounding(&z, y, certificate.radius());
    let rounded =
        |supports: Vec<f64>| -> Vec<f64> { supports.iter().zip(&rounding).map(|(s, e)| s + e).collect() };
    let by_radius = rounded(head.radius_supports(&z, y, certificate.radius()));
    let right = |z: &[f64]| head.gaps(z, y).iter().enumerate().all(|(j, &g)| j == y || g < 0.0);
    // No exact support exceeds the bound from the radius; where rounding makes it larger, the smaller one is sound too.
    let supports: Vec<f64> =
        rounded(supports).iter().zip(&by_radius).map(|(s, r)| if s < r { *s } else { *r }).collect();
    let worst =
        attacked.iter().map(|z| head.loss(z, y)).fold(loss, |a, b| if b > a || b.is_nan() { b } else { a });
    let additive = gap::additive_bound(&gaps, y, &by_radius);
    CertifiedChain {
        clean: loss,
        attacked: worst,
        certified: gap::logit_gap_bound(&gaps, y, &supports),
        radius: gap::logit_gap_bound(&gaps, y, &by_radius),
        odds: gap::odds_bound(&gaps, y, &by_radius),
        label_additive: additive,
        additive,
        correct: right(&z),
        survives: right(&z) && attacked.iter().all(|z| right(z)),
        is_certified: gap::is_certified(&gaps, y, &supports),
        certified_by_radius: gap::is_certified(&gaps, y, &by_radius),
    }
}
