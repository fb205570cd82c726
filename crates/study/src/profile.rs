//! Profiles: the size of a study and what it draws, one TOML file each in `experiments/profiles`.

mod distances;
mod frontier;
mod repeated;
mod tasks;
mod toml_files;
mod trial;

pub use distances::Distances;
pub use frontier::{AttackedHead, Frontier};
pub use tasks::{AdversarialFit, Tasks};
pub use toml_files::toml_files;
pub use trial::Trial;

use std::path::{Path, PathBuf};

use anyhow::bail;
use serde::{Deserialize, Serialize};

use tarrl_bound::Divergence;
use tarrl_data::{Manifest, is_plain_name};
use tarrl_encoders::{Arch, Precision};
use tarrl_train::config::{nearest, read_toml};
use tarrl_train::{OptimizerConfig, check_ranges};

use self::repeated::repeated;
use crate::pixels::Pixels;

/// The size of a study: what is trained on what, how long, and how hard it is attacked.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// The file that it was read from.
    #[serde(skip)]
    pub path: PathBuf,
    /// One line for people.
    pub title: String,
    /// Name of the dataset, as `tarrl data list` shows it, or files without a manifest: their path or the name that they were
    /// imported by.
    pub dataset: String,
    /// How many images of it to use.
    #[serde(default)]
    pub subset: Subset,
    /// Number of seeds; every cell is computed for the seeds from `first_seed` on.
    pub seeds: u32,
    /// The first seed. Hyperparameters are selected with seeds that no report shows.
    #[serde(default)]
    pub first_seed: u64,
    /// Names of the files in `experiments/methods`, without their ending, in the order of the tables.
    pub methods: Vec<String>,
    /// The method that the study is about, which tables and figures emphasize; without this key the first that has a
    /// regularizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Ids of the tables and figures to draw, in the order of the report, whose first figure leads the page; see
    /// [`artifacts`](crate::artifacts).
    pub tables: Vec<String>,
    /// Pairs of methods: a base objective, and the same with the regularizer.
    #[serde(default)]
    pub pairs: Vec<Pair>,
    /// One method with several divergences and weights.
    #[serde(default)]
    pub sweep: Option<Sweep>,
    /// Variations of methods that hyperparameters are selected from.
    #[serde(default, rename = "trial")]
    pub trials: Vec<Trial>,
    /// Variations of methods that are shown beside each other; nothing is selected from them.
    #[serde(default, rename = "variant")]
    pub variants: Vec<Trial>,
    /// The encoder.
    pub encoder: Encoder,
    /// Pre-training.
    pub pretrain: Pretrain,
    /// The adversary that methods are trained against, instead of that in their files.
    #[serde(default)]
    pub adversary: Option<Adversary>,
    /// The attack of the evaluation, PGD.
    pub attack: Attack,
    /// How clean accuracy is traded for robust accuracy over heads, if it is measured.
    #[serde(default)]
    pub frontier: Option<Frontier>,
    /// What encoders are asked for beside the accuracy of one head, if anything.
    #[serde(default)]
    pub tasks: Option<Tasks>,
    /// How far the nearest mistake of each image is, if it is measured.
    #[serde(default)]
    pub distances: Option<Distances>,
    /// How the bound is measured and representations are certified.
    pub bound: Bound,
}

/// How many images of each split are used. `None` is all of them.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Subset {
    /// Training images, balanced over the classes.
    pub train: Option<usize>,
    /// Test images, balanced over the classes.
    pub test: Option<usize>,
    /// Training images that are held out, with the same mix of classes, and evaluated on in the place of the test images:
    /// a study that selects hyperparameters. `train` and `test` are then taken from what stays and from what is held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holdout: Option<usize>,
}

/// Two methods that differ in the regularizer alone, by the names of their files.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Without it.
    pub without: String,
    /// With it.
    pub with: String,
}

/// One method with other divergences and weights of its regularizer.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Name of its file.
    pub method: String,
    /// A curve each.
    pub divergences: Vec<Divergence>,
    /// λ, a point on each curve; 0 is the method without its regularizer.
    pub weights: Vec<f64>,
}

/// Which encoder.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Encoder {
    /// Its architecture.
    pub arch: Arch,
    /// Multiplies the channels of every layer; 1 is the published width.
    pub width: f64,
}

/// How long encoders are trained.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pretrain {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per step.
    pub batch: usize,
    /// Epochs of linear warm-up of the learning rate.
    pub warmup_epochs: f64,
    /// How gradients become steps.
    pub optimizer: OptimizerConfig,
    /// What encoders compute in while they are trained: `f32`, or `bf16` on a GPU. They are evaluated in f32.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// Whether a training whose representation collapses fails, instead of continuing with a warning.
    #[serde(default)]
    pub stop_on_collapse: bool,
}

