//! `tarrl attack`: attacks one encoder and head.

mod feature;
mod findings;
mod goal;
mod outcome;
mod plan;
mod points;
mod run;
mod state;
mod summary;
mod target;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use tarrl_attacks::{Limits, Norm, Threat};
use tarrl_data::{Dataset, Source};
use tarrl_eval::{DeviceHead, dataset_pixels, labels};
use tarrl_tensor::{Cpu, DType, Key, Tensor};

pub(crate) use self::findings::Findings;
pub(crate) use self::plan::{Kind, Plan};
use self::points::save_points;
use self::run::initial;
pub(crate) use self::run::{Found, run};
pub(crate) use self::state::StateFile;
use self::summary::Summary;
pub(crate) use self::target::Target;
use crate::inputs::{
    EncoderFile, ImageOptions, balanced, batch_for, check_classes, check_memory, check_output, linear_head,
};
use crate::limits;
use crate::model_options::ModelOptions;
use crate::signals;
use crate::stdout::{note, out, outln};
use tarrl_jobs::files::{cannot_write, hash, write_atomic};
use tarrl_study::attack_state::AttackProgress;
use tarrl_study::stages::certify::{hash_labels, hash_pixels};

const EXAMPLES: &str = "\
Examples:
  tarrl attack --checkpoint ENCODER --head HEAD --dataset fashion-mnist-sample --norm linf --epsilon 8/255
  tarrl attack --checkpoint ENCODER --head HEAD --dataset fashion-mnist-sample --epsilon 0.1 --images 100
  tarrl attack --checkpoint ENCODER --head HEAD --dataset mnist --norm l2 --epsilon 0.5 --attack apgd-dlr
  tarrl attack --checkpoint ENCODER --head HEAD --dataset mnist --norm l2 --epsilon 1 --attack cw
  tarrl attack --checkpoint ENCODER --head HEAD --dataset mnist --norm l1 --epsilon 4 --attack nearest --passes 500
  tarrl attack --checkpoint ENCODER --head HEAD --dataset mnist --epsilon 0.1 --examine --json outcomes.json
  tarrl attack --checkpoint ENCODER --head HEAD --dataset mnist --epsilon 0.1 --points points.npz
  tarrl attack --checkpoint ENCODER --head HEAD --dataset CIFAR-10-C/fog.npy --severity 3 --epsilon 2/255
  tarrl attack --checkpoint ENCODER --head HEAD --dataset photos/ --resize 256 --crop 224 --images 100 --epsilon 1/255

