//! Name maps: how a program names the tensors of an encoder, as data.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::tensor_file::{FileTensor, TensorFile};

/// How a program names an encoder, and what it leaves to its reader to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NameMap {
    /// The name of the map.
    pub(crate) name: String,
    /// The files that it is of, in a few words.
    pub(crate) about: String,
    /// Pieces of names or keys that a file must have for the map to be chosen for it; `^` is the beginning of a name, and of
    /// pieces with `|` between them one is enough.
    #[serde(default)]
    pub(crate) requires: Vec<String>,
    /// Pieces that it must not have.
    #[serde(default)]
    pub(crate) forbids: Vec<String>,
    /// The networks that such files hold, the one that is evaluated first.
    pub(crate) networks: Vec<NetworkNames>,
    /// Pieces of names after the prefix, and what replaces them, one after the other; `^` is the beginning of a name.
    #[serde(default)]
    pub(crate) rename: Vec<[String; 2]>,
    /// Beginnings of names after the prefix that are no part of the encoder.
    #[serde(default)]
    pub(crate) ignore: Vec<String>,
    /// The set of batch norms that is evaluated, where there are several.
    pub(crate) branch: Option<usize>,
    /// The padding of a 3×3 stem.
    #[serde(default = "one")]
    pub(crate) stem_padding: usize,
    /// Whether a 3×3 stem has this padding in every file of the program, so that it is no guess.
    #[serde(default)]
    pub(crate) stem_padding_known: bool,
    /// Whether no ReLU follows a 3×3 stem.
    #[serde(default)]
    pub(crate) linear_stem: bool,
    /// Heads of attention of a transformer, if not one for 64 dimensions.
    pub(crate) heads: Option<usize>,
    /// Whether image towers of CLIP have the activation `x·σ(1.702·x)` instead of GELU, which no file says.
    #[serde(default)]
    pub(crate) quick_gelu: bool,
    /// What is known of the normalization of the images.
    #[serde(default)]
    pub(crate) normalization: NormalizationNames,
    /// Whether it is a file of the user, and none of ours.
    #[serde(skip)]
    pub(crate) is_own: bool,
}

/// A network in a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkNames {
    /// The beginning of its names, without wrappers such as `module.`.
    pub(crate) prefix: String,
    /// What it is.
    pub(crate) is: String,
}

/// What a program does to pixels in `[0, 1]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NormalizationNames {
    /// The constants that its files are known to hold.
    pub(crate) inside: Option<Constants>,
    /// The constants that its images were normalized with before the network, which is not in the file.
    pub(crate) outside: Option<Constants>,
    /// Whether it is known that pixels go in as they are.
    pub(crate) none: bool,
}

/// Mean and standard deviation of each channel.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Constants {
    pub(crate) mean: Vec<f64>,
    pub(crate) std: Vec<f64>,
}

/// The longest piece that is replaced, or replaces.
const LONGEST_PIECE: usize = 256;

/// The longest name that a replacement makes.
const LONGEST_NAME: usize = 4096;

fn one() -> usize {
    1
}

macro_rules! maps {
    ($($file:literal),* $(,)?) => {
        /// The text of every map, in the order in which they are tried.
        const MAPS: &[&str] = &[$(include_str!(concat!("../../maps/", $file, ".toml"))),*];
    };
}

maps![
    "robustness",
    "deacl",
    "advcl",
    "rocl",
    "dynacl",
    "acl",
    "air",
    "solo-learn",
    "lightly",
    "lightly-cifar",
    "lightly-benchmarks",
    "dino",
    "moco",
    "moco-v3",
    "barlow-twins",
    "vicreg",
    "swav",
    "fare",
    "open-clip",
    "torchvision-vit",
    "timm",
    "simclr-children",
    "torchvision",
    "robustbench",
    "plain",
];

/// The maps of this library, those of single programs before the general ones.
///
/// # Panics
/// If a map of this library is invalid, which its tests exclude.
pub(crate) fn built_in() -> Vec<NameMap> {
    MAPS.iter().map(|text| parse(text).unwrap_or_else(|cause| panic!("a built-in map: {cause}"))).collect()
}

/// Reads a map.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(text: &str) -> Result<NameMap, String> {
    let map: NameMap = toml::from_str(text).map_err(|error| error.to_string())?;
    if map.networks.is_empty() {
        return Err("`networks` is empty; name at least one, with its prefix".to_owned());
    }
    if !(1..=2).contains(&map.stem_padding) {
        return Err(format!("`stem_padding` is {} and has to be 1 or 2", map.stem_padding));
    }
    for piece in map.rename.iter().flatten() {
        if piece.len() > LONGEST_PIECE {
            return Err(format!(
                "`rename` has a piece of {} bytes; give at most {LONGEST_PIECE}",
                piece.len()
            ));
        }
    }
    if map.rename.iter().any(|[from, _]| from.is_empty()) {
        return Err("`rename` replaces nothing by something; name what is replaced, or write `^`".to_owned());
    }
    for constants in [&map.normalization.inside, &map.normalization.outside].into_iter().flatten() {
        let valid = constants.mean.len() == constants.std.len()
            && constants.mean.iter().chain(&constants.std).all(|v| v.is_finite())
            && constants.std.iter().all(|&v| v > 0.0);
        if !valid {
            return Err(
                "`mean` and `std` need as many finite values each, and `std` positive ones".to_owned()
            );
        }
    }
    Ok(map)
}

