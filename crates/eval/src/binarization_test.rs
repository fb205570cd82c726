//! Binarization test of attacks (Zimmermann et al. 2022): a readout of two classes on the encoder, for which an adversarial example
//! in the ball is known, so that an attack which finds none has failed.

use crate::features::encode;
use crate::fit_error::FitError;
use crate::probe::{ProbeConfig, linear_probe};
use std::collections::BTreeMap;
use tarrl_attacks::Classifier;
use tarrl_attacks::diagnostics::{Finding, Sign};
use tarrl_attacks::{Norm, Threat};
use tarrl_tensor::{DType, Key, Tensor};

/// An attack under test: a classifier, one image `(1, …)`, the threat model and a key to the point where the attack ends.
pub type AttackUnderTest<'a> = dyn Fn(Classifier<'_>, &Tensor, &Threat, Key) -> Tensor + 'a;

/// Settings of the unit test of attacks of Zimmermann, Brendel, Tramèr and Carlini ("Increasing confidence in adversarial
/// robustness evaluations", NeurIPS 2022), for encoders.
///
/// Around each image a linear readout is fitted on the encoder's features that separates points inside the ball from one on
/// its boundary. The point on the boundary is an adversarial example of encoder and readout, whatever the encoder defends
/// itself with: a robust accuracy above zero is a failure of the attack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BinarizationTest {
    /// Points inside, which get the class of the image; half of them on the sphere that bounds the inner ball.
    pub inner: usize,
    /// The radius of the inner ball, as a share of ε.
    pub share: f64,
    /// Where the threshold lies between the last point inside, 0, and the one on the boundary, 1.
    pub hardness: f64,
    /// Random points of the ball that are tried beside the attack: a test that they pass shows nothing.
    pub random: usize,
}

/// A hundred points within 0.9 ε, a threshold at three quarters, a hundred random points.
impl Default for BinarizationTest {
    fn default() -> Self {
        BinarizationTest { inner: 100, share: 0.9, hardness: 0.75, random: 100 }
    }
}

/// What an attack found, image by image.
#[derive(Clone, Debug, PartialEq)]
pub struct BinarizationScore {
    /// `(n)`: whether it found an adversarial example; `None` where no readout separates the points.
    pub found: Vec<Option<bool>>,
    /// `(n)`: the share of random points that are adversarial examples, 0 where there is no readout.
    pub random: Vec<f64>,
}

/// The least share of known examples that a sound attack finds.
const PASSED: f64 = 0.95;

impl BinarizationTest {
    /// Tests `attack` on the images `x` `(n, …)` with one key for each. The result is judged here, not by the attack: a point
    /// counts if it lies in the ball and in the box in exact arithmetic and the readout gives it the other class.
    ///
    /// # Errors
    /// If a feature is not finite.
    ///
    /// # Panics
    /// If the radius is zero, the norm is l0, there is no point inside, a share is outside of (0, 1), or there are not as many
    /// keys as images.
    #[track_caller]
    pub fn run(
        &self,
        encoder: &dyn Fn(&Tensor) -> Tensor,
        x: &Tensor,
        threat: &Threat,
        attack: &AttackUnderTest<'_>,
        keys: &[Key],
    ) -> Result<BinarizationScore, FitError> {
        let inside = |share: f64| share > 0.0 && share < 1.0;
        assert!(
            threat.epsilon > 0.0 && threat.norm != Norm::L0 && self.inner > 0,
            "binarization test: a ball of radius {} in {} with {} points inside",
            threat.epsilon,
            threat.norm,
            self.inner
        );
        assert!(
            inside(self.share) && inside(self.hardness),
            "binarization test: shares of {} and {}",
            self.share,
            self.hardness
        );
        assert_eq!(keys.len(), x.shape()[0], "binarization test: keys for {} images", x.shape()[0]);
        let mut score = BinarizationScore { found: vec![], random: vec![] };
        for (i, &key) in keys.iter().enumerate() {
            let image = x.slice(0, i, 1);
            let Some(readout) = self.readout(encoder, &image, threat, key)? else {
                score.found.push(None);
                score.random.push(0.0);
                continue;
            };
            let logits = |u: &Tensor| readout.logits(&encoder(u));
            let classifier = Classifier { logits: &logits, labels: &[0] };
            let point = attack(classifier, &image, threat, key.fold("attack")).detach();
            let is_inside = threat.around(&image).contains(&point)[0];
            score.found.push(Some(is_inside && is_adversarial(&logits(&point))[0]));
            let draws: Vec<Key> = (0..self.random).map(|draw| key.fold("random").fold(draw)).collect();
            let drawn = threat.around(&copies(&image, self.random)).start(&draws);
            let hits = is_adversarial(&logits(&drawn)).into_iter().filter(|&hit| hit).count();
            score.random.push(hits as f64 / self.random.max(1) as f64);
        }
        Ok(score)
    }