ENCODER and HEAD are what `tarrl reproduce` leaves in its run folder:
  runs/PROFILE/jobs/KEY/encoder.safetensors   of a pre-training job
  runs/PROFILE/jobs/KEY/head.safetensors      of the head job trained on it (its config.json names the encoder's key)

The attack goes through encoder and head together. An image is robust if no attack breaks it; the share of robust
images is an upper bound of the true robust accuracy, and its 95 % interval (Clopper and Pearson) says what these
images say about others. autoattack is the standard version with nothing left out: it takes up to 7800 forward and 1900
backward passes for each robust image, and few for others. Results do not depend on --threads
and, on the CPU, not on --batch.

nearest, ddn, fmn, alma, pdgd, pdpgd, sdf, sigma-zero and apgd-search look for the nearest mistake of each image, in the
ball of radius ε or beyond it, and spend at most --passes passes on it, forward and backward together. nearest is the
ensemble: each method goes on from the nearest mistake of those before it. With --leave-at-success an image is left at its
first mistake within ε, for the robust accuracy alone. In the JSON `distance` is 0 for an image that is wrong by itself and
null if no mistake was found at all; `found_by` is the method that found the nearest, `first_mistake` the passes before the first.
fab and fab-t report the distance of the nearest mistake they saw, and leave an image at its first one unless --go-on is given.

feature-l2, feature-cosine, feature-kl, instance-wise and feature-match are told no label: they move the representation,
and the head predicts the class at each point that they evaluate.

An attack that fails because gradients are masked looks like a robust encoder. What attacks with gradients and labels
show of that by themselves is always printed: gradients that were zero or no numbers, and images that fell to Square
alone. --examine looks for more, with some 450 passes of each image. It asks whether outputs are random, probabilities
or saturated, whether the loss jumps, and compares PGD with 20 steps to a single step, random points, another loss,
twice the steps and larger radii. Around twenty images it fits readouts for which an adversarial example is known, and
counts how many PGD finds (Zimmermann et al. 2022): less than 95 % block. Whether these steps were enough says nothing of the longer attack that was asked for.
A blocking sign makes the accuracy inconclusive, unless no image is left; no sign is no proof. With --json they are
the `findings`, each with its images.

With --json the attack saves its progress every twenty seconds, to the file beside the outcome whose name ends in
.state. After an interruption the same command resumes from there and ends with the same outcome. AutoAttack and its
parts and the attacks on the nearest mistake resume in the middle of an image; fgsm, pgd, cw, deepfool, hop-skip-jump and
the attacks without labels resume after the last whole batch, so that a smaller --batch loses less. --examine starts over.
Ctrl-C, SIGTERM and SIGUSR2 save the progress and end with exit code 75; a second one ends at once. The outcome of an earlier
attack in FILE stays until the new one is whole.

--points writes what AutoAttack or one of its parts found, for others to check: of each image its place (`index`), its label,
its pixels (`images`), the point (`points`), misclassified where `broken` is 1 and else of the least margin seen.";

/// Attack one encoder and head: robust accuracy with an interval, and the outcome of each image
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.", arg_required_else_help = true)]
pub(crate) struct Attack {
    /// The encoder: a file `encoder.safetensors`, or a model file of another program
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,

    /// The linear head that was trained on it, a file `head.safetensors` or JSON
    #[arg(long, value_name = "FILE")]
    head: PathBuf,

    /// The dataset whose test images are attacked: a name as `tarrl data list` shows it, or a file or folder
    #[arg(long, value_name = "NAME|PATH")]
    dataset: String,

    /// How perturbations are measured: linf, l2, l1, or l0 for pgd and attacks on the nearest mistake
    #[arg(long, default_value = "linf")]
    norm: Norm,

    /// Radius of the ball in pixels of [0, 1], such as 8/255 or 0.1; in l0 the number of values that may change
    #[arg(long, value_name = "ε", value_parser = limits::radius)]
    epsilon: f64,

    /// The attack
    #[arg(long, value_enum, default_value = "autoattack")]
    attack: Kind,

    /// Number of test images, balanced over the classes [default: all]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("--images"))]
    images: Option<u32>,

    /// Seed of the random starts
    #[arg(long, default_value_t = 0, value_parser = limits::whole::<u64>("--seed"))]
    seed: u64,

    /// Images in memory at a time [default: 256, and fewer of more than 32 × 32 pixels]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("--batch"))]
    batch: Option<u32>,

    /// Attacks on the nearest mistake: passes of an image at most, forward and backward together [default: 2000]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("--passes"))]
    passes: Option<u32>,

    /// Attacks on the nearest mistake: leave an image at its first mistake within ε
    #[arg(long)]
    leave_at_success: bool,

    /// fab and fab-t: go on after the first mistake, for the nearest one
    #[arg(long)]
    go_on: bool,

    /// Look for signs of masked gradients with further attacks, for some 400 passes of each image
    #[arg(long = "examine")]
    gradient_masking_checks: bool,

    /// Write the outcome of each image to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// AutoAttack and its parts: write the points that were found to this file, as npz
    #[arg(long, value_name = "FILE")]
    points: Option<PathBuf>,

    /// Seconds between two states
    #[arg(long, value_name = "SECONDS", default_value_t = 20, hide = true, value_parser = limits::whole::<u64>("--save-every"))]
    save_every: u64,

    /// Number of threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u16>("--threads"))]
    threads: Option<u16>,

    #[command(flatten)]
    from: ImageOptions,

    #[command(flatten)]
    reading: ModelOptions,
}

impl Attack {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        // The number of images in memory changes no result; it is known with their size.
        let plan = |batch| -> anyhow::Result<Plan> {
            let mut plan = self.attack.plan(self.norm, self.epsilon, batch).map_err(anyhow::Error::msg)?;
            if self.go_on {
                plan.go_on(self.attack).map_err(anyhow::Error::msg)?;
            }
            Ok(plan)
        };
        let checked = plan(1)?;
        if self.gradient_masking_checks {
            findings::check(&checked, self.epsilon)?;
        }
        let only = [("--passes", self.passes.is_some()), ("--leave-at-success", self.leave_at_success)];
        if let Some((flag, _)) =
            only.iter().find(|(_, given)| *given && !matches!(checked, Plan::Nearest(..)))
        {
            bail!(
                "{flag} is for attacks on the nearest mistake, such as nearest; leave it out of {}",
                self.attack.name()
            );
        }
        if self.points.is_some() && !matches!(checked, Plan::Suite(..)) {
            bail!("--points is for AutoAttack and its parts; leave it out of {}", self.attack.name());
        }
        for (file, what) in [
            (&self.checkpoint, "an encoder, such as runs/default/jobs/KEY/encoder.safetensors"),
            (&self.head, "a head, such as runs/default/jobs/KEY/head.safetensors"),
        ] {
            if !file.is_file() {
                bail!("there is no file {}; give {what} (`tarrl reproduce` writes both)", file.display());
            }
        }
        let source = self.from.open(&self.dataset)?;
        let places = source.places();
        let mut inputs: Vec<&Path> = vec![&self.checkpoint, &self.head, self.from.manifests()];
        inputs.extend(places.iter().map(PathBuf::as_path));
        if let Some(output) = &self.json {
            for output in [output, &state::beside(output)] {
                check_output(output, "--json FILE", &inputs)?;
            }
        }
        if let Some(output) = &self.points {
            inputs.extend(self.json.as_deref());
            check_output(output, "--points FILE", &inputs)?;
        }
        let device = Cpu { threads: self.threads.map_or(0, usize::from), ..Cpu::default() }.open();
        let file = EncoderFile::open(&self.checkpoint, &self.reading, &device)?;
        file.announce();
        let (head, named) = linear_head(&self.head)?;
        file.check_head(&self.head, head.features(), named.as_deref())?;
        let (data, indices) = self.images(&source)?;
        check_classes(head.classes(), &self.head, &data, &source)?;
        let shape: [usize; 3] = data.shape().into();
        file.check_images(&self.dataset, shape)?;
        check_memory(data.len(), shape, "--images")?;
        let batch = self.batch.map_or_else(|| batch_for(256, shape), |batch| batch as usize);
        let plan = plan(batch)?;
        let (x, y) = (dataset_pixels(&data, &device), labels(&data.labels));
        let classes = head.classes();
        let head = DeviceHead::new(&head, &device, DType::F32);
        let encode = |u: &Tensor| file.model.forward(u);
        let classify = |z: &Tensor| head.forward(z);
        let keys: Vec<Key> = (0..y.len()).map(|i| Key::new(self.seed).fold("attack").fold(i)).collect();
        let ball = Threat::new(self.norm, self.epsilon).around(&x);
        let limits =
            Limits { early_stop: self.leave_at_success, budget: Some(self.passes()), ..Limits::default() };
        let target = Target {
            ball,
            labels: &y,
            classes,
            keys: &keys,
            encode: &encode,
            classify: &classify,
            batch,
            limits,
        };
        let about = self.about(&plan, (&x, &y), &file.hash)?;
        let stop = signals::stop(None)?;
        let mut state = self.state(&about);
        let from = self.interrupted(state.as_mut(), &plan, &target)?;
        let bar = bar(y.len() as u64);
        let Found { images, points } =
            run(&plan, &target, from, state.as_mut(), &stop, &mut |finished, broken| {
                bar.set_position(finished as u64);
                bar.set_message(format!("{broken} broken"));
            })?;
        bar.finish_and_clear();
        let title = format!("{}, {}, ε = {}", self.attack.name(), self.norm, self.epsilon);
        let summary = Summary::new(title, &plan.names(), &images);
        let mut findings = Findings::of(&plan, &images);
        if let Some(findings) = findings.as_mut().filter(|_| self.gradient_masking_checks) {
            stop.check()?;
            findings.check_further(&target)?;
        }
        if let Some(path) = &self.json {
            let mut report = about;
            let findings = findings.as_ref().map(|findings| findings.report(&indices));
            for part in [Some(summary.report(&images, &y, &indices)), findings] {
                report.extend(part.and_then(|part| part.as_object().cloned()).unwrap_or_default());
            }
            write_atomic(path, &serde_json::to_vec_pretty(&report)?)
                .map_err(|error| cannot_write(path, "--json FILE", error))?;
        }
        if let (Some(path), Some(points)) = (&self.points, &points) {
            let broken: Vec<bool> = images.iter().map(|image| image.broken).collect();
            save_points(path, (&x, points), (&y, &indices), &broken)?;
        }
        if let Some(state) = state {
            state.remove()?;
        }
        out!("{}", summary.table());
        if let Some(findings) = &findings {
            out!("{}", findings.table());
        }
        if let Some(path) = &self.json {
            outln!("The outcome of each image: {}", path.display());
        }
        Ok(())
    }

    /// Passes of an image at most, in an attack on the nearest mistake.
    fn passes(&self) -> u32 {
        self.passes.unwrap_or(2000)
    }

    /// What determines the outcome, by name.
    fn about(
        &self,
        plan: &Plan,
        (images, labels): (&Tensor, &[u32]),
        encoder: &str,
    ) -> anyhow::Result<Map<String, Value>> {
        // A path need not be UTF-8.
        let name = |path: &Path| path.to_string_lossy().into_owned();
        let mut about = json!({
            "checkpoint": name(&self.checkpoint), "head": name(&self.head), "dataset": self.dataset,
            "norm": self.norm, "epsilon": self.epsilon, "attack": self.attack.name(), "attacks": plan.names(),
            "seed": self.seed, "images": labels.len(), "checkpoint_blake3": encoder,
            "head_blake3": hash(&self.head)?, "images_blake3": hash_pixels(images),
            "labels_blake3": hash_labels(labels),
        });
        if self.go_on {
            about["go_on"] = json!(true);
        }
        if let Plan::Nearest(..) = plan {
            about["passes"] = json!(self.passes());
            about["leave_at_success"] = json!(self.leave_at_success);
        }
        match about {
            Value::Object(mut about) => {
                about.extend(self.from.about());
                about.extend(self.reading.about().map(|options| ("read_options".to_owned(), json!(options))));
                Ok(about)
            }
            _ => unreachable!("it is written as an object"),
        }
    }

    fn state(&self, about: &Map<String, Value>) -> Option<StateFile> {
        // The same files under other names are the same attack.
        let mut about = about.clone();
        about.retain(|name, _| name != "checkpoint" && name != "head");
        let every = Duration::from_secs(self.save_every);
        self.json.as_ref().map(|output| StateFile::beside(output, about, every))
    }

    /// The progress of an interrupted run of the same attack, which is announced. Without one the initial state is
    /// written, so that a folder that cannot be written to is known before the attack begins.
    fn interrupted(
        &self,
        state: Option<&mut StateFile>,
        plan: &Plan,
        target: &Target<'_>,
    ) -> anyhow::Result<Option<AttackProgress>> {
        let Some(state) = state else { return Ok(None) };
        let found = state.load()?;
        match &found {
            Some(progress) => note!(
                "resuming an interrupted attack, {} of {} images done: {}",
                progress.finished(),
                target.labels.len(),
                state.path().display()
            ),
            None => state.save(initial(plan, target))?,
        }
        Ok(found)
    }

    /// The images to attack, and their places in the split.
    fn images(&self, source: &Source) -> anyhow::Result<(Dataset, Vec<usize>)> {
        let test = self.from.read(source)?;
        let indices = match self.images {
            None => (0..test.len()).collect(),
            Some(n) => balanced(&test, n as usize, "--images", Key::new(self.seed).fold("images"))?,
        };
        Ok((test.subset(&indices), indices))
    }
}

fn bar(images: u64) -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(images) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("attacked {pos}/{len} {bar:32} {msg}  {eta} left");
    bar.with_style(style.expect("the template is valid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_values_are_refused_with_a_remedy() {
        assert!("l3".parse::<Norm>().unwrap_err().to_string().contains("linf, l2, l1"));
    }
}
