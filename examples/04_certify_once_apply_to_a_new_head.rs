//! Certificates: bound an encoder once, store the bytes, and certify heads of tasks that come later.
//!
//! `cargo run -p tarrl-examples --example 04_certify_once_apply_to_a_new_head`

#![forbid(unsafe_code)]

use tarrl_attacks::Threat;
use tarrl_bound::LinearHead;
use tarrl_certify::{Certificates, CertifyConfig, CertifyError, Network, Provenance, certify};
use tarrl_tensor::{Tensor, cpu};

/// Prints how many samples two heads are certified on, from certificates that know neither.
pub fn main() -> Result<(), CertifyError> {
    let device = cpu();
    let w = Tensor::new(&device, [2, 3], &[1.0f32, 1.0, -1.0, 1.0, -1.0, 1.0]);
    let v = Tensor::new(&device, [3, 2], &[1.0f32, 0.0, -1.0, 1.0, 0.0, 1.0]);
    let encoder = |x: &Tensor| x.matmul(&w).relu().matmul(&v); // any closure of ops that have a rule
    let x = Tensor::new(&device, [3, 2], &[0.9f32, 0.2, 0.3, 0.8, 0.5, 0.45]); // (n, d), values in [0, 1]

    // Once: the recorded graph of the encoder is read, and each sample gets a sound bound of how far its representation moves
    // inside of the ball. No label, no task.
    let network = Network::trace(&encoder, &x)?;
    let config = CertifyConfig { threat: Threat::linf(0.1), ..CertifyConfig::default() };
    let (samples, cost) = certify(&network, &x, &config)?;
    let provenance =
        Provenance { encoder: "hash of weights".into(), samples: "hash of images".into(), config, cost };
    let bytes = Certificates { provenance, samples }.to_bytes();

    // Later, for a head that did not exist: read the bytes, refuse those of another encoder, and multiply.
    let certificates = Certificates::from_bytes(&bytes)?;
    certificates.check("hash of weights", "hash of images")?;
    let labels = [1, 0, 0];
    let mut certified = 0;
    for (task, weights) in [("first", vec![1.0, 0.0, 0.0, 1.0]), ("second", vec![2.0, 0.5, 0.0, 3.0])] {
        let report = certificates.apply(&LinearHead::new(2, 2, weights, vec![0.0; 2]), &labels, &[])?;
        let count = report.count(|chain| chain.is_certified);
        println!(
            "{task} task: {count} of 3 samples certified, loss at most {:.3}",
            report.mean(|c| c.certified)
        );
        assert_eq!(report.violations(), 0);
        certified += count;
    }
    println!("{certified} of 6 certified in all");
    assert_eq!(certified, 5);
    Ok(())
}