    /// The readout of one image; `None` if no hyperplane between the features has the points on their sides.
    fn readout(
        &self,
        encoder: &dyn Fn(&Tensor) -> Tensor,
        image: &Tensor,
        threat: &Threat,
        key: Key,
    ) -> Result<Option<Readout>, FitError> {
        let keys = |name: &str, n: usize| -> Vec<Key> { (0..n).map(|i| key.fold(name).fold(i)).collect() };
        let inner = Threat { epsilon: self.share * threat.epsilon, ..*threat };
        let (within, around) = (self.inner.div_ceil(2), self.inner / 2);
        let boundary = threat.around(image).start_on_sphere(&keys("boundary", 1));
        let points = [
            image.clone(),
            inner.around(&copies(image, within)).start(&keys("inner", within)),
            inner.around(&copies(image, around)).start_on_sphere(&keys("sphere", around)),
            boundary,
        ];
        let points = Tensor::concat(&points.iter().collect::<Vec<_>>(), 0);
        let features = encode(encoder, &points).cast(DType::F64);
        let mut labels = vec![0u32; self.inner + 1];
        labels.push(1);
        // Hardly any weight on the norm: a hyperplane that separates is found where there is one.
        let config = ProbeConfig { l2: vec![1e-6], ..ProbeConfig::default() };
        let head = linear_probe(&features, &labels, 2, &config, key)?.head;
        let weight = head.gap_vector(1, 0);
        let along: Vec<f64> = features
            .array()
            .to_f64()
            .chunks(weight.len())
            .map(|z| z.iter().zip(&weight).map(|(z, w)| z * w).sum())
            .collect();
        let last = along[..=self.inner].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let gap = along[self.inner + 1] - last;
        if gap.is_nan() || gap <= 0.0 {
            return Ok(None);
        }
        // Scaled so that the gap is one.
        let scaled: Vec<f64> = weight.iter().map(|w| w / gap).collect();
        let readout = Readout {
            weight: Tensor::new(image.device(), [scaled.len(), 1], &scaled).cast(image.dtype()),
            threshold: last / gap + self.hardness,
        };
        // The known example as it will be judged: alone, in the precision of the encoder.
        let known = is_adversarial(&readout.logits(&encoder(&points.slice(0, self.inner + 1, 1))))[0];
        let clean = is_adversarial(&readout.logits(&encoder(image)))[0];
        Ok((known && !clean).then_some(readout))
    }
}

impl BinarizationScore {
    /// The share of the known examples' images where the attack found one; NaN of none.
    pub fn success(&self) -> f64 {
        let tested: Vec<bool> = self.found.iter().copied().flatten().collect();
        tested.iter().filter(|found| **found).count() as f64 / tested.len() as f64
    }

    /// The mean share of random points that are adversarial examples, over the images with a readout; NaN of none.
    pub fn random_success(&self) -> f64 {
        let tested = self.found.iter().filter(|found| found.is_some()).count();
        self.random.iter().sum::<f64>() / tested as f64
    }

    /// The images where an example is known and the attack found none; blocking if they are more than a twentieth.
    pub fn finding(&self) -> Option<Finding> {
        let missed: Vec<usize> = (0..self.found.len()).filter(|&i| self.found[i] == Some(false)).collect();
        let tested = self.found.iter().flatten().count();
        let numbers = BTreeMap::from([
            ("of".to_owned(), tested as f64),
            ("success".to_owned(), self.success()),
            ("random-success".to_owned(), self.random_success()),
        ]);
        let blocking = self.success() < PASSED;
        (!missed.is_empty()).then_some(Finding {
            sign: Sign::MissesKnownExamples,
            blocking,
            samples: missed,
            numbers,
        })
    }
}

/// `w · z − threshold`, as logits of two classes.
struct Readout {
    /// `(d, 1)`
    weight: Tensor,
    threshold: f64,
}

impl Readout {
    /// `(n, d)` to `(n, 2)`.
    fn logits(&self, z: &Tensor) -> Tensor {
        let along = z.matmul(&self.weight).add_scalar(-self.threshold);
        Tensor::concat(&[&along.neg(), &along], 1)
    }
}

fn is_adversarial(logits: &Tensor) -> Vec<bool> {
    logits.array().to_f64().chunks(2).map(|z| z[1] > z[0]).collect()
}

/// An image `(1, …)` several times.
fn copies(image: &Tensor, n: usize) -> Tensor {
    let mut shape = image.shape().to_vec();
    shape[0] = n;
    image.broadcast_to(tarrl_tensor::Shape::new(&shape))
}
