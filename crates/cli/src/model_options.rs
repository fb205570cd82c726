//! Flags of every command that reads a model of another program: what its file leaves open.

use clap::Args;
use tarrl_interop::{Normalization, ReadOptions};

use crate::limits;

/// What a model file of another program does not say
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Models of other programs")]
pub(crate) struct ModelOptions {
    /// State dicts: the name map, by name or as a TOML file [default: the one that fits]
    #[arg(long, value_name = "NAME|FILE")]
    map: Option<String>,

    /// State dicts: the set of batch norms, where there are several [default: the map's, which is 1 for attacked images]
    #[arg(long, value_name = "N", value_parser = limits::whole::<usize>("--branch"))]
    branch: Option<usize>,

    /// State dicts: the network, by the prefix of its names, where there are several [default: the map's]
    #[arg(long, value_name = "PREFIX")]
    network: Option<String>,

    /// State dicts: the key of the state dict in the file, where there are several
    #[arg(long, value_name = "KEY")]
    container: Option<String>,

    /// State dicts: the beginning of names that are no part of the encoder; may be given several times
    #[arg(long, value_name = "PREFIX")]
    ignore: Vec<String>,

    /// State dicts: padding of a 3×3 stem, 1 or 2 [default: the map's]
    #[arg(long, value_name = "N", value_parser = limits::whole::<usize>("--stem-padding"))]
    stem_padding: Option<usize>,

    /// State dicts: heads of attention of a vision transformer [default: one for 64 dimensions]
    #[arg(long, value_name = "N", value_parser = limits::whole::<usize>("--heads"))]
    heads: Option<usize>,

    /// The side of images in pixels, where the file does not fix it
    #[arg(long, value_name = "PIXELS", value_parser = limits::whole::<usize>("--side"))]
    side: Option<usize>,

    /// What is done to pixels before the network: none, imagenet, cifar10, or MEAN,…/STD,… [default: the file's, then the
    /// map's]
    #[arg(long, value_name = "CONSTANTS")]
    normalization: Option<Normalization>,
}

impl ModelOptions {
    /// As options of the reader.
    pub(crate) fn read(&self) -> ReadOptions {
        ReadOptions {
            map: self.map.clone(),
            branch: self.branch,
            both_branches: false,
            network: self.network.clone(),
            container: self.container.clone(),
            ignore: self.ignore.clone(),
            stem_padding: self.stem_padding,
            heads: self.heads,
            side: self.side,
            normalization: self.normalization.clone(),
        }
    }

    /// Everything that changes what a file means, or nothing.
    pub(crate) fn about(&self) -> Option<String> {
        let options = self.read();
        (options != ReadOptions::default()).then(|| format!("{options:?}"))
    }
}
