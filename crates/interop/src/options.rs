//! What a model file does not say, and the reader of it may.

/// How a model file is read, where the file leaves a choice. The default asks the file, and then the name map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadOptions {
    /// State dicts: the name map, by its name or as the path of a TOML file; by default the one that fits.
    pub map: Option<String>,
    /// State dicts: of several sets of batch norms the one that is used, from 0; by default the map's choice, which is 1
    /// (adversarial) for files of adversarial contrastive learning.
    pub branch: Option<usize>,
    /// State dicts: of several networks in a file the one that is used, by the prefix of its names.
    pub network: Option<String>,
    /// State dicts: beginnings of names that are no part of the encoder, in addition to those of the name map.
    pub ignore: Vec<String>,
    /// The padding of a 3×3 stem, 1 or 2, which no file says; by default the map's.
    pub stem_padding: Option<usize>,
    /// The side of the images in pixels, where the file does not fix it.
    pub side: Option<usize>,
    /// What is done to pixels in `[0, 1]` before the network; by default what the file holds, and then what the map says.
    pub normalization: Option<Normalization>,
}

/// What is done to pixels in `[0, 1]` before a network: `(x − mean) / std` for each channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Normalization {
    /// Nothing.
    None,
    /// The mean and the standard deviation of each channel.
    Constants {
        /// Subtracted.
        mean: Vec<f64>,
        /// Divided by.
        std: Vec<f64>,
    },
}
