//! Data stage, the root of every study: checks that the dataset is there and is what its manifest says.

use anyhow::Context;
use serde_json::json;
use tarrl_data::Catalog;

use tarrl_jobs::{Job, Spec, Stage};

const STAGE: Stage = Stage { kind: "data", version: 1 };

/// A job that loads the dataset `name` whole, so that a damaged one is found before anything is trained on it.
///
/// The digests of its files are part of the key, and through it of the key of every job that builds on it.
///
/// # Errors
/// Fails if there is no dataset of this name or its manifest is faulty.
pub fn job(catalog: &Catalog, name: &str) -> anyhow::Result<Job> {
    let manifest = catalog.manifest(name)?;
    let files: Vec<_> =
        manifest.files.iter().map(|file| json!({"name": file.name, "sha256": file.sha256})).collect();
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed: 0,
        config: json!({"name": name, "files": files}),
        inputs: vec![],
        seconds: 1e-5 * (manifest.train + manifest.test) as f64,
    };
    let (catalog, name) = (catalog.clone(), name.to_owned());
    Ok(Job::new(spec, move |context| {
        let splits = catalog.load(&name).with_context(|| format!("dataset {name}"))?;
        let (height, width, channels) = splits.train.shape();
        context.log(&format!("{} training and {} test images", splits.train.len(), splits.test.len()));
        Ok(json!({
            "train": splits.train.len(),
            "test": splits.test.len(),
            "shape": [height, width, channels],
            "per_class": {"train": splits.train.counts(), "test": splits.test.counts()},
        }))
    }))
}
