//! Certificate files: round trips, damage, and mismatched encoders or samples.

use super::{Net, config, pixels};
use crate::certificate_file::{Envelope, NAMES, checksum};
use crate::{Certificates, CertifyError, Effort, Network, Provenance, certify};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::io::Read;
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

/// A file with a valid checksum, of a certificate file whose parts were changed.
fn forged(change: impl Fn(&mut Vec<(&str, Dtype, Vec<usize>, Vec<u8>)>, &mut String)) -> Vec<u8> {
    let bytes = stored(Threat::l2(0.1), Effort::Full).to_bytes();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let names = NAMES.iter();
    let mut columns: Vec<_> = names
        .map(|name| {
            let view = file.tensor(name).unwrap();
            (*name, view.dtype(), view.shape().to_vec(), view.data().to_vec())
        })
        .collect();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut json = header.metadata().as_ref().unwrap()["tarrl-certificates"].clone();
    change(&mut columns, &mut json);
    let mut envelope: Envelope = serde_json::from_str(&json).unwrap();
    let parts = columns.iter().map(|(name, _, shape, bytes)| (*name, &shape[..], &bytes[..]));
    envelope.checksum = checksum(parts, &envelope);
    let json = serde_json::to_string(&envelope).unwrap();
    let views = columns
        .iter()
        .map(|(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize(views, Some(HashMap::from([("tarrl-certificates".to_string(), json)]))).unwrap()
}

#[test]
fn declared_counts_and_sizes_are_compared_with_the_bytes() {
    assert!(Certificates::from_bytes(&forged(|_, _| {})).is_ok());
    let misfit = CertifyError::Damaged("its parts do not fit together".into());
    let huge = usize::MAX / 16;
    let refused = |bytes: Vec<u8>| assert_eq!(Certificates::from_bytes(&bytes), Err(misfit.clone()));
    // Columns without features have no bytes, however many samples they declare.
    for n in [3, huge] {
        refused(forged(|columns, _| {
            for (_, _, shape, bytes) in columns {
                *shape = if shape.len() == 1 { vec![0] } else { [n, 0, 0][..shape.len()].to_vec() };
                bytes.clear();
            }
        }));
    }
    // Generators that the list declares and the columns have not.
    for sizes in [usize::MAX, usize::MAX / 2 + 1, huge, 1_000_000] {
        refused(forged(|_, json| {
            let start = json.find("\"forms\":[[").unwrap() + 10;
            let end = start + json[start..].find(']').unwrap();
            json.replace_range(start..end, &format!("{sizes},{sizes}"));
        }));
    }
    // A sample more, a sample fewer, another type.
    refused(forged(|_, json| *json = json.replace("\"forms\":[", "\"forms\":[null,")));
    refused(forged(|columns, _| {
        let (_, _, shape, bytes) = &mut columns[0];
        shape[0] -= 1;
        bytes.truncate(bytes.len() - 8 * shape[1]);
    }));
    refused(forged(|columns, _| columns[1].1 = Dtype::I64));
}

/// What is done with certificates puts balls of their threat model around images.
#[test]
fn a_configuration_under_which_nothing_can_be_certified_is_refused() {
    for (from, to, field) in [
        ("\"norm\":\"l2\"", "\"norm\":\"l0\"", "l0"),
        ("\"epsilon\":0.1", "\"epsilon\":-0.1", "threat.epsilon"),
        ("\"bounds\":[0.0,1.0]", "\"bounds\":[0.75,0.25]", "threat.bounds"),
        ("\"rows\":512", "\"rows\":0", "rows"),
    ] {
        let bytes = forged(|_, json| {
            assert!(json.contains(from), "{from}: {json}");
            *json = json.replacen(from, to, 1);
        });
        let error = Certificates::from_bytes(&bytes).unwrap_err().to_string();
        assert!(error.contains(field), "{to}: {error}");
    }
}

/// Counts what is taken of an endless stream.
struct Endless<'a> {
    start: &'a [u8],
    read: usize,
}

impl Read for Endless<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        to.fill(0);
        let known = self.start.len().saturating_sub(self.read).min(to.len());
        to[..known].copy_from_slice(&self.start[self.start.len().min(self.read)..][..known]);
        self.read += to.len();
        Ok(to.len())
    }
}

#[test]
fn no_more_is_read_than_the_header_declares() {
    let made = stored(Threat::linf(0.01), Effort::Interval);
    let bytes = made.to_bytes();
    assert_eq!(Certificates::from_reader(&bytes[..]), Ok(made));
    for cut in [0, 7, 8, 100, bytes.len() - 1] {
        assert!(matches!(Certificates::from_reader(&bytes[..cut]), Err(CertifyError::Damaged(_))), "{cut}");
    }
    // Zeros declare an empty header, ones a header of 16 EiB; then a whole file that goes on for ever.
    let header = |declared: u64| {
        let json =
            format!(r#"{{"clean":{{"dtype":"U8","shape":[{declared}],"data_offsets":[0,{declared}]}}}}"#);
        [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat()
    };
    for start in [&[][..], &[255; 8], &bytes, &header(1 << 40), &header(1 << 60)] {
        let mut stream = Endless { start, read: 0 };
        assert!(Certificates::from_reader(&mut stream).is_err());
        assert!(stream.read <= 2 * bytes.len() + 4096, "{} bytes", stream.read);
    }
    assert!(matches!(
        Certificates::from_reader(&header(1 << 40)[..]),
        Err(CertifyError::TooLarge { bytes: 0x100_0000_0000, .. })
    ));
}
