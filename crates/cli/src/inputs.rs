//! Inputs of a command: an encoder, what has to belong to it, and the outputs that must not replace it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};
use tarrl_bound::LinearHead;
use tarrl_data::{Catalog, Dataset, Resizing, Source, SourceOptions};
use tarrl_encoders::{Encoder, checkpoint::load_encoder};
use tarrl_interop::{Model, ReadOptions, import_encoder};
use tarrl_jobs::files::{cannot_write, hash, try_write};
use tarrl_study::heads::AnyHead;
use tarrl_tensor::{Device, Key};

use crate::limits;
use crate::model_options::ModelOptions;
use crate::stdout::note;
use crate::workspace::workspace_root;

/// Where images are, and how they are read.
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageOptions {
    /// The split whose images are taken, such as test, val or all [default: test, or the only one]
    #[arg(long, value_name = "SPLIT")]
    pub(crate) split: Option<String>,

    /// The severity of a corruption, 1 to 5, of arrays that hold all five, as CIFAR-10-C
    #[arg(long, value_name = "S", value_parser = limits::whole::<u32>("--severity"))]
    severity: Option<u32>,

    /// Resize images so that the shorter side has so many pixels, averaging as torchvision does
    #[arg(long, value_name = "PIXELS", value_parser = limits::whole::<u32>("--resize"))]
    resize: Option<u32>,

    /// Cut a square of so many pixels from the middle, after any resizing
    #[arg(long, value_name = "PIXELS", value_parser = limits::whole::<u32>("--crop"))]
    crop: Option<u32>,

    /// Folder for datasets that were fetched or imported
    #[arg(long, value_name = "DIR", default_value_os_t = workspace_root().join("data"), hide_default_value = true)]
    data: PathBuf,

    /// Folder with your own dataset manifests, instead of this project's
    #[arg(long, value_name = "DIR", default_value_os_t = workspace_root().join("datasets"), hide_default_value = true)]
    datasets: PathBuf,
}

impl ImageOptions {
    /// The dataset of this name, or in the file or folder of this name.
    ///
    /// # Errors
    /// Fails if there is none, or it is of no known format.
    pub(crate) fn open(&self, dataset: &str) -> anyhow::Result<Source> {
        let options = SourceOptions { severity: self.severity.map(|s| s as u8), resizing: self.resizing() };
        let catalog = Catalog::new(&self.datasets, &self.data);
        Source::open(dataset, &catalog, options).with_context(|| format!("dataset {dataset}"))
    }

    /// The same for the images of another dataset, which have no severity.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_training(&self, dataset: &str) -> anyhow::Result<Source> {
        ImageOptions { severity: None, ..self.clone() }.open(dataset)
    }

    /// The images of the split that is reported on.
    ///
    /// # Errors
    /// Fails if there is no such split, or its files are missing or damaged.
    pub(crate) fn read(&self, source: &Source) -> anyhow::Result<Dataset> {
        let name = source.name();
        let split = match &self.split {
            Some(split) => split,
            None => source.test_split().with_context(|| "choose one with --split")?,
        };
        source.read(split).with_context(|| format!("dataset {name}"))
    }

    /// What determines which images are taken, by name; nothing of what was not asked for.
    pub(crate) fn about(&self) -> Vec<(String, Value)> {
        let numbers = [("severity", self.severity), ("resize", self.resize), ("crop", self.crop)];
        let numbers = numbers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
        let split = self.split.iter().map(|split| ("split".to_owned(), json!(split)));
        split.chain(numbers).collect()
    }

    fn resizing(&self) -> Resizing {
        Resizing { shorter_side: self.resize, crop: self.crop }
    }

    /// The folder of manifests, which no output may replace.
    pub(crate) fn manifests(&self) -> &Path {
        &self.datasets
    }
}

/// Checks that a head tells the classes of the data apart. Classes without names may be more than the largest label says.
///
/// # Errors
/// Fails if it tells apart another number.
pub(crate) fn check_classes(head: usize, path: &Path, data: &Dataset, source: &Source) -> anyhow::Result<()> {
    let classes = data.classes.len();
    let fits = if source.has_class_names() { head == classes } else { head >= classes };
    if !fits {
        bail!(
            "the head {} tells {head} classes apart, but {} has {classes}; take the head that was trained on it",
            path.display(),
            source.name()
        );
    }
    Ok(())
}