/// The adversary of the training: a method's file has a radius for small gray images, and other data need another one.
/// It replaces that of every attack, regularizer and certified term of every method of the study; see
/// [`Method::against`](tarrl_train::Method::against).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Adversary {
    /// Radius ε of the l∞ ball, in pixels.
    pub epsilon: Pixels,
    /// Steps of each attack that makes several; those of the method's file without this key.
    #[serde(default)]
    pub steps: Option<usize>,
}

/// How hard the evaluation attacks.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Attack {
    /// Radii ε of the l∞ ball, in pixels.
    pub epsilons: Vec<Pixels>,
    /// More radii for the curves against ε.
    #[serde(default)]
    pub curve: Vec<Pixels>,
    /// Steps of PGD.
    pub steps: usize,
    /// Random restarts; the best point of all of them counts.
    pub restarts: usize,
    /// Test images, balanced over the classes, that AutoAttack is run on at `epsilons`; none without this key.
    #[serde(default)]
    pub autoattack: usize,
    /// The head that AutoAttack is run on.
    #[serde(default)]
    pub autoattack_head: AttackedHead,
}

/// How the bound is measured and representations are certified.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Test images, balanced over the classes.
    pub samples: usize,
    /// Radii ε of the l∞ ball, in pixels; those of the attack without this key.
    #[serde(default)]
    pub epsilons: Vec<Pixels>,
}

impl Profile {
    /// Reads the profile `name` from `folder`.
    ///
    /// # Errors
    /// Fails if there is no such profile, naming the nearest one, and if the file is faulty.
    pub fn read(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let names = Self::names(folder)?;
        if !names.iter().any(|known| known == name) {
            let near = nearest(name, names.iter().map(String::as_str));
            let hint = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
            bail!(
                "there is no profile `{name}`; {hint}known: {} (in {})",
                names.join(", "),
                folder.display()
            );
        }
        let path = folder.join(format!("{name}.toml"));
        if !is_plain_name(name) {
            bail!("{}: `{name}` is no plain name of a profile; rename the file", path.display());
        }
        let profile: Self = read_toml(&path)?;
        profile.check().map_err(|problem| anyhow::anyhow!("{}: {problem}", path.display()))?;
        Ok(Self { path, ..profile })
    }

    /// The names of all profiles in `folder`, sorted.
    ///
    /// # Errors
    /// Fails if the folder cannot be listed.
    pub fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
        let mut names: Vec<String> = toml_files(folder)?
            .iter()
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    /// The radii at which the bound is measured and representations are certified.
    pub fn bound_epsilons(&self) -> Vec<f64> {
        let own = &self.bound.epsilons;
        let epsilons = if own.is_empty() { &self.attack.epsilons } else { own };
        epsilons.iter().map(|e| e.value()).collect()
    }

    /// The file, and the line where `text` first stands in it, if it does: `smoke.toml:3`.
    pub fn place_of(&self, text: &str) -> String {
        let file = std::fs::read_to_string(&self.path).unwrap_or_default();
        let line = file.lines().position(|line| line.contains(text));
        let line = line.map_or(String::new(), |line| format!(":{}", line + 1));
        format!("{}{line}", self.path.display())
    }

    /// The seeds of every cell.
    pub fn seeds(&self) -> std::ops::Range<u64> {
        self.first_seed..self.first_seed + u64::from(self.seeds)
    }

    /// Every method that the profile names, for whatever table.
    pub fn named(&self) -> impl Iterator<Item = &String> {
        let pairs = self.pairs.iter().flat_map(|pair| [&pair.without, &pair.with]);
        let sweep = self.sweep.as_ref().map(|sweep| &sweep.method);
        let varied = self.trials.iter().chain(&self.variants).map(|trial| &trial.method);
        let tuned = self.tasks.as_ref().map(|tasks| &tasks.aff);
        self.methods.iter().chain(pairs).chain(sweep).chain(varied).chain(tuned)
    }

