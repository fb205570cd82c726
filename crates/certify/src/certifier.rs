//! Certification of a data set: one certificate for each sample, batches in parallel.

use crate::batch_certifier::{BatchCertifier, Prepared};
use crate::certificate::Certificate;
use crate::coefficient_lines::Buffers;
use crate::config::{CertifyConfig, Cost, Effort, Slopes};
use crate::error::CertifyError;
use crate::linear_maps::LinearMaps;
use crate::network::Network;
use crate::parallel::parallel_map;
use tarrl_attacks::Norm;
use tarrl_tensor::Tensor;

/// Certificates of all samples `x` `(n, …)`, in their order, and what they cost.
///
/// # Errors
/// If an input is not finite or lies outside the threat model's range, or a setting is out of its range. A bound that
/// overflows is no error: its certificate claims nothing.
///
/// # Panics
/// If the samples have another shape than the recorded ones.
#[track_caller]
pub fn certify(
    network: &Network,
    x: &Tensor,
    config: &CertifyConfig,
) -> Result<(Vec<Certificate>, Cost), CertifyError> {
    let found = certify_until(network, x, config, &|| false)?;
    Ok(found.expect("nothing ends it early"))
}

/// As [`certify`]; `stop` is asked before each batch, by any of the threads, and if it returns true the work ends there
/// and the result is `None`.
///
/// # Errors
/// As [`certify`].
#[allow(clippy::type_complexity, reason = "that of `certify`, or nothing")]
pub fn certify_until(
    network: &Network,
    x: &Tensor,
    config: &CertifyConfig,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Option<(Vec<Certificate>, Cost)>, CertifyError> {
    config.check(x)?;
    let n = x.shape()[0];
    // In an l-infinity ball with chord slopes, norms of whole layers are never tighter than boxes.
    let needs_norms = config.threat.norm != Norm::Linf || config.slopes != Slopes::Chord;
    let prepared = Prepared {
        maps: LinearMaps::new(network, config.effort == Effort::Optimized),
        norms: needs_norms.then(|| network.norms()),
        buffers: Buffers::default(),
    };
    let threads = x.device().threads();
    // Batches are cut so that no thread waits long for another; with fewer batches than threads, these share a batch.
    let batch = config.batch.min(n.div_ceil(BATCHES * threads)).max(1);
    let starts: Vec<usize> = (0..n).step_by(batch).collect();
    let inner = (threads / starts.len()).max(1);
    let found = parallel_map(threads, &starts, |&start| {
        if stop() {
            return None;
        }
        let part = x.slice(0, start, batch.min(n - start));
        let mut run = BatchCertifier::new(network, &part, config, &prepared, inner);
        run.forward();
        let certificates = run.certificates();
        Some((certificates, Cost { forward: run.passes * part.shape()[0] as f64, rows: run.rows as f64 }))
    });
    let Some(found) = found.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
    let mut certificates = Vec::with_capacity(n);
    let mut cost = Cost::default();
    for (samples, of_batch) in found {
        certificates.extend(samples);
        cost.forward += of_batch.forward;
        cost.rows += of_batch.rows;
    }
    // Sums of whole numbers: the mean does not depend on the batches.
    cost.forward /= n as f64;
    cost.rows /= n as f64;
    Ok(Some((certificates, cost)))
}

/// Batches for each thread, where there are enough samples.
const BATCHES: usize = 8;
