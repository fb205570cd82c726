//! Published figures of other papers, each with its source: `published.toml` beside the methods and profiles.

use std::path::Path;

use anyhow::bail;
use serde::Deserialize;
use tarrl_encoders::Arch;
use tarrl_train::config::read_toml;

use crate::pixels::Pixels;

/// What others report of one method on one dataset, in one source.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PublishedFigures {
    /// Name of the method's file, without the ending.
    pub method: String,
    /// Name of the dataset.
    pub dataset: String,
    /// The encoder.
    pub encoder: Arch,
    /// How the head was trained.
    pub protocol: Protocol,
    /// Radius ε of the l∞ ball, in pixels.
    pub epsilon: Pixels,
    /// Accuracy on clean images, in per cent.
    pub clean: Option<f64>,
    /// Accuracy under PGD-20.
    pub pgd: Option<f64>,
    /// Accuracy under the standard version of AutoAttack.
    pub autoattack: Option<f64>,
    /// Where all of this stands.
    pub source: String,
}

/// How a head was trained.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Linear, on clean images, the encoder frozen.
    Linear,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    figures: Vec<PublishedFigures>,
}

/// The figures in `<folder>/published.toml`; none if there is no such file.
///
/// # Errors
/// If the file is faulty: an unknown key, an accuracy outside [0, 100], no figure or no source, or two entries that would
/// stand in one place.
pub fn read(folder: &Path) -> anyhow::Result<Vec<PublishedFigures>> {
    let path = folder.join("published.toml");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let File { figures } = read_toml(&path)?;
    for (number, entry) in figures.iter().enumerate() {
        let fault = |what: String| {
            Err(anyhow::anyhow!("{}: {} on {}: {what}", path.display(), entry.method, entry.dataset))
        };
        let values = [entry.clean, entry.pgd, entry.autoattack];
        if values.iter().all(Option::is_none) {
            return fault("no figure; give clean, pgd or autoattack, or remove the entry".into());
        }
        if let Some(wrong) = values.into_iter().flatten().find(|value| !(0.0..=100.0).contains(value)) {
            return fault(format!("{wrong} is no accuracy in per cent"));
        }
        if entry.source.trim().is_empty() {
            return fault("`source` is empty; a figure without one cannot be traced".into());
        }
        if figures[..number].iter().any(|other| other.place() == entry.place()) {
            return fault(
                "a second entry for the same place; a table has one cell for them, keep one".into(),
            );
        }
    }
    Ok(figures)
}

/// Fails if an entry names a method that `methods` lacks.
///
/// # Errors
/// With the first such name.
pub fn check_methods(figures: &[PublishedFigures], methods: &[String]) -> anyhow::Result<()> {
    match figures.iter().find(|entry| !methods.contains(&entry.method)) {
        Some(entry) => bail!(
            "published.toml names the method `{0}`, but there is no experiments/methods/{0}.toml",
            entry.method
        ),
        None => Ok(()),
    }
}

impl PublishedFigures {
    fn place(&self) -> (&str, &str, Arch, f64) {
        (&self.method, &self.dataset, self.encoder, self.epsilon.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[[figures]]\nmethod = \"acl\"\ndataset = \"cifar10\"\nencoder = \"resnet18-cifar\"\n\
        protocol = \"linear\"\nepsilon = \"8/255\"\nclean = 78.0\nautoattack = 39.0\nsource = \"Somebody 2020, table 1\"\n";

    fn parsed(text: &str) -> Result<Vec<PublishedFigures>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("published.toml"), text).unwrap();
        read(folder.path()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn an_entry_is_read_and_no_file_is_no_entry() {
        let figures = parsed(GOOD).unwrap();
        assert_eq!((figures[0].clean, figures[0].pgd), (Some(78.0), None));
        assert_eq!(figures[0].epsilon.value(), 8.0 / 255.0);
        assert_eq!(read(tempfile::tempdir().unwrap().path()).unwrap(), []);
    }

    #[test]
    fn a_slip_is_answered_with_its_place() {
        for (from, to, expected) in [
            ("clean", "claen", "published.toml:7: unknown key `claen`; did you mean `clean`?"),
            ("resnet18-cifar", "resnet-18", "unknown value `resnet-18`"),
            ("78.0", "780.0", "acl on cifar10: 780 is no accuracy"),
            ("78.0", "-1.0", "-1 is no accuracy"),
            ("Somebody 2020, table 1", " ", "`source` is empty"),
            ("clean = 78.0\nautoattack = 39.0\n", "", "no figure"),
            ("linear", "liner", "unknown value `liner`; did you mean `linear`?"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = parsed(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(expected), "{from}: {error}");
        }
        let error = parsed(&format!("{GOOD}{GOOD}")).unwrap_err();
        assert!(error.contains("a second entry for the same place"), "{error}");
        let error = check_methods(&parsed(GOOD).unwrap(), &["tarr".into()]).unwrap_err().to_string();
        assert!(error.contains("names the method `acl`"), "{error}");
    }
}
