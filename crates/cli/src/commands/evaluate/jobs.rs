//! The jobs of an evaluation.

use std::rc::Rc;

use tarrl_jobs::{Graph, Key};

use super::subject::Subject;
use super::{attacks, certificates, clean, displacement, distances};
use crate::commands::attack::Kind;

/// The jobs of an evaluation, by what they measure.
pub(super) struct Jobs {
    pub(super) clean: Key,
    /// One for each radius, rising.
    pub(super) pgd: Vec<Key>,
    pub(super) autoattack: Vec<Key>,
    pub(super) displacement: Vec<Key>,
    pub(super) certificates: Key,
    pub(super) masking: Key,
    /// The nearest mistake of every attacked image.
    pub(super) nearest: Key,
    pub(super) distances: Key,
}

/// Adds them to a graph.
pub(super) fn jobs(subject: &Rc<Subject>, graph: &mut Graph) -> Jobs {
    let clean = graph.add(clean::job(subject));
    let mut chain = |kind: Kind| {
        let mut keys: Vec<Key> = Vec::new();
        for &epsilon in &subject.radii {
            keys.push(graph.add(attacks::job(subject, kind, epsilon, clean, keys.last().copied())));
        }
        keys
    };
    let (pgd, autoattack) = (chain(Kind::Pgd), chain(Kind::Autoattack));
    let displacement =
        subject.radii.iter().map(|&epsilon| graph.add(displacement::job(subject, epsilon, clean))).collect();
    let certificates = graph.add(certificates::job(subject, clean));
    let masking = graph.add(attacks::masking(subject, clean));
    let farthest = subject.radii.last().copied().unwrap_or_default();
    let nearest = graph.add(attacks::job(subject, Kind::Nearest, farthest, clean, None));
    let distances = graph.add(distances::job(subject, clean, nearest));
    Jobs { clean, pgd, autoattack, displacement, certificates, masking, nearest, distances }
}
