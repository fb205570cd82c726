//! Certificate files: certificates as bytes of a safetensors file with a checksum, bound to an encoder and its samples.

use crate::certificate::Certificate;
use crate::config::{CertifyConfig, Cost};
use crate::ellipsoid::Ellipsoid;
use crate::error::CertifyError;
use crate::zonotope::Zonotope;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::Read;

/// The version of the format that this program writes and reads.
pub(crate) const FORMAT: u64 = 1;

/// The one entry of the safetensors metadata, everything in it as JSON.
const ENTRY: &str = "tarrl-certificates";

/// The certificates of a set of samples under one encoder, with what they are bound to.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificates {
    /// What they were made for.
    pub provenance: Provenance,
    /// One for each sample.
    pub samples: Vec<Certificate>,
}

/// What certificates were made for. They hold for no other encoder, no other samples and no larger ball.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Hash of the encoder, as the caller computes it.
    pub encoder: String,
    /// Hash of the samples, likewise.
    pub samples: String,
    /// The configuration of the certification.
    pub config: CertifyConfig,
    /// The mean cost for one sample.
    pub cost: Cost,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Envelope {
    format: u64,
    pub(crate) checksum: String,
    #[serde(rename = "about")]
    provenance: Provenance,
    sphere: Option<f64>,
    /// Generators and rows of the ball of each sample; `None` for a sample without a zonotope.
    forms: Vec<Option<[usize; 2]>>,
}

#[derive(Deserialize)]
struct Version {
    format: u64,
}

/// A tensor on its way to a file.
struct Column {
    name: &'static str,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Certificates {
    /// The number of features d.
    pub fn features(&self) -> usize {
        self.samples.first().map_or(0, Certificate::features)
    }

    /// Checks that they were made for this encoder and these samples, by the hashes that they were made with.
    ///
    /// # Errors
    /// If one of them has changed since.
    pub fn check(&self, encoder: &str, samples: &str) -> Result<(), CertifyError> {
        let Provenance { encoder: certified, samples: these, .. } = &self.provenance;
        if certified != encoder {
            return Err(CertifyError::OtherEncoder { certified: certified.clone(), given: encoder.into() });
        }
        if these != samples {
            return Err(CertifyError::OtherSamples { certified: these.clone(), given: samples.into() });
        }
        Ok(())
    }