impl NameMap {
    /// Whether the file has what tells it from those of other programs.
    pub(crate) fn recognizes(&self, file: &TensorFile) -> bool {
        let has = |pieces: &String| {
            let names = || file.tensors.keys().chain(&file.keys);
            pieces.split('|').any(|piece| names().any(|name| matches(name, piece)))
        };
        self.requires.iter().all(has) && !self.forbids.iter().any(has)
    }

    /// The tensors of a network under our names, with what the map ignores taken out: `None` if none has its prefix.
    ///
    /// # Errors
    /// The name of ours that two tensors would have.
    pub(crate) fn apply(
        &self,
        network: &NetworkNames,
        tensors: &BTreeMap<String, FileTensor>,
        ignore: &[String],
    ) -> Option<Result<BTreeMap<String, FileTensor>, String>> {
        let ignored =
            |name: &str| self.ignore.iter().chain(ignore).any(|start| name.starts_with(start.as_str()));
        let mut found = BTreeMap::new();
        for (name, tensor) in tensors {
            let Some(name) = name.strip_prefix(&network.prefix).filter(|name| !ignored(name)) else {
                continue;
            };
            let renamed = self.renamed(name);
            if found.insert(renamed.clone(), tensor.clone()).is_some() {
                return Some(Err(renamed));
            }
        }
        (!found.is_empty()).then_some(Ok(found))
    }

    /// A replacement that would make a name longer than those of any encoder is left out: others may double it again and
    /// again.
    fn renamed(&self, name: &str) -> String {
        self.rename.iter().fold(name.to_owned(), |name, [from, to]| {
            let renamed = match from.strip_prefix('^') {
                Some(start) => name.strip_prefix(start).map(|rest| format!("{to}{rest}")),
                None => Some(name.replace(from.as_str(), to)),
            };
            renamed.filter(|renamed| renamed.len() <= LONGEST_NAME.max(name.len())).unwrap_or(name)
        })
    }
}

fn matches(name: &str, piece: &str) -> bool {
    match piece.strip_prefix('^') {
        Some(start) => name.starts_with(start),
        None => name.contains(piece),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_maps_are_valid_and_have_one_name_each() {
        let maps = built_in();
        let names: std::collections::BTreeSet<&str> = maps.iter().map(|map| map.name.as_str()).collect();
        assert_eq!(names.len(), maps.len());
        assert!(maps.iter().all(|map| !map.about.is_empty()));
    }

    #[test]
    fn faults_of_a_map_are_told_by_key() {
        for (text, expected) in [
            ("name = \"m\"\nabout = \"\"\nnetworks = []", "networks"),
            ("name = \"m\"\nabout = \"\"\nnetwork = []", "network"),
            (
                "name = \"m\"\nabout = \"\"\nnetworks = [{ prefix = \"\", is = \"\" }]\nstem_padding = 3",
                "stem_padding",
            ),
            (
                "name = \"m\"\nabout = \"\"\nnetworks = [{ prefix = \"\", is = \"\" }]\n\
                 normalization.outside = { mean = [0.5], std = [0.0] }",
                "std",
            ),
        ] {
            let cause = parse(text).unwrap_err();
            assert!(cause.contains(expected), "{cause}");
        }
    }

    /// Forty doublings of ten letters are ten terabytes.
    #[test]
    fn replacements_do_not_grow_a_name_without_bound() {
        let with = |rename: &str| {
            parse(&format!(
                "name = 'm'\nabout = ''\nnetworks = [{{ prefix = '', is = '' }}]\nrename = [{rename}]"
            ))
        };
        let doubling = with(&["['weight', 'weightweight']"; 40].join(", ")).unwrap();
        assert!((2000..=4096).contains(&doubling.renamed("conv.weight").len()));
        let adding = with(&["['^', 'a long beginning of a name ']"; 1000].join(", ")).unwrap();
        assert!((2000..=4096).contains(&adding.renamed("conv.weight").len()));
        assert!(with("['', 'x']").unwrap_err().contains("replaces nothing"));
        assert!(with(&format!("['a', '{}']", "b".repeat(257))).unwrap_err().contains("257 bytes"));
    }

    #[test]
    fn names_are_replaced_in_order_and_at_the_beginning_where_asked() {
        let map = parse(
            "name = \"m\"\nabout = \"\"\nnetworks = [{ prefix = \"backbone.\", is = \"\" }]\n\
             rename = [[\"^0.\", \"conv1.\"], [\".shortcut.\", \".downsample.\"]]",
        )
        .unwrap();
        assert_eq!(map.renamed("0.weight"), "conv1.weight");
        assert_eq!(map.renamed("layer1.0.weight"), "layer1.0.weight");
        assert_eq!(map.renamed("layer1.0.shortcut.0.weight"), "layer1.0.downsample.0.weight");
    }
}
