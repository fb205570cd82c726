//! Head stage: a linear head and nearest neighbors on frozen representations.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tarrl_bound::LinearHead;
use tarrl_encoders::checkpoint::{Metadata, Stored, Tensors, Values, load_tensors, save_tensors};
use tarrl_eval::{Diagnostics, Knn, ProbeConfig, diagnose, features, labels, linear_probe};
use tarrl_tensor::Key as Random;

use crate::context::{ENCODER, StudyContext};
use tarrl_jobs::files;
use tarrl_jobs::{Job, Key, Spec, Stage};

const STAGE: Stage = Stage { kind: "head", version: 3 };

/// The file with the head.
pub const HEAD: &str = "head.safetensors";

/// The output of a head job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HeadResult {
    /// The linear head for the classes of the dataset, trained on clean images.
    pub head: Weights,
    /// The chosen weight of its squared norm.
    pub l2: f64,
    /// Test images that twenty weighted neighbors classify correctly.
    pub knn_correct: usize,
    /// Test images.
    pub n: usize,
    /// How the representations of the test images are spread.
    pub diagnostics: Diagnostics,
}

/// A linear head as plain numbers.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Classes.
    pub k: usize,
    /// Features.
    pub d: usize,
    /// `(k, d)`, row-major.
    pub weight: Vec<f64>,
    /// `(k)`
    pub bias: Vec<f64>,
}

impl Weights {
    /// The numbers of `head`.
    pub fn of(head: &LinearHead) -> Self {
        let (weight, bias) = (head.weight().to_vec(), head.bias().to_vec());
        Self { k: head.classes(), d: head.features(), weight, bias }
    }

    /// The head.
    pub fn head(&self) -> LinearHead {
        LinearHead::new(self.k, self.d, self.weight.clone(), self.bias.clone())
    }
}

/// A job that fits the head of the encoder that `pretrain` leaves.
pub fn job(study: &Arc<StudyContext>, pretrain: Key, name: &str, seed: u64) -> Job {
    let spec = Spec {
        name: name.to_owned(),
        stage: STAGE,
        seed,
        config: json!({"probe": ProbeConfig::default(), "subset": study.profile.subset}),
        inputs: vec![pretrain],
        seconds: 4.0,
    };
    let study = study.clone();
    Job::new(spec, move |context| {
        let images = study.images()?;
        let encode = study.encode(context, 0)?;
        let train = features(&encode, &images.train, &study.device, BATCH);
        let test = features(&encode, &images.test, &study.device, BATCH);
        let (train_labels, test_labels) = (labels(&images.train.labels), labels(&images.test.labels));
        let key = Random::new(context.seed()).fold("probe");
        let probe =
            linear_probe(&train, &train_labels, images.train.classes.len(), &ProbeConfig::default(), key)?;
        context.stop().unwind();
        context.log(&format!("linear head: l2 {:.1e}, {} iterations", probe.l2, probe.iterations));
        let encoder = Some(files::hash(&context.input(0).folder.join(ENCODER))?);
        HeadFile { head: probe.head.clone(), encoder }.save(&context.output(HEAD))?;
        let neighbors = Knn::NEAR.predict(&train, &train_labels, &test)?;
        let output = HeadResult {
            head: Weights::of(&probe.head),
            l2: probe.l2,
            knn_correct: neighbors.iter().zip(&test_labels).filter(|(a, b)| a == b).count(),
            n: test_labels.len(),
            diagnostics: diagnose(&test)?,
        };
        serde_json::to_value(output).context("the head as JSON")
    })
}

/// A linear head in a file, and the encoder that it belongs to.
#[derive(Clone, Debug)]
pub struct HeadFile {
    /// The head.
    pub head: LinearHead,
    /// The hash of the encoder's file ([`files::hash`]); files of earlier versions have none.
    pub encoder: Option<String>,
}

/// The entry of the metadata with the hash of the encoder's file.
const ENCODER_HASH: &str = "encoder_blake3";

impl HeadFile {
    /// Writes the head: `weight` `(k, d)` and `bias` `(k)`, as PyTorch names and orders those of a linear layer.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let (head, k, d) = (&self.head, self.head.classes(), self.head.features());
        let stored = |shape: &[usize], values: &[f64]| Stored::new(shape, Values::F64(values.to_vec()));
        let tensors = Tensors::from([
            ("weight".to_owned(), stored(&[k, d], head.weight())),
            ("bias".to_owned(), stored(&[k], head.bias())),
        ]);
        let mut metadata = Metadata::from([("kind".to_owned(), "linear head".to_owned())]);
        metadata.extend(self.encoder.clone().map(|hash| (ENCODER_HASH.to_owned(), hash)));
        Ok(save_tensors(path, &tensors, &metadata)?)
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// Fails if the file cannot be read, is damaged, or holds no linear head for two classes or more.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let (tensors, mut metadata) = load_tensors(path)?;
        let found = |name: &str| match tensors.get(name).map(|stored| (stored.shape(), stored.values())) {
            Some((shape, Values::F64(values))) => Some((shape.to_vec(), values.clone())),
            _ => None,
        };
        match (found("weight"), found("bias")) {
            (Some((shape, weight)), Some((classes, bias)))
                if shape.len() == 2 && classes == shape[..1] && shape[0] > 1 && shape[1] > 0 =>
            {
                let head = LinearHead::new(shape[0], shape[1], weight, bias);
                Ok(HeadFile { head, encoder: metadata.remove(ENCODER_HASH) })
            }
            _ => anyhow::bail!(
                "{} holds no linear head for two classes or more (weight and bias in 64 bits); take `{HEAD}` of a \
                 head job, beside the encoder that it was trained on",
                path.display()
            ),
        }
    }
}

/// Images in memory at a time.
pub const BATCH: usize = 250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_with_the_hash_of_its_encoder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(HEAD);
        let head = LinearHead::new(2, 1, vec![1.0, -1.0], vec![0.0, 0.5]);
        for encoder in [Some("0123".to_owned()), None] {
            HeadFile { head: head.clone(), encoder: encoder.clone() }.save(&path).unwrap();
            let found = HeadFile::load(&path).unwrap();
            assert_eq!((found.head.weight(), found.encoder), (head.weight(), encoder));
        }
    }

    #[test]
    fn a_head_for_less_than_two_classes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(HEAD);
        for k in [0, 1] {
            let tensors = Tensors::from([
                ("weight".to_owned(), Stored::new(&[k, 3], Values::F64(vec![1.0; 3 * k]))),
                ("bias".to_owned(), Stored::new(&[k], Values::F64(vec![0.0; k]))),
            ]);
            save_tensors(&path, &tensors, &Metadata::new()).unwrap();
            let error = HeadFile::load(&path).unwrap_err().to_string();
            assert!(error.contains("head.safetensors") && error.contains("two classes"), "{error}");
        }
    }
}
