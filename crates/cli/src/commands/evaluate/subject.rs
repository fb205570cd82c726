//! Subject of an evaluation: encoder, head, images, and what was read of them.

use std::cell::OnceCell;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tarrl_attacks::{Norm, Threat};
use tarrl_bound::LinearHead;
use tarrl_data::{Dataset, Source};
use tarrl_eval::{dataset_pixels, features, labels};
use tarrl_interop::Model;
use tarrl_jobs::files::hash;
use tarrl_study::stages::head::BATCH;
use tarrl_tensor::{Cpu, Device, Key, Tensor};

use super::arguments::Evaluate;
use crate::inputs::{EncoderFile, balanced, batch_for, check_classes, check_memory, linear_head};

/// Images that are attacked without `--images`.
const IMAGES: usize = 200;

/// An encoder and the images that it is evaluated on.
pub(super) struct Subject {
    pub(super) model: Model,
    /// The hash of its file.
    pub(super) hash: String,
    /// The file's name.
    pub(super) name: String,
    pub(super) device: Device,
    /// A head from a file, with its hash.
    pub(super) head: Option<(LinearHead, String)>,
    /// What heads are fitted on.
    pub(super) train: Option<Dataset>,
    /// All test images.
    pub(super) test: Dataset,
    /// What the test images are called.
    pub(super) dataset: String,
    /// The places of the attacked images in the split, rising.
    pub(super) indices: Vec<usize>,
    /// Those of the certified images among the attacked ones, rising.
    pub(super) certified: Vec<usize>,
    pub(super) norm: Norm,
    /// Radii, rising.
    pub(super) radii: Vec<f64>,
    pub(super) seed: u64,
    pub(super) batch: usize,
    /// What was read and how, as name and value.
    pub(super) facts: Vec<(String, String)>,
    train_features: OnceCell<Tensor>,
    /// What every job depends on.
    identity: Value,
}

impl Subject {
    /// Reads everything and refuses what does not fit together.
    pub(super) fn open(options: &Evaluate, radii: Vec<f64>) -> anyhow::Result<Self> {
        let device = Cpu { threads: options.threads.map_or(0, usize::from), ..Cpu::default() }.open();
        let source = options.from.open(&options.dataset)?;
        let training = match &options.train_dataset {
            Some(dataset) => options.from.open_training(dataset)?,
            None => source.clone(),
        };
        let mut inputs: Vec<PathBuf> = vec![options.model.clone(), options.from.manifests().to_owned()];
        inputs.extend(options.head.clone());
        inputs.extend(source.places().into_iter().chain(training.places()));
        options.check_outputs(&inputs)?;
        let file = EncoderFile::open(&options.model, &options.reading, &device)?;
        let head = match &options.head {
            Some(path) => {
                let (head, named) = linear_head(path)?;
                file.check_head(path, head.features(), named.as_deref())?;
                Some((head, hash(path)?))
            }
            None => None,
        };
        let mut test = options.from.read(&source)?;
        file.check_images(&options.dataset, test.shape().into())?;
        let train = training_images(options, &training, head.is_some())?;
        if let (Some((head, _)), Some(path)) = (&head, &options.head) {
            check_classes(head.classes(), path, &test, &source)?;
            widen(&mut test, head.classes());
        }
        if let Some(train) = &train {
            check_alike(train, &test, &training, &source)?;
            if head.is_none() {
                widen(&mut test, train.classes.len());
            }
        }
        let shape: [usize; 3] = test.shape().into();
        let usual = IMAGES.max(test.classes.len()).min(test.len());
        let n = options.images.map_or(usual, |images| images as usize);
        if n < 2 || n > test.len() {
            bail!("--images {n}: {} has {} test images; take 2 to as many", source.name(), test.len());
        }
        check_memory(n, shape, "--images")?;
        let indices = if n == test.len() {
            (0..n).collect()
        } else {
            let key = Key::new(options.seed).fold("images");
            // Without names there may be classes without images.
            if test.counts().contains(&0) {
                spread(test.len(), n)
            } else {
                balanced(&test, n, "--images", key)?
            }
        };
        let certified = spread(indices.len(), (options.samples as usize).max(2).min(indices.len()));
        let batch = options.batch.map_or_else(|| batch_for(BATCH, shape), |batch| batch as usize);
        let identity = json!({
            "encoder": file.hash, "reading": options.reading.about(), "test": digest(&test), "norm": options.norm,
            "head": head.as_ref().map(|(_, hash)| hash),
            "train": if head.is_none() { train.as_ref().map(digest) } else { None },
        });
        let facts = facts(options, &file, &source, &training, (&train, &test, indices.len()));
        Ok(Subject {
            name: stem(&options.model),
            hash: file.hash.clone(),
            model: file.model,
            device,
            head,
            train,
            test,
            dataset: source.name().to_owned(),
            indices,
            certified,
            norm: options.norm,
            radii,
            seed: options.seed,
            batch,
            facts,
            train_features: OnceCell::new(),
            identity,
        })
    }