    /// A safetensors file with a version and a checksum. The same certificates give the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let columns = self.columns();
        let forms = self.samples.iter().map(|c| c.zonotope.as_ref().map(|form| form.sizes())).collect();
        let mut envelope = Envelope {
            format: FORMAT,
            checksum: String::new(),
            provenance: self.provenance.clone(),
            sphere: self.samples.first().and_then(|c| c.sphere),
            forms,
        };
        let parts = columns.iter().map(|c| (c.name, &c.shape[..], &c.bytes[..]));
        envelope.checksum = checksum(parts, &envelope);
        let json = serde_json::to_string(&envelope).expect("numbers and strings are JSON");
        let views = columns.iter().map(|c| {
            let view = TensorView::new(c.dtype, c.shape.clone(), &c.bytes);
            (c.name, view.expect("a column has as many bytes as its shape requires"))
        });
        safetensors::serialize(views, Some(HashMap::from([(ENTRY.to_string(), json)])))
            .expect("columns of fixed names make a file")
    }

    /// As [`from_bytes`](Certificates::from_bytes) from a file or a stream, of which no more is read than its header
    /// declares, and at most 16 GiB.
    ///
    /// # Errors
    /// If it cannot be read or is larger, and as [`from_bytes`](Certificates::from_bytes).
    pub fn from_reader(mut reader: impl Read) -> Result<Self, CertifyError> {
        let mut bytes = Vec::new();
        let mut read = |bytes: &mut Vec<u8>, len: u64| {
            let found = reader.by_ref().take(len).read_to_end(bytes);
            found.map(|_| ()).map_err(|error| CertifyError::Unreadable(error.to_string()))
        };
        read(&mut bytes, 8)?;
        let header = header_length(&bytes)?;
        read(&mut bytes, header)?;
        let declared = parse_header(&bytes)?.data_len() as u64;
        // One more byte would show that there is something behind the last tensor.
        read(&mut bytes, declared + 1)?;
        Self::from_bytes(&bytes)
    }

    /// What [`to_bytes`](Certificates::to_bytes) wrote, to the bit. Nothing is allocated for a declared size before it has
    /// been compared with the bytes that are there.
    ///
    ///
    /// # Errors
    /// If the bytes are damaged, cut short, of another version or of another program.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CertifyError> {
        let damaged = |error: &dyn std::fmt::Display| CertifyError::Damaged(error.to_string());
        let header = parse_header(bytes)?;
        let entry = header.metadata().as_ref().and_then(|entries| entries.get(ENTRY));
        let json = entry.ok_or_else(|| CertifyError::Foreign("it has no certificates".into()))?;
        let version: Version = serde_json::from_str(json).map_err(|e| damaged(&e))?;
        if version.format != FORMAT {
            return Err(CertifyError::Version { found: version.format, known: FORMAT });
        }
        let envelope: Envelope = serde_json::from_str(json).map_err(|e| damaged(&e))?;
        let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e))?;
        let tensor = |name: &str| file.tensor(name).map_err(|e| damaged(&e));
        let views = NAMES.map(tensor).into_iter().collect::<Result<Vec<_>, _>>()?;
        let parts = NAMES.into_iter().zip(&views).map(|(name, view)| (name, view.shape(), view.data()));
        if file.len() != NAMES.len() || checksum(parts, &envelope) != envelope.checksum {
            return Err(CertifyError::Damaged("its content does not match its checksum".into()));
        }
        envelope.provenance.config.check_settings()?;
        let misfit = || CertifyError::Damaged("its parts do not fit together".into());
        let d = fitting_width(&envelope, &views).ok_or_else(misfit)?;
        read(&envelope, &views, d).ok_or_else(misfit)
    }

    fn columns(&self) -> Vec<Column> {
        let (n, d) = (self.samples.len(), self.features());
        let doubles = |name, shape: Vec<usize>, of: &dyn Fn(&Certificate) -> Vec<f64>| Column {
            name,
            dtype: Dtype::F64,
            shape,
            bytes: self.samples.iter().flat_map(of).flat_map(f64::to_le_bytes).collect(),
        };
        let singles = |name, of: &dyn Fn(&Zonotope) -> &[f32]| {
            let forms = self.samples.iter().filter_map(|c| c.zonotope.as_ref());
            let bytes: Vec<u8> =
                forms.flat_map(|form| of(form).iter().flat_map(|v| v.to_le_bytes())).collect();
            Column { name, dtype: Dtype::F32, shape: vec![bytes.len() / 4 / d.max(1), d], bytes }
        };
        let forms = self.samples.iter().filter(|c| c.zonotope.is_some()).count();
        let form = |of: fn(&Zonotope) -> Vec<f64>| {
            move |c: &Certificate| c.zonotope.as_ref().map(of).unwrap_or_default()
        };
        vec![
            doubles(NAMES[0], vec![n, d], &|c| c.clean.clone()),
            doubles(NAMES[1], vec![n], &|c| vec![c.radius]),
            doubles(NAMES[2], vec![n, d], &|c| c.lower.clone()),
            doubles(NAMES[3], vec![n, d], &|c| c.upper.clone()),
            doubles(NAMES[4], vec![forms, d], &form(|f| f.offset.clone())),
            doubles(NAMES[5], vec![forms, d], &form(|f| f.spread.clone())),
            doubles(NAMES[6], vec![forms], &form(|f| vec![f.rest.weight])),
            doubles(NAMES[7], vec![forms, d, d], &form(|f| f.rest.matrix.clone())),
            singles(NAMES[8], &|f| &f.generators),
            singles(NAMES[9], &|f| &f.ball),
        ]
    }
}

pub(crate) const NAMES: [&str; 10] = [
    "clean",
    "radius",
    "lower",
    "upper",
    "form.offset",
    "form.spread",
    "form.ellipsoid.weight",
    "form.ellipsoid.matrix",
    "form.generators",
    "form.ball",
];

/// The largest header that safetensors reads.
const MAX_HEADER: u64 = 100_000_000;

/// The most bytes of tensors that are read.
const MAX_DATA: u64 = 1 << 34;

/// The length of the header, from the first eight bytes of a safetensors file.
fn header_length(bytes: &[u8]) -> Result<u64, CertifyError> {
    let Some(&length) = bytes.first_chunk() else {
        return Err(CertifyError::Damaged(format!("it ends after {} bytes", bytes.len())));
    };
    match u64::from_le_bytes(length) {
        length if length > MAX_HEADER => Err(CertifyError::Damaged(format!("a header of {length} bytes"))),
        length => Ok(length),
    }
}