    /// What no type can rule out: values that would make an empty or senseless study.
    fn check(&self) -> Result<(), String> {
        let counts = [
            ("seeds", self.seeds as usize, 1),
            ("pretrain.epochs", self.pretrain.epochs, 1),
            ("pretrain.batch", self.pretrain.batch, 2),
            ("attack.steps", self.attack.steps, 1),
            ("attack.restarts", self.attack.restarts, 1),
            ("adversary.steps", self.adversary.and_then(|a| a.steps).unwrap_or(1), 1),
            ("methods", self.methods.len(), 1),
            ("tables", self.tables.len(), 1),
            ("attack.epsilons", self.attack.epsilons.len(), 1),
            ("subset.train", self.subset.train.unwrap_or(usize::MAX), self.pretrain.batch),
            ("bound.samples", self.bound.samples, 10),
            ("subset.test", self.subset.test.unwrap_or(usize::MAX), 1),
        ];
        if let Some((key, found, least)) = counts.into_iter().find(|(_, found, least)| found < least) {
            return Err(format!("`{key}` is {found} and has to be at least {least}"));
        }
        if let Some(name) = self.named().find(|name| !is_plain_name(name)) {
            return Err(format!("`{name}` is no plain name of a method; remove separators and dots"));
        }
        if let Some(twice) = repeated(&self.methods) {
            return Err(format!("`methods` names `{twice}` twice; remove one"));
        }
        if let Some(subject) = self.subject.as_ref().filter(|name| !self.methods.contains(name)) {
            return Err(format!("`subject` is `{subject}`, which is none of `methods`; add it there"));
        }
        if let Some(sweep) = &self.sweep {
            sweep.check()?;
        }
        if let Some(frontier) = &self.frontier {
            frontier.check()?;
        } else if self.attack.autoattack_head == AttackedHead::Matched {
            return Err("`attack.autoattack-head` is `matched`, which takes a `frontier`; add one".to_owned());
        }
        if !self.trials.is_empty() {
            trial::check(&self.trials, self.subset.holdout)?;
        }
        tasks::check_variants(&self.variants)?;
        self.tasks.as_ref().map_or(Ok(()), |tasks| tasks.check(&self.methods))?;
        self.distances.as_ref().map_or(Ok(()), |distances| distances.check(&self.methods))?;
        if self.adversary.is_some_and(|adversary| adversary.epsilon.value() == 0.0) {
            return Err("`adversary.epsilon` has to be above 0; leave `adversary` out for the methods' own"
                .to_owned());
        }
        let radii = &self.bound.epsilons;
        if !radii.is_sorted_by(|a, b| a < b) || radii.first().is_some_and(|e| e.value() == 0.0) {
            return Err("`bound.epsilons` has to rise, from above 0".to_owned());
        }
        if !self.attack.epsilons.is_sorted_by(|a, b| a < b) || self.attack.epsilons[0].value() == 0.0 {
            return Err(
                "`attack.epsilons` has to rise, from above 0; accuracy at 0 is measured anyway".to_owned()
            );
        }
        let Pretrain { epochs, warmup_epochs, optimizer, .. } = &self.pretrain;
        if *warmup_epochs > *epochs as f64 {
            return Err(format!(
                "`pretrain.warmup-epochs` is {warmup_epochs} and has to be at most `pretrain.epochs`, {epochs}"
            ));
        }
        optimizer.check().map_err(|error| error.to_string())?;
        check_ranges(self).map_err(|error| error.to_string())
    }
}

impl Profile {
    /// Whether the dataset has the images that the profile asks for, with one of each class at least.
    ///
    /// # Errors
    /// Names the key, its value and what would do.
    pub fn check_dataset(&self, manifest: &Manifest) -> Result<(), String> {
        let classes = manifest.classes.len();
        let held = self.subset.holdout;
        if let Some(held) = held.filter(|held| !(classes..manifest.train).contains(held)) {
            return Err(format!(
                "`subset.holdout` is {held}, but {} has {} training images of {classes} classes; hold out one of each \
                 class at least, and keep some",
                manifest.name, manifest.train
            ));
        }
        let train_images = manifest.train - held.unwrap_or(0);
        let test_images = held.unwrap_or(manifest.test);
        let test = self.subset.test.unwrap_or(test_images);
        if classes < 2 {
            return Err(format!("{} has {classes} class; heads need images of two at least", manifest.name));
        }
        let counts = [
            ("subset.train", self.subset.train, train_images),
            ("subset.test", self.subset.test, test_images),
            ("attack.autoattack", Some(self.attack.autoattack).filter(|&n| n > 0), test),
            ("frontier.images", self.frontier.as_ref().map(|frontier| frontier.images), test),
            ("tasks.images", self.tasks.as_ref().map(|tasks| tasks.images), test),
            ("distances.images", self.distances.as_ref().map(|distances| distances.images), test),
            ("bound.samples", Some(self.bound.samples.min(test)), usize::MAX),
        ];
        for (key, wanted, most) in counts {
            match wanted {
                Some(n) if n < classes => {
                    return Err(format!(
                        "`{key}` is {n}, but {} has {classes} classes; ask for one image of each at least",
                        manifest.name
                    ));
                }
                Some(n) if n > most => {
                    return Err(format!(
                        "`{key}` is {n}, but {} has {most} images; ask for fewer",
                        manifest.name
                    ));
                }
                _ => {}
            }
        }
        // A subset has as many images of each class.
        let train = self.subset.train.map_or(train_images, |n| n / classes * classes);
        if self.pretrain.batch > train {
            return Err(format!(
                "`pretrain.batch` is {}, but {} has {train} images for training; ask for fewer",
                self.pretrain.batch, manifest.name
            ));
        }
        Ok(())
    }
}

