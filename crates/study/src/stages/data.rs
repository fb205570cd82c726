//! Data stage, the root of every study: checks that the dataset is there and is what its manifest says.

use anyhow::Context;
use serde_json::json;
use tarrl_data::{Catalog, Source, SourceOptions};

use tarrl_jobs::{Job, Spec, Stage};

const STAGE: Stage = Stage { kind: "data", version: 1 };

/// A job that loads the dataset `name` whole, one with a manifest or files without, so that a damaged one is found before
/// anything is trained on it.
///
/// The digests of its files are part of the key, and through it of the key of every job that builds on it.
///
/// # Errors
/// Fails if there is no dataset of this name, its manifest is faulty, or files without one cannot be read.
pub fn job(catalog: &Catalog, name: &str) -> anyhow::Result<Job> {
    let source = Source::open(name, catalog, SourceOptions::default())?;
    let manifest = source.manifest()?;
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
    let name = name.to_owned();
    Ok(Job::new(spec, move |context| {
        let splits = source.load().with_context(|| format!("dataset {name}"))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_data::{npy, write_zip};

    /// The key follows the content of files without a manifest.
    #[test]
    fn files_without_a_manifest_are_a_dataset() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::new(folder.path().join("manifests"), folder.path().join("data"));
        std::fs::create_dir(folder.path().join("manifests")).unwrap();
        let path = folder.path().join("images.npz");
        let write = |level: u8| {
            let (images, labels) = (npy::encode_u8(&[2, 2, 2], &[level; 8]), npy::encode_u8(&[2], &[0, 1]));
            let names = ["train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy"];
            let members = [&images, &labels, &images, &labels];
            let members: Vec<(&str, &[u8])> =
                names.into_iter().zip(members.map(|bytes| &bytes[..])).collect();
            let mut bytes = Vec::new();
            write_zip(&mut bytes, &members).unwrap();
            std::fs::write(&path, bytes).unwrap();
            job(&catalog, path.to_str().unwrap()).unwrap().key()
        };
        let first = write(1);
        assert_ne!(write(2), first);
        assert_eq!(write(1), first);
        let error = job(&catalog, "nothing").err().unwrap().to_string();
        assert!(error.contains("neither a manifest of this name"), "{error}");
    }
}
