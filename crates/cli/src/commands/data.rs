//! `tarrl data`: lists, fetches, imports and verifies datasets.

#[cfg(any(test, feature = "download"))]
mod http;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
#[cfg(not(feature = "download"))]
use tarrl_data::Delivery;
use tarrl_data::{Catalog, Check, Error, Manifest, Source, SourceOptions, Verified};

use crate::stdout::outln;
use crate::workspace::workspace_root;

const EXAMPLES: &str = "\
Examples:
  tarrl data list                            every dataset, its size and whether it is here
  tarrl data verify                          compare all files that are here with their digests
  tarrl data fetch fashion-mnist             download, check, and only then put in place; a program with the feature
                                             `download`, which `cargo xtask data fetch` builds
  tarrl data import ~/Downloads/cifar10      take files that you have already
  tarrl data import ~/Downloads --as mnist   the same, from a folder with another name
  tarrl data import bloodmnist.npz --as blood   images without a manifest, of any format that --dataset takes

The default study needs none of this: its sample is part of the repository.";

/// Show, check, fetch and import datasets
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.", arg_required_else_help = true)]
pub(crate) struct Data {
    /// Folder for datasets that were fetched or imported
    #[arg(long, global = true, value_name = "DIR", default_value_os_t = workspace_root().join("data"), hide_default_value = true)]
    data: PathBuf,

    /// Folder with your own dataset manifests, instead of this project's
    #[arg(long, global = true, value_name = "DIR", default_value_os_t = workspace_root().join("datasets"), hide_default_value = true)]
    datasets: PathBuf,

    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List every dataset with its size and whether it is here
    List,
    /// Compare the files with the digests of the manifests; a missing or different file is an error
    Verify {
        /// Names of datasets; without any, all that are here
        names: Vec<String>,
    },
    /// Download what is missing of a dataset (with the feature `download`; `cargo xtask data fetch` has it)
    Fetch {
        /// Name of the dataset, as `list` shows it
        name: String,
    },
    /// Check files that you have already and copy them into the data folder
    Import {
        /// The file, or the folder with the files
        path: PathBuf,
        /// Name of the dataset, if it is not the name of the folder
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
    },
}

impl Data {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let catalog = Catalog::new(&self.datasets, &self.data);
        match &self.action {
            Action::List => list(&catalog),
            Action::Verify { names } => verify(&catalog, names),
            Action::Fetch { name } => fetch(&catalog, name),
            Action::Import { path, name } => import(&catalog, path, name.as_deref()),
        }
    }
}

fn list(catalog: &Catalog) -> anyhow::Result<()> {
    for manifest in catalog.list()? {
        let (height, width, channels) = (manifest.shape[0], manifest.shape[1], manifest.shape[2]);
        let bytes: u64 = manifest.files.iter().map(|file| file.size).sum();
        outln!("{}  {}", manifest.name, manifest.title);
        outln!(
            "    {} + {} images of {height}×{width}×{channels}, {} classes, {:.1} MB, license: {}",
            manifest.train,
            manifest.test,
            manifest.classes.len(),
            bytes as f64 / 1e6,
            manifest.license,
        );
        outln!("    {}", presence(catalog, &manifest));
    }
    Ok(())
}

fn presence(catalog: &Catalog, manifest: &Manifest) -> String {
    match catalog.verify(&manifest.name) {
        Ok(files) => {
            files.first().map_or(String::new(), |file| format!("here: {}", parent(&file.path).display()))
        }
        Err(Error::Missing { .. }) => {
            format!("not here; get it with `cargo xtask data fetch {}`", manifest.name)
        }
        Err(error) => format!("not usable: {error}"),
    }
}

/// Goes through all of them before it fails, so that one run shows everything that is wrong.
fn verify(catalog: &Catalog, names: &[String]) -> anyhow::Result<()> {
    let all: Vec<String> = catalog.list()?.into_iter().map(|manifest| manifest.name).collect();
    let mut wrong = 0;
    for name in if names.is_empty() { &all } else { names } {
        match catalog.verify(name) {
            Ok(files) => report(name, &files)?,
            Err(Error::Missing { .. }) if names.is_empty() => outln!("{name}: not here"),
            Err(error) => {
                wrong += 1;
                outln!("{name}: {error}");
            }
        }
    }
    if wrong > 0 { bail!("{wrong} of the datasets cannot be used as they are; see above") } else { Ok(()) }
}

fn fetch(catalog: &Catalog, name: &str) -> anyhow::Result<()> {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    bar.set_style(
        ProgressStyle::with_template("{msg} {bar:32} {bytes}/{total_bytes}  {eta} left")
            .expect("the template is valid"),
    );
    let files = catalog.fetch(name, &mut ask, &mut |progress| {
        bar.set_message(progress.file.clone());
        bar.set_length(progress.total.unwrap_or(progress.received));
        bar.set_position(progress.received);
    });
    bar.finish_and_clear();
    match files {
        Err(error @ Error::Download { .. }) if !cfg!(feature = "download") => {
            Err(anyhow::Error::from(error).context(format!(
                "this program was built without downloads; `cargo xtask data fetch {name}` builds one that has them, and \
                 `cargo install --path crates/cli --features download` installs it"
            )))
        }
        files => report(name, &files?),
    }
}

#[cfg(feature = "download")]
use http::ask;

#[cfg(not(feature = "download"))]
fn ask(_: &str) -> Result<Delivery, String> {
    Err("not asked".to_owned())
}

fn import(catalog: &Catalog, path: &Path, name: Option<&str>) -> anyhow::Result<()> {
    let place = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
    let name = match name {
        Some(name) => name.to_owned(),
        None => named_after(&place, &catalog.list()?)?,
    };
    if catalog.list()?.iter().any(|manifest| manifest.name == name) {
        return report(&name, &catalog.import(&name, &place)?);
    }
    let source = Source::open(&place.to_string_lossy(), catalog, SourceOptions::default())?;
    let folder = source.import(catalog, &name)?;
    outln!("{name}: {} ({}, splits {})", folder.display(), source.format(), source.splits().join(", "));
    Ok(())
}

/// The dataset that a folder, or the folder of a file, is named after.
fn named_after(place: &Path, manifests: &[Manifest]) -> anyhow::Result<String> {
    let folder = if place.is_dir() { place } else { parent(place) };
    let names: Vec<&str> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
    let found = names.iter().find(|name| folder.file_name().is_some_and(|folder| folder == **name));
    let unnamed = || {
        format!(
            "{} has no dataset's name; say which it is with --as, one of {}",
            folder.display(),
            names.join(", ")
        )
    };
    found.map(|name| (*name).to_owned()).with_context(unnamed)
}

fn report(name: &str, files: &[Verified]) -> anyhow::Result<()> {
    for file in files {
        let how = match file.check {
            Check::Digest => "digest agrees",
            Check::Structure => "structure agrees; no digest is known of unpacked files",
        };
        outln!("{name}: {} ({how})", file.path.display());
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