/// Images in memory at a time: `usual` of up to 32 × 32 pixels, and fewer larger ones.
pub(crate) fn batch_for(usual: usize, [h, w, _]: [usize; 3]) -> usize {
    (usual * 1024 / (h * w).max(1024)).max(1)
}

/// Most values of images that are held as numbers of 32 bits, with their perturbed forms and gradients beside them.
const MOST_VALUES: usize = 1 << 29;

/// Checks, before any work, that `n` images of a shape fit into memory; `option` is what asks for fewer.
///
/// # Errors
/// Fails if they do not.
pub(crate) fn check_memory(n: usize, shape: [usize; 3], option: &str) -> anyhow::Result<()> {
    let values: usize = shape.iter().product();
    if n.saturating_mul(values) > MOST_VALUES {
        let [h, w, c] = shape;
        bail!(
            "{n} images of {h}×{w}×{c} are more than {MOST_VALUES} values, the most that are held at a time; take at most {} \
             with {option}, or smaller ones with --resize and --crop",
            MOST_VALUES / values
        );
    }
    Ok(())
}

/// The encoder in a file.
pub(crate) struct EncoderFile<'a> {
    path: &'a Path,
    device: Device,
    /// The encoder.
    pub(crate) model: Model,
    /// The hash of the file, and of files beside it that hold its tensors.
    pub(crate) hash: String,
    options: ReadOptions,
}

impl<'a> EncoderFile<'a> {
    /// Loads the encoder.
    ///
    /// # Errors
    /// Fails if the file cannot be read or holds no encoder.
    pub(crate) fn open(path: &'a Path, options: &ModelOptions, device: &Device) -> anyhow::Result<Self> {
        let options = options.read();
        let model = Model::open(path, &options, device)?;
        let mut content = hash(path)?;
        if !model.files().is_empty() {
            // Other weights beside the same graph are another encoder.
            let files = model.files().iter().map(|file| hash(file)).collect::<Result<Vec<_>, _>>()?;
            content = blake3::hash(format!("{content} {}", files.join(" ")).as_bytes()).to_hex().to_string();
        }
        Ok(EncoderFile { path, device: device.clone(), model, hash: content, options })
    }

    /// Says how the file of another program was understood.
    pub(crate) fn announce(&self) {
        if !self.model.is_own() {
            self.model.summary().iter().for_each(|line| note!("{line}"));
        }
    }

    /// The encoder with its parameters, both sets of batch norms if it is a checkpoint of this program that has two.
    ///
    /// # Errors
    /// Fails if the file is no state dict.
    pub(crate) fn encoder(&self) -> anyhow::Result<Encoder> {
        Ok(match self.model.is_own() {
            true => load_encoder(self.path, &self.device)?,
            false => import_encoder(self.path, &self.options, &self.device)?.encoder,
        })
    }

    /// The device of its parameters.
    pub(crate) fn device(&self) -> Device {
        self.device.clone()
    }

    /// Checks that the encoder takes images `(h, w, c)` of the dataset `name`.
    ///
    /// # Errors
    /// Fails if it is made for other channels or another side.
    pub(crate) fn check_images(&self, name: &str, [h, w, c]: [usize; 3]) -> anyhow::Result<()> {
        let path = self.path.display();
        let remedy = "take an encoder that was trained on such images, or another --dataset";
        let channels = self.model.channels();
        if channels != c {
            bail!(
                "encoder {path} takes images of {channels} channels, but those of {name} have {c}; {remedy}"
            );
        }
        if let Some(side) = self.model.side().filter(|&side| [h, w] != [side; 2]) {
            bail!(
                "encoder {path} takes images of {side} × {side}, but those of {name} have {h} × {w}; {remedy}"
            );
        }
        Ok(())
    }