    /// What determines the result of a job beside its own settings.
    pub(super) fn config(&self, own: Value) -> Value {
        json!({"subject": self.identity, "own": own})
    }

    /// Images `(n, h, w, c)` to representations `(n, d)`.
    pub(super) fn encode(&self, x: &Tensor) -> Tensor {
        self.model.forward(x)
    }

    /// Representations of the training images, computed once.
    pub(super) fn train_features(&self) -> Option<&Tensor> {
        let train = self.train.as_ref()?;
        Some(
            self.train_features
                .get_or_init(|| features(&|x| self.encode(x), train, &self.device, self.batch)),
        )
    }

    /// The images at places of the split, and their labels.
    pub(super) fn images(&self, places: &[usize]) -> (Tensor, Vec<u32>) {
        let data = self.test.subset(places);
        (dataset_pixels(&data, &self.device), labels(&data.labels))
    }

    /// The ball of a radius.
    pub(super) fn threat(&self, epsilon: f64) -> Threat {
        Threat::new(self.norm, epsilon)
    }
}

fn stem(path: &std::path::Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The images that heads are fitted on; none where a head is given and the dataset has no training images.
fn training_images(options: &Evaluate, training: &Source, has_head: bool) -> anyhow::Result<Option<Dataset>> {
    let split = match (&options.train_split, training.train_split()) {
        (Some(split), _) => split.as_str(),
        (None, Ok(split)) => split,
        (None, Err(_)) if has_head && options.train_dataset.is_none() => return Ok(None),
        (None, Err(error)) => {
            return Err(error).context(
                "a head is fitted on training images; name them with --train-split or --train-dataset, or give a --head",
            );
        }
    };
    Ok(Some(training.read(split).with_context(|| format!("dataset {}", training.name()))?))
}

/// Gives data whose classes have no names as many as a head tells apart.
fn widen(data: &mut Dataset, classes: usize) {
    for class in data.classes.len()..classes {
        data.classes.push(class.to_string());
    }
}

fn check_alike(train: &Dataset, test: &Dataset, training: &Source, source: &Source) -> anyhow::Result<()> {
    if train.shape() != test.shape() {
        bail!(
            "the images of {} are {:?}, those of {} {:?}; bring both to one size with --resize and --crop",
            training.name(),
            train.shape(),
            source.name(),
            test.shape()
        );
    }
    let named = training.has_class_names() && source.has_class_names();
    if (named && train.classes != test.classes) || test.classes.len() > train.classes.len() {
        bail!(
            "{} has the classes {}, and {} {}; take training images of the same classes",
            training.name(),
            train.classes.join(", "),
            source.name(),
            test.classes.join(", ")
        );
    }
    Ok(())
}

/// `count` places among `n`, evenly spread.
fn spread(n: usize, count: usize) -> Vec<usize> {
    (0..count).map(|i| i * n / count).collect()
}

fn digest(data: &Dataset) -> String {
    let mut hasher = blake3::Hasher::new();
    for row in data.images.outer_iter() {
        let bytes: Vec<u8> = row.iter().copied().collect();
        hasher.update(&bytes);
    }
    let (h, w, c) = data.shape();
    let sides: Vec<u8> = [h, w, c, data.classes.len()].iter().flat_map(|side| side.to_le_bytes()).collect();
    hasher.update(&sides);
    let numbers: Vec<u8> = data.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
    hasher.update(&numbers);
    hasher.finalize().to_hex().to_string()
}

fn facts(
    options: &Evaluate,
    file: &EncoderFile<'_>,
    source: &Source,
    training: &Source,
    (train, test, attacked): (&Option<Dataset>, &Dataset, usize),
) -> Vec<(String, String)> {
    let (h, w, c) = test.shape();
    let how: String = options.from.about().iter().map(|(name, value)| format!(", {name} {value}")).collect();
    let side = file.model.side().map_or("any side".to_owned(), |side| format!("side {side}"));
    let channels = match file.model.channels() {
        1 => "1 channel".to_owned(),
        channels => format!("{channels} channels"),
    };
    let mut facts = vec![
        ("encoder".to_owned(), options.model.display().to_string()),
        (
            "encoder reads".to_owned(),
            format!("images of {channels}, {side}, to {} features", file.model.dim()),
        ),
        ("encoder BLAKE3".to_owned(), file.hash.clone()),
        ("read as".to_owned(), file.model.summary().join("; ")),
        (
            "test images".to_owned(),
            format!(
                "{} ({}){how}: {} of {h}×{w}×{c}, {} classes; {attacked} are attacked",
                options.dataset,
                source.format(),
                test.len(),
                test.classes.len()
            ),
        ),
    ];
    if let Some(train) = train {
        facts.push((
            "training images".to_owned(),
            format!("{} ({}): {}", training.name(), training.format(), train.len()),
        ));
    }
    let head = options
        .head
        .as_ref()
        .map_or("fitted on the training images".to_owned(), |path| path.display().to_string());
    facts.push(("head".to_owned(), head));
    facts
}
