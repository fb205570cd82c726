//! Distances stage: how far the nearest mistake of each image is, in every norm, and how far the nearest point that moves its
//! representation, with certified radii below both.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_attacks::Norm;
use tarrl_certify::{Certificate, CertifyConfig, Network};
use tarrl_data::Manifest;
use tarrl_eval::{
    DeviceHead, FoundDistance, Holds, RadiusInterval, keeps_class, labels, nearest_mistakes, nearest_moves,
    radius_interval,
};
use tarrl_tensor::{DType, Key as Random, Tensor};

use super::certify;
use super::head::HeadResult;
use super::sample::{self, seconds};
use crate::context::StudyContext;
use crate::profile::Distances;
use tarrl_jobs::{Job, Key, Spec, Stage, Stopped};

const STAGE: Stage = Stage { kind: "distances", version: 1 };

/// The file with the images that are done.
const PROGRESS: &str = "progress.json";

/// Images between two states.
const TOGETHER: usize = 10;

/// The output of a distances job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DistancesResult {
    /// How far a representation has to move: the share of the profile times the spread of the test images.
    pub threshold: f64,
    /// One for each norm of the profile.
    pub norms: Vec<NormDistances>,
}

/// The distances of all images in one norm.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NormDistances {
    /// How distances are measured.
    pub norm: Norm,
    /// One for each image.
    pub images: Vec<ImageDistances>,
}

/// The distances of one image.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImageDistances {
    /// To the nearest mistake of the head.
    pub mistake: RadiusInterval,
    /// To the nearest point where the representation has moved by the threshold.
    pub moved: RadiusInterval,
    /// Passes of the two attacks, forward and backward together.
    pub passes: [u32; 2],
}

/// A job that measures the distances of test images of the encoder of `pretrain` and the head of `head`.
pub fn job(
    study: &Arc<StudyContext>,
    [pretrain, head]: [Key; 2],
    manifest: &Manifest,
    settings: &Distances,
    name: &str,
    seed: u64,
) -> Job {
    let settings = settings.clone();
    let Distances { images, passes, certificates, share, .. } = settings;
    let norms = settings.norms.clone();
    let count = images * norms.len();
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({
            "images": images, "norms": norms, "passes": passes, "certificates": certificates, "share": share,
            "subset": study.profile.subset,
        }),
        inputs: vec![pretrain, head],
        // Two attacks, of forward and backward passes, which `seconds` counts as four.
        seconds: seconds(study, manifest, count * passes as usize / 2)
            + certify::seconds_per_sample(study) * (2 * count * certificates) as f64,
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        let data = sample::sample(&study.images()?.test, images)?;
        let encode = study.encode(context, 0)?;
        let fitted = context.input(1).parse::<HeadResult>()?;
        let threshold = share * fitted.diagnostics.spread;
        let head = fitted.head.head();
        let (x, truth) = (study.pixels(&data), labels(&data.labels));
        let on_device = DeviceHead::new(&head, &study.device, DType::F32);
        let classify = |x: &Tensor| on_device.forward(&encode(x));
        let network = Network::trace(&encode, &x.slice(0, 0, 1));
        if let Err(error) = &network {
            context.log(&format!("nothing is certified: {error}"));
        }
        let network = network.ok();
        let key = Random::new(context.seed()).fold("distances");
        let n = truth.len();
        let saved: Vec<NormDistances> = context.saved(PROGRESS).unwrap_or_default();
        let fits = saved.len() <= norms.len()
            && saved.iter().zip(&norms).all(|(done, norm)| done.norm == *norm && done.images.len() <= n);
        let mut found = if fits { saved } else { Vec::new() };
        for (number, &norm) in norms.iter().enumerate() {
            if found.len() == number {
                found.push(NormDistances { norm, images: Vec::new() });
            }
            while found[number].images.len() < n {
                let start = found[number].images.len();
                context.progress((number * n + start) as u64, (norms.len() * n) as u64, &norm.to_string());
                let len = TOGETHER.min(n - start);
                let part = x.slice(0, start, len);
                let labels = &truth[start..start + len];
                let keys: Vec<Random> =
                    (start..start + len).map(|i| key.fold(norm.to_string().as_str()).fold(i)).collect();
                let mistakes = nearest_mistakes(&classify, &part, labels, norm, passes, &keys);
                let moves = nearest_moves(&encode, &part, threshold, norm, passes, &keys);
                for i in 0..len {
                    let image = part.slice(0, i, 1);
                    let class = |c: &Certificate, at: &CertifyConfig| keeps_class(&head, labels[i], c, at);
                    let still = |c: &Certificate, _: &CertifyConfig| Ok(c.radius() < threshold);
                    let interval = |found: &FoundDistance, holds: &Holds<'_>| {
                        let Some(network) = &network else {
                            return Ok(RadiusInterval { certified: None, found: found.distance });
                        };
                        let stop = context.stop();
                        let stop = &|| stop.urgent().is_some();
                        let of = radius_interval(network, &image, norm, found, certificates, holds, stop)?;
                        of.ok_or_else(|| {
                            anyhow::Error::from(context.stop().urgent().unwrap_or(Stopped::Signal))
                        })
                    };
                    let passes = [mistakes[i], moves[i]].map(|found| found.forward + found.backward);
                    let mistake = interval(&mistakes[i], &class)?;
                    let moved = interval(&moves[i], &still)?;
                    found[number].images.push(ImageDistances { mistake, moved, passes });
                }
                context.save(PROGRESS, &found)?;
            }
        }
        serde_json::to_value(DistancesResult { threshold, norms: found }).context("distances as JSON")
    })
}
