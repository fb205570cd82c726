//! What a model file does not say, and the reader of it may.

use std::str::FromStr;

/// How a model file is read, where the file leaves a choice. The default asks the file, and then the name map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadOptions {
    /// State dicts: the name map, by its name or as the path of a TOML file; by default the one that fits.
    pub map: Option<String>,
    /// State dicts: of several sets of batch norms the one that is used, from 0; by default the map's choice, which is 1
    /// (adversarial) for files of adversarial contrastive learning.
    pub branch: Option<usize>,
    /// State dicts: the sets 0 (clean) and 1 (attacked) of batch norms, as an encoder with both, instead of one of them. Only
    /// for [`import_encoder`](crate::import_encoder): a [`Model`](crate::Model) computes with one.
    pub both_branches: bool,
    /// State dicts: of several networks in a file the one that is used, by the prefix of its names.
    pub network: Option<String>,
    /// State dicts: the key of the file that holds the state dict, where there are several; empty for the file itself.
    pub container: Option<String>,
    /// State dicts: beginnings of names that are no part of the encoder, in addition to those of the name map.
    pub ignore: Vec<String>,
    /// The padding of a 3×3 stem, 1 or 2, which no file says; by default the map's.
    pub stem_padding: Option<usize>,
    /// Heads of attention of a transformer, which no state dict says; by default one for 64 dimensions.
    pub heads: Option<usize>,
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

/// Constants by name: of ImageNet and of CIFAR-10, as their programs round them.
const NAMED: [(&str, [[f64; 3]; 2]); 2] = [
    ("imagenet", [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]),
    ("cifar10", [[0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]]),
];

/// Constants that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no normalization; give none, imagenet, cifar10, or a mean and a standard deviation for each channel, such as \
     0.5,0.5,0.5/0.25,0.25,0.25"
)]
pub struct NormalizationError(String);

impl FromStr for Normalization {
    type Err = NormalizationError;

    /// `none`, `imagenet`, `cifar10`, or `MEAN,…/STD,…`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Normalization::None);
        }
        if let Some((_, [mean, std])) = NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(Normalization::Constants { mean: mean.to_vec(), std: std.to_vec() });
        }
        let fault = || NormalizationError(text.to_owned());
        let numbers =
            |text: &str| text.split(',').map(|v| v.trim().parse().ok()).collect::<Option<Vec<f64>>>();
        let (mean, std) = text.split_once('/').ok_or_else(fault)?;
        let (mean, std) = (numbers(mean).ok_or_else(fault)?, numbers(std).ok_or_else(fault)?);
        let valid = mean.len() == std.len()
            && mean.iter().chain(&std).all(|v| v.is_finite())
            && std.iter().all(|&v| v > 0.0);
        if valid { Ok(Normalization::Constants { mean, std }) } else { Err(fault()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_read_by_name_and_by_number() {
        assert_eq!("none".parse(), Ok(Normalization::None));
        let half = Normalization::Constants { mean: vec![0.5], std: vec![0.25] };
        assert_eq!("0.5/0.25".parse(), Ok(half));
        assert!("imagenet".parse::<Normalization>().is_ok());
        for text in ["", "0.5", "0.5/0", "0.5,0.5/1", "inf/1", "image-net"] {
            assert!(text.parse::<Normalization>().unwrap_err().to_string().contains("imagenet"), "{text}");
        }
    }
}