/// The header of a safetensors file, whose data may not have been read yet.
fn parse_header(bytes: &[u8]) -> Result<Metadata, CertifyError> {
    let length = header_length(bytes)?;
    let json = bytes.get(8..8 + length as usize);
    let json = json.ok_or_else(|| CertifyError::Damaged("it ends within its header".into()))?;
    let header: Metadata =
        serde_json::from_slice(json).map_err(|error| CertifyError::Damaged(error.to_string()))?;
    match header.data_len() as u64 {
        bytes if bytes > MAX_DATA => Err(CertifyError::TooLarge { bytes, most: MAX_DATA }),
        _ => Ok(header),
    }
}

/// The number of features, if every column has the type and the shape that the list of zonotopes and the first column
/// require: then all sizes are those of bytes that are there.
fn fitting_width(envelope: &Envelope, views: &[TensorView<'_>]) -> Option<usize> {
    let &[n, d] = views[0].shape() else { return None };
    if n != envelope.forms.len() || n == 0 || d == 0 {
        return None;
    }
    let made: Vec<[usize; 2]> = envelope.forms.iter().flatten().copied().collect();
    let rows = |which: usize| made.iter().try_fold(0usize, |sum, sizes| sum.checked_add(sizes[which]));
    let m = made.len();
    let shapes: [&[usize]; 10] =
        [&[n, d], &[n], &[n, d], &[n, d], &[m, d], &[m, d], &[m], &[m, d, d], &[rows(0)?, d], &[rows(1)?, d]];
    let dtype = |column: usize| if column < 8 { Dtype::F64 } else { Dtype::F32 };
    let fits = |(column, view): (usize, &TensorView<'_>)| {
        view.shape() == shapes[column] && view.dtype() == dtype(column)
    };
    views.iter().enumerate().all(fits).then_some(d)
}

/// The certificates of a file with a valid checksum whose columns fit; `None` if they do not.
fn read(envelope: &Envelope, views: &[TensorView<'_>], d: usize) -> Option<Certificates> {
    let n = envelope.forms.len();
    let doubles: Vec<Vec<f64>> = views[..8].iter().map(|v| words(v.data(), f64::from_le_bytes)).collect();
    let singles: Vec<Vec<f32>> = views[8..].iter().map(|v| words(v.data(), f32::from_le_bytes)).collect();
    let row = |column: usize, i: usize, len: usize| {
        doubles[column].get(i * len..(i + 1) * len).map(<[f64]>::to_vec)
    };
    let (mut form, mut starts) = (0, [0, 0]);
    let mut samples = Vec::with_capacity(n);
    for i in 0..n {
        let made = match envelope.forms.get(i)? {
            None => None,
            Some(sizes) => {
                let mut part = |which: usize| {
                    let start = starts[which];
                    starts[which] += sizes[which] * d;
                    singles[which].get(start..starts[which]).map(<[f32]>::to_vec)
                };
                let (generators, ball) = (part(0)?, part(1)?);
                let rest = Ellipsoid { weight: *doubles[6].get(form)?, matrix: row(7, form, d * d)? };
                let made = Zonotope::from_stored(row(4, form, d)?, row(5, form, d)?, generators, rest, ball);
                form += 1;
                Some(made)
            }
        };
        samples.push(Certificate {
            clean: row(0, i, d)?,
            radius: *doubles[1].get(i)?,
            lower: row(2, i, d)?,
            upper: row(3, i, d)?,
            zonotope: made,
            sphere: envelope.sphere,
            unit: envelope.provenance.config.format().unit,
        });
    }
    Some(Certificates { provenance: envelope.provenance.clone(), samples })
}

fn words<const N: usize, T>(bytes: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&word| read(word)).collect()
}

/// The hash of everything but itself, each part with its length before it.
pub(crate) fn checksum<'a>(
    parts: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>,
    envelope: &Envelope,
) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    let rest = (&envelope.provenance, envelope.sphere, &envelope.forms);
    part(serde_json::to_string(&rest).expect("numbers and strings are JSON").as_bytes());
    for (name, shape, bytes) in parts {
        part(name.as_bytes());
        part(format!("{shape:?}").as_bytes());
        part(bytes);
    }
    hasher.finalize().to_hex().to_string()
}
