//! Distances of images: what is certified below the nearest mistake found, and how far a representation is from moving, without
//! labels.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_certify::{Certificate, CertifyConfig, Network};
use tarrl_eval::{
    BoundError, FoundDistance, Holds, RadiusInterval, keeps_class, nearest_moves, radius_interval,
};
use tarrl_jobs::{Job, Key, Spec, Stage};
use tarrl_study::stages::distances::ImageDistances;
use tarrl_tensor::{Key as Random, Tensor};

use super::attacks::{Attacked, PASSES};
use super::certificates::places;
use super::clean::Clean;
use super::subject::Subject;

const STAGE: Stage = Stage { kind: "distances", version: 1 };

/// How far a representation has to move, as a share of the spread of all representations.
pub(super) const SHARE: f64 = 0.5;

/// Balls that are certified for each distance.
const CERTIFICATES: usize = 6;

/// Images between two states.
const TOGETHER: usize = 10;

/// The file with the images that are done.
const PROGRESS: &str = "progress.json";

/// The distances of the images that are certified.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Distances {
    /// How far a representation has to move.
    pub(super) threshold: f64,
    pub(super) images: Vec<ImageDistances>,
}

/// Certified radii below the mistakes that `nearest` found, and distances without labels.
pub(super) fn job(subject: &Rc<Subject>, clean: Key, nearest: Key) -> Job {
    let images = subject.certified.len();
    let spec = Spec {
        name: "distances".to_owned(),
        stage: STAGE,
        seed: subject.seed,
        config: subject.config(json!({
            "images": places(subject), "passes": PASSES, "certificates": CERTIFICATES, "share": SHARE,
        })),
        inputs: vec![clean, nearest],
        seconds: (5e-5 * f64::from(PASSES) + 0.5 * (2 * CERTIFICATES) as f64) * images as f64,
    };
    let subject = subject.clone();
    Job::new(spec, move |context| {
        let clean: Clean = context.input(0).parse()?;
        let mistakes: Attacked = context.input(1).parse()?;
        let (head, threshold) = (clean.head.head(), SHARE * clean.diagnostics.spread);
        let (x, labels) = subject.images(&places(&subject));
        let encode = |u: &Tensor| {
            context.stop().unwind();
            subject.encode(u)
        };
        let network = Network::trace(&encode, &x.slice(0, 0, 1)).ok();
        let key = Random::new(context.seed()).fold("distances");
        let saved: Vec<ImageDistances> = context.saved(PROGRESS).unwrap_or_default();
        let mut found = if saved.len() <= labels.len() { saved } else { Vec::new() };
        while found.len() < labels.len() {
            let start = found.len();
            context.progress(start as u64, labels.len() as u64, "");
            let len = TOGETHER.min(labels.len() - start);
            let part = x.slice(0, start, len);
            let keys: Vec<Random> = (start..start + len).map(|i| key.fold(i)).collect();
            let moves = nearest_moves(&encode, &part, threshold, subject.norm, PASSES, &keys);
            for (i, moved) in moves.iter().enumerate() {
                let of = &mistakes.images[subject.certified[start + i]];
                let mistake =
                    FoundDistance { distance: of.distance, forward: of.forward, backward: of.backward };
                let label = labels[start + i];
                let class = |c: &Certificate, at: &CertifyConfig| keeps_class(&head, label, c, at);
                let still = |c: &Certificate, _: &CertifyConfig| Ok(c.radius() < threshold);
                let image = part.slice(0, i, 1);
                let interval = |found: &FoundDistance, holds: &Holds<'_>| {
                    let unknown = RadiusInterval { certified: None, found: found.distance };
                    let Some(network) = &network else { return Ok(unknown) };
                    let certificates = CERTIFICATES;
                    match radius_interval(network, &image, subject.norm, found, certificates, holds, &|| {
                        false
                    }) {
                        Err(BoundError::Certificates(_)) => Ok(unknown),
                        of => of.map(|of| of.unwrap_or(unknown)),
                    }
                };
                let passes = [&mistake, moved].map(|found| found.forward + found.backward);
                let (mistake, moved) = (interval(&mistake, &class)?, interval(moved, &still)?);
                found.push(ImageDistances { mistake, moved, passes });
                context.stop().unwind();
            }
            context.save(PROGRESS, &found)?;
        }
        Ok(serde_json::to_value(Distances { threshold, images: found })?)
    })
}
