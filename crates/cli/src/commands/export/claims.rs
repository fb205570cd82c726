//! Certificates as an ONNX file and VNN-LIB queries.

use std::path::Path;

use anyhow::{Context, bail};
use tarrl_attacks::Norm;
use tarrl_certify::Certificates;
use tarrl_interop::onnx::ExportBatch;
use tarrl_jobs::files::{cannot_write, write_atomic};
use tarrl_study::heads::AnyHead;
use tarrl_tensor::DType;
use tarrl_vnnlib::{Claim, Version, classification_claim, displacement_claim};

use super::function::Function;
use crate::commands::certify::{Images, open};
use crate::model_options::ModelOptions;
use crate::stdout::outln;

/// The time in seconds that the lists of queries ask for.
const TIMEOUT: u32 = 300;

/// Writes the queries of stored certificates into a folder: `onnx/f.onnx`, `vnnlib1/` and `vnnlib2/` with a query for each
/// image, and the lists `instances.csv` (version 1.0) and `instances-2.0.csv`.
pub(super) fn write(
    encoder: &Path,
    head: Option<&Path>,
    certificates: &Path,
    folder: &Path,
    images: &Images,
) -> anyhow::Result<()> {
    let path = certificates.display();
    let file =
        std::fs::File::open(certificates).with_context(|| format!("cannot read {path}; check the path"))?;
    let certificates = Certificates::from_reader(file).with_context(|| path.to_string())?;
    let config = certificates.provenance.config;
    if config.threat.norm != Norm::Linf {
        bail!(
            "the certificates in {path} are for a ball in {}, which VNN-LIB cannot express; certify with --norm linf",
            config.threat.norm
        );
    }
    let file = open(encoder, &ModelOptions::default())?;
    let device = file.device();
    let head = head.map(|path| AnyHead::read(path).map(|(head, named)| (head, named, path))).transpose()?;
    if let Some((head, named, path)) = &head {
        file.check_head(path, head.features(), named.as_deref())?;
    }
    let source = images.from.open(&images.dataset)?;
    let chosen = images.choose(&source, certificates.samples.len())?;
    file.check_images(&images.dataset, chosen.shape())?;
    certificates.check(&file.hash, &chosen.hash).with_context(|| path.to_string())?;
    // The weights that were certified, to the bit.
    let [h, w, c] = chosen.shape();
    let mut function = Function::of_encoder(&file.encoder()?, file.hash.clone(), [h, w, c], DType::F32);
    let labels: Vec<usize> = chosen.labels.iter().map(|&label| label as usize).collect();
    let mut certified = None;
    if let Some((head, _, path)) = &head {
        let report = match head {
            AnyHead::Linear(head) => certificates.apply(head, &labels, &[])?,
            AnyHead::Mlp { head, .. } => certificates.apply_by_radius(head, &labels, &[])?,
            AnyHead::Regression { .. } => {
                bail!("{} gives numbers; queries are about classes", path.display())
            }
        };
        certified = Some((head.classes().unwrap_or(0), report));
        function = function.with_head(head, path, &device)?;
    }
    for name in ["onnx", "vnnlib1", "vnnlib2"] {
        let part = folder.join(name);
        std::fs::create_dir_all(&part).map_err(|error| cannot_write(&part, "--vnnlib DIR", error))?;
    }
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        write_atomic(&path, bytes).map_err(|error| cannot_write(&path, "--vnnlib DIR", error))
    };
    put("onnx/f.onnx", &function.bytes(ExportBatch::One, &device)?)?;
    let mut lists = [String::new(), String::new()];
    let mut written = 0;
    for (i, certificate) in certificates.samples.iter().enumerate() {
        let pixels = chosen.pixels.slice(0, i, 1).permute(&[0, 3, 1, 2]).array().to_f64();
        let claim = Claim {
            pixels: &pixels,
            image: [c, h, w],
            epsilon: config.threat.epsilon,
            range: config.threat.bounds,
        };
        let mut any = false;
        for (list, version, part) in [(0, Version::One, "vnnlib1"), (1, Version::Two, "vnnlib2")] {
            let query = match &certified {
                None => displacement_claim(&claim, certificate, version),
                Some((classes, report)) => report.chains[i]
                    .is_certified
                    .then(|| classification_claim(&claim, *classes, labels[i], version)),
            };
            let place = chosen.indices[i];
            let comment = format!(
                "image {place} of {}, l-infinity ball of radius {}",
                images.dataset, config.threat.epsilon
            );
            let Some(text) = query.and_then(|query| query.to_text(&comment)) else { continue };
            let name = format!("{part}/image-{place:05}.vnnlib");
            put(&name, text.as_bytes())?;
            lists[list] += &format!("onnx/f.onnx,{name},{TIMEOUT}\n");
            any = true;
        }
        written += usize::from(any);
    }
    if written == 0 {
        bail!(
            "none of the {} certificates in {path} claims anything at this radius; certify at a smaller --epsilon",
            certificates.samples.len()
        );
    }
    put("instances.csv", lists[0].as_bytes())?;
    put("instances-2.0.csv", lists[1].as_bytes())?;
    outln!(
        "{written} of {} images have a query; the lists are in {}",
        certificates.samples.len(),
        folder.display()
    );
    Ok(())
}