    /// Checks that the head in the file `path` belongs to this encoder: it takes `features`, and `named` is the hash of
    /// its encoder. A head that names no encoder is accepted with a warning.
    ///
    /// # Errors
    /// Fails if the head is of another encoder.
    pub(crate) fn check_head(&self, path: &Path, features: usize, named: Option<&str>) -> anyhow::Result<()> {
        let (head, encoder, dim) = (path.display(), self.path.display(), self.model.dim());
        if features != dim {
            bail!(
                "head {head} takes {features} features, but encoder {encoder} gives {dim}; take the head that was \
                 trained on it"
            );
        }
        match named {
            Some(named) if named != self.hash => bail!(
                "head {head} was trained on another encoder than {encoder}: it names the file with BLAKE3 {named}; take \
                 files that belong together"
            ),
            Some(_) => {}
            None => note!(
                "warning: head {head} does not say which encoder it was trained on; it is taken as one of {encoder}"
            ),
        }
        Ok(())
    }
}

/// The places of `n` images of `data`, as many of each class; `option` is what asks for them.
///
/// # Errors
/// Fails if there are too few images, or fewer are asked for than there are classes.
pub(crate) fn balanced(data: &Dataset, n: usize, option: &str, key: Key) -> anyhow::Result<Vec<usize>> {
    let classes = data.classes.len();
    if n < classes || n > data.len() {
        bail!(
            "{option} {n}: {} has {} test images of {classes} classes; take at least one of each",
            data.name,
            data.len()
        );
    }
    data.balanced_indices(n / classes, key).with_context(|| format!("{option} {n}"))
}

/// The linear head in a file, JSON or what the study writes, with the hash of its encoder if it names one.
///
/// # Errors
/// If the file cannot be read, or holds no linear head.
pub(crate) fn linear_head(path: &Path) -> anyhow::Result<(LinearHead, Option<String>)> {
    match AnyHead::read(path)? {
        (AnyHead::Linear(head), encoder) => Ok((head, encoder)),
        _ => bail!("{} is no linear head; `tarrl bound report` takes other kinds", path.display()),
    }
}

/// Checks, before any work, that a file can be written and is none of the inputs, which are files, or folders with all that
/// is in them; `option` is what names it.
///
/// # Errors
/// Fails if it cannot be written, or is an input.
pub(crate) fn check_output(path: &Path, option: &str, inputs: &[&Path]) -> anyhow::Result<()> {
    let is = |input: &&&Path| matches!((path.canonicalize(), input.canonicalize()), (Ok(a), Ok(b)) if a.starts_with(&b));
    if inputs.iter().any(|input| is(&input)) {
        bail!(
            "{} is an input of this command and would be replaced; choose another file with {option}",
            path.display()
        );
    }
    try_write(path).map_err(|error| cannot_write(path, option, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_images_are_held_in_smaller_numbers() {
        assert_eq!(
            [[28, 28, 1], [32, 32, 3], [96, 96, 3], [224, 224, 3], [4096, 4096, 3]]
                .map(|s| batch_for(256, s)),
            [256, 256, 28, 5, 1]
        );
        assert!(check_memory(3000, [224, 224, 3], "--images").is_ok());
        let error = check_memory(10_000, [224, 224, 3], "--images").unwrap_err().to_string();
        assert!(error.contains("take at most 3566 with --images"), "{error}");
    }

    #[test]
    fn an_output_that_is_an_input_is_refused_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("input");
        std::fs::write(&input, "input").unwrap();
        let mut names = vec![folder.path().join("./input")];
        #[cfg(unix)]
        {
            let link = folder.path().join("link");
            std::os::unix::fs::symlink(&input, &link).unwrap();
            names.push(link);
        }
        for name in names {
            let error = check_output(&name, "--out FILE", &[&input]).unwrap_err().to_string();
            assert!(error.contains("is an input") && error.contains("--out FILE"), "{error}");
        }
        check_output(&folder.path().join("other"), "--out FILE", &[&input]).unwrap();
        let error = check_output(&input, "--out FILE", &[folder.path()]).unwrap_err().to_string();
        assert!(error.contains("is an input"), "a file of a folder that is read: {error}");
        check_output(&folder.path().join("new"), "--out FILE", &[folder.path()]).unwrap();
    }
}