impl Sweep {
    fn check(&self) -> Result<(), String> {
        if self.divergences.is_empty() || self.weights.is_empty() {
            return Err("`sweep` has no divergence or no weight; give at least one of each".to_owned());
        }
        if !self.weights.is_sorted_by(|a, b| a < b) || self.weights[0] < 0.0 {
            return Err("`sweep.weights` has to rise, from 0 or above".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
title = "A test"
dataset = "fashion-mnist-sample"
seeds = 2
methods = ["simclr", "tarr"]
tables = ["T1", "F1"]
[subset]
train = 512
[encoder]
arch = "conv-small"
width = 0.25
[pretrain]
epochs = 1
batch = 128
warmup-epochs = 0.5
optimizer = { kind = "adamw", lr = 0.002 }
[attack]
epsilons = ["8/255", 0.1]
steps = 20
restarts = 1
[bound]
samples = 100
"#;

    fn read(text: &str) -> Result<Profile, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("test.toml"), text).unwrap();
        Profile::read(folder.path(), "test").map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_profile_is_read_with_its_defaults() {
        let profile = read(GOOD).unwrap();
        assert_eq!(profile.subset, Subset { train: Some(512), ..Subset::default() });
        assert_eq!(profile.attack.epsilons[0].value(), 8.0 / 255.0);
        assert_eq!(profile.tables, ["T1", "F1"]);
    }

    #[test]
    fn a_slip_in_any_place_is_answered_with_file_key_and_remedy() {
        for (from, to, expected) in [
            ("epochs = 1", "epoch = 1", "test.toml:13: unknown key `epoch`; did you mean `epochs`?"),
            (
                "conv-small",
                "conv-smal",
                "test.toml:10: unknown value `conv-smal`; did you mean `conv-small`?",
            ),
            ("0.1", "10.0", "10 is not a radius in pixels"),
            ("0.1", "0.01", "`attack.epsilons` has to rise"),
            ("\"8/255\"", "0.0", "`attack.epsilons` has to rise"),
            ("steps = 20\n", "", "missing field `steps`"),
            ("seeds = 2", "seeds = 0", "test.toml: `seeds` is 0 and has to be at least 1"),
            ("seeds = 2", "seeds = 1001", "test.toml: `seeds` is 1001 and has to be at most 1000"),
            ("train = 512", "train = 100", "`subset.train` is 100 and has to be at least 128"),
            ("\"tarr\"", "\"simclr\"", "`methods` names `simclr` twice"),
            ("\"tarr\"", "\"../tarr\"", "`../tarr` is no plain name of a method"),
            ("\"tarr\"", "\"..\"", "`..` is no plain name of a method"),
            (
                "[bound]",
                "[sweep]\nmethod = \"tarr\"\ndivergences = [\"l2\"]\nweights = [3.0, 1.0]\n[bound]",
                "`sweep.weights` has to rise",
            ),
            ("[attack]", "[adversary]\nepsilon = 0\n[attack]", "`adversary.epsilon` has to be above 0"),
            (
                "[attack]",
                "[adversary]\nepsilon = \"8/255\"\nsteps = 0\n[attack]",
                "`adversary.steps` is 0 and has to be at least 1",
            ),
            (
                "[attack]",
                "[adversary]\nepsilon = \"8/255\"\nstep = 5\n[attack]",
                "test.toml:19: unknown key `step`; did you mean `steps`?",
            ),
            ("samples = 100", "samples = 100\nepsilons = [0.1, 0.05]", "`bound.epsilons` has to rise"),
            ("seeds = 2", "seeds = 2\nsubject = \"acl\"", "`subject` is `acl`, which is none of `methods`"),
            (
                "[bound]",
                "[frontier]\nclean = 79\nimages = 9\n[bound]",
                "`frontier.clean` is 79; give a clean",
            ),
            ("[bound]", "[frontier]\nclean = 0.5\nimages = 0\n[bound]", "`frontier.images` is 0"),
            (
                "[bound]",
                "[frontier]\nclean = 0.5\nimages = 9\nl2 = [0.1, 1.0]\n[bound]",
                "`frontier.l2` has to fall",
            ),
            (
                "restarts = 1",
                "restarts = 1\nautoattack-head = \"matched\"",
                "`attack.autoattack-head` is `matched`, which takes a `frontier`; add one",
            ),
            (
                "[bound]",
                "[[trial]]\nmethod = \"tarr\"\n[bound]",
                "would select on test images; hold some out",
            ),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = read(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(expected), "{from} -> {to}: {error}");
        }
    }

    /// Of three classes, with 600 and 60 images.
    fn manifest() -> Manifest {
        let path = crate::repository().join("datasets/fashion-mnist-sample.toml");
        let manifest: Manifest = read_toml(&path).unwrap();
        Manifest { classes: vec!["a".into(), "b".into(), "c".into()], train: 600, test: 60, ..manifest }
    }

    #[test]
    fn a_count_that_the_dataset_cannot_give_is_refused_with_its_key() {
        let check = |from: &str, to: &str| read(&GOOD.replace(from, to)).unwrap().check_dataset(&manifest());
        assert_eq!(check("", ""), Ok(()));
        for (from, to, expected) in [
            ("restarts = 1", "restarts = 1\nautoattack = 1", "`attack.autoattack` is 1, but "),
            ("train = 512", "train = 512\ntest = 2", "`subset.test` is 2, but "),
            ("train = 512", "train = 601", "`subset.train` is 601, but "),
            ("train = 512", "test = 61", "`subset.test` is 61, but "),
            ("restarts = 1", "restarts = 1\nautoattack = 61", "`attack.autoattack` is 61, but "),
            ("[bound]", "[frontier]\nclean = 0.5\nimages = 61\n[bound]", "`frontier.images` is 61, but "),
            ("train = 512", "train = 128", "`pretrain.batch` is 128, but "),
            ("train = 512", "train = 512\nholdout = 89", "`subset.train` is 512, but "),
            ("train = 512", "holdout = 90\ntest = 91", "`subset.test` is 91, but "),
            ("[bound]", "[frontier]\nclean = 0.5\nimages = 2\n[bound]", "`frontier.images` is 2, but "),
        ] {
            let error = check(from, to).unwrap_err();
            assert!(error.starts_with(expected) && error.contains("ask for"), "{error}");
        }
        assert_eq!(check("restarts = 1", "restarts = 1\nautoattack = 3"), Ok(()));
        assert_eq!(check("train = 512", "train = 512\nholdout = 88"), Ok(()));
        for wrong in [2, 600] {
            let error = check("train = 512", &format!("holdout = {wrong}")).unwrap_err();
            assert!(error.starts_with(&format!("`subset.holdout` is {wrong}, but ")), "{error}");
        }
    }

    #[test]
    fn a_dataset_of_one_class_is_refused() {
        let one_class = Manifest { classes: vec!["all".into()], ..manifest() };
        let error = read(GOOD).unwrap().check_dataset(&one_class).unwrap_err();
        assert!(error.ends_with("has 1 class; heads need images of two at least"), "{error}");
    }

    #[test]
    fn an_unknown_profile_is_answered_with_its_neighbor() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["smoke", "default"] {
            std::fs::write(folder.path().join(format!("{name}.toml")), GOOD).unwrap();
        }
        let error = Profile::read(folder.path(), "smok").unwrap_err().to_string();
        assert!(
            error.starts_with("there is no profile `smok`; did you mean `smoke`? known: default, smoke"),
            "{error}"
        );
    }

    #[test]
    fn a_profile_is_not_called_like_the_folder_above() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("...toml"), GOOD).unwrap();
        let error = Profile::read(folder.path(), "..").unwrap_err().to_string();
        assert!(error.contains("`..` is no plain name of a profile; rename the file"), "{error}");
    }

    #[test]
    fn the_profiles_of_the_project_are_sound() {
        let folder = crate::repository().join("experiments/profiles");
        let names = Profile::names(&folder).unwrap();
        assert!(
            ["default", "full", "smoke"].iter().all(|name| names.iter().any(|known| known == name)),
            "{names:?}"
        );
        for name in names {
            Profile::read(&folder, &name).unwrap();
        }
    }
}
