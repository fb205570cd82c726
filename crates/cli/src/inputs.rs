//! Inputs of a command: an encoder, what has to belong to it, and the outputs that must not replace it.

use std::path::Path;

use anyhow::{Context, bail};
use tarrl_data::Dataset;
use tarrl_encoders::{Encoder, checkpoint::load_encoder};
use tarrl_study::files::{cannot_write, hash, try_write};
use tarrl_tensor::{Device, Key};

use crate::stdout::note;

/// The encoder in a file.
pub(crate) struct EncoderFile<'a> {
    path: &'a Path,
    device: Device,
    /// The encoder.
    pub(crate) encoder: Encoder,
    /// The hash of the file.
    pub(crate) hash: String,
}

impl<'a> EncoderFile<'a> {
    /// Loads the encoder.
    ///
    /// # Errors
    /// Fails if the file cannot be read or holds no encoder.
    pub(crate) fn open(path: &'a Path, device: &Device) -> anyhow::Result<Self> {
        let encoder = load_encoder(path, device)?;
        Ok(EncoderFile { path, device: device.clone(), encoder, hash: hash(path)? })
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
        let (config, path) = (self.encoder.config(), self.path.display());
        let remedy = "take an encoder that was trained on such images, or another --dataset";
        if config.in_channels != c {
            bail!(
                "encoder {path} takes images of {} channels, but those of {name} have {c}; {remedy}",
                config.in_channels
            );
        }
        let side = config.side;
        if config.arch.needs_side() && [h, w] != [side; 2] {
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
        let (head, encoder, dim) = (path.display(), self.path.display(), self.encoder.dim());
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
