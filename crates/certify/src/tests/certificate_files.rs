//! Certificate files: round trips, damage, and mismatched encoders or samples.

use super::{Net, config, pixels};
use crate::{Certificates, CertifyError, Effort, Network, Provenance, certify};
use std::collections::HashMap;
use tarrl_attacks::Threat;
use tarrl_tensor::{Key, Tensor};

pub(super) fn stored(threat: Threat, effort: Effort) -> Certificates {
    let key = Key::new(71);
    let net = Net::new(key);
    let encode = |x: &Tensor| net.encode(x).l2_normalize(1e-6);
    let x = pixels(&net.device, key.fold("x"), &[3, 8, 8, 1]);
    let config = config(effort, threat);
    let (samples, cost) = certify(&Network::trace(&encode, &x).unwrap(), &x, &config).unwrap();
    Certificates {
        provenance: Provenance { encoder: "abc".into(), samples: "xyz".into(), config, cost },
        samples,
    }
}

#[test]
fn certificates_come_back_to_the_bit() {
    for threat in [Threat::linf(0.01), Threat::l2(0.1)] {
        for effort in [Effort::Interval, Effort::Full] {
            let made = stored(threat, effort);
            let bytes = made.to_bytes();
            assert_eq!(Certificates::from_bytes(&bytes).unwrap(), made);
            assert_eq!(made.to_bytes(), bytes);
        }
    }
}

#[test]
fn every_truncation_and_any_flipped_bit_is_found_or_harmless() {
    let made = stored(Threat::linf(0.01), Effort::Interval);
    let bytes = made.to_bytes();
    let mut harmless = 0;
    for len in 0..bytes.len() {
        assert!(Certificates::from_bytes(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
    for bit in 0..8 * bytes.len() {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // Only a letter of a number's exponent in the header may change its case.
        if let Ok(read) = Certificates::from_bytes(&damaged) {
            assert_eq!(read, made, "bit {bit}");
            harmless += 1;
        }
    }
    assert!(harmless <= 4, "{harmless} flipped bits changed nothing");
}

#[test]
fn foreign_files_and_other_versions_are_told_from_damage() {
    let foreign =
        safetensors::serialize(Vec::<(&str, safetensors::tensor::TensorView<'_>)>::new(), None).unwrap();
    let error = Certificates::from_bytes(&foreign).unwrap_err();
    assert!(
        matches!(error, CertifyError::Foreign(_))
            && error.to_string().contains("not written by this program")
    );
    let entry = HashMap::from([("tarrl-certificates".to_string(), r#"{"format": 7}"#.to_string())]);
    let later =
        safetensors::serialize(Vec::<(&str, safetensors::tensor::TensorView<'_>)>::new(), Some(entry))
            .unwrap();
    assert_eq!(Certificates::from_bytes(&later), Err(CertifyError::Version { found: 7, known: 1 }));
    assert!(matches!(Certificates::from_bytes(b"not a file at all"), Err(CertifyError::Damaged(_))));
}

#[test]
fn another_encoder_and_other_samples_are_refused() {
    let made = stored(Threat::linf(0.01), Effort::Interval);
    assert_eq!(made.check("abc", "xyz"), Ok(()));
    let error = made.check("abd", "xyz").unwrap_err().to_string();
    assert!(error.contains("abc") && error.contains("abd") && error.contains("certify again"), "{error}");
    assert!(made.check("abc", "xyy").unwrap_err().to_string().contains("samples"));
}
