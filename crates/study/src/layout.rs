//! Job layout: the jobs of every method of a profile, seed by seed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use tarrl_bound::{Regularizer, RegularizerConfig};
use tarrl_data::Manifest;
use tarrl_train::Method;

use crate::context::StudyContext;
use crate::profile::{AttackedHead, Pair, Sweep, Tasks, Trial};
use crate::stages;
use tarrl_jobs::{Graph, Key};

/// The jobs of the methods, pairs and the sweep of a profile, whatever artifacts are drawn of them.
pub struct Layout {
    /// Profile, datasets and device.
    pub context: Arc<StudyContext>,
    /// The folder with the files of methods.
    pub folder: PathBuf,
    /// The dataset.
    pub manifest: Manifest,
    /// The job that checks the dataset: the root of the graph.
    pub data: Key,
    /// All jobs.
    pub graph: Graph,
    /// For each training the trainings whose encoders it needs: those of its teacher and of its start.
    pub needed: BTreeMap<Key, Vec<Key>>,
    /// The methods of the profile, in its order.
    pub methods: Vec<MethodJobs>,
    /// The pairs of the profile: without and with the regularizer.
    pub pairs: Vec<[MethodJobs; 2]>,
    /// The sweep of the profile, a curve per divergence.
    pub sweep: Vec<SweepCurve>,
    /// The trials of the profile, each with what is set.
    pub trials: Vec<(String, MethodJobs)>,
    /// The variants of the profile, each with what is set.
    pub variants: Vec<(String, MethodJobs)>,
    /// The methods that tasks ask, each fine-tuned as a whole by the method with labels that the profile names, if any.
    pub tuned: Vec<MethodJobs>,
}

/// One method of a study.
pub struct MethodJobs {
    /// Name of its file, without the ending.
    pub name: String,
    /// What it is.
    pub method: Method,
    /// Its jobs, seed by seed.
    pub seeds: Vec<SeedJobs>,
}

/// One method with one divergence and several weights of its regularizer.
pub struct SweepCurve {
    /// The divergence.
    pub label: String,
    /// λ and the method with it.
    pub points: Vec<(f64, MethodJobs)>,
}

/// The jobs of one method with one seed.
#[derive(Clone, Copy, Debug)]
pub struct SeedJobs {
    /// Trains the encoder.
    pub pretrain: Key,
    /// Fits the head.
    pub head: Key,
    /// Attacks both together.
    pub attack: Key,
    /// Runs AutoAttack on both, if the profile says so.
    pub autoattack: Option<Key>,
    /// Attacks heads along a path of regularization, if the profile says so.
    pub frontier: Option<Key>,
    /// Fits the head with the clean accuracy that methods are compared at.
    pub matched: Option<Key>,
    /// Runs AutoAttack on that head, if the profile says so.
    pub matched_autoattack: Option<Key>,
    /// Runs stronger single attacks on what that leaves, if the profile says so.
    pub best_known: Option<Key>,
    /// Measures the bound.
    pub bound: Key,
}

impl Layout {
    /// Lays out the jobs of the profile in `context`, with the methods in `folder`.
    ///
    /// # Errors
    /// Fails if a dataset or a method that the profile names is missing or faulty.
    pub fn new(context: &Arc<StudyContext>, folder: &Path) -> anyhow::Result<Self> {
        let profile = &context.profile;
        let manifest = context.source(&profile.dataset)?.manifest()?;
        let checked = profile.check_dataset(&manifest);
        checked.map_err(|problem| anyhow!("{}: {problem}", profile.path.display()))?;
        let mut graph = Graph::default();
        let data = graph.add(stages::data::job(&context.catalog, &profile.dataset)?);
        let mut builder = Builder {
            context,
            folder,
            manifest,
            data,
            graph,
            needed: BTreeMap::new(),
            in_progress: Vec::new(),
        };
        let methods =
            profile.methods.iter().map(|name| builder.named(name)).collect::<anyhow::Result<Vec<_>>>()?;
        let pair = |pair: &Pair| Ok([builder.named(&pair.without)?, builder.named(&pair.with)?]);
        let pairs = profile.pairs.iter().map(pair).collect::<anyhow::Result<Vec<_>>>()?;
        let sweep = profile.sweep.as_ref().map_or(Ok(Vec::new()), |sweep| builder.curves(sweep))?;
        let trials =
            profile.trials.iter().map(|trial| builder.trial(trial)).collect::<anyhow::Result<Vec<_>>>()?;
        let variants =
            profile.variants.iter().map(|trial| builder.trial(trial)).collect::<anyhow::Result<Vec<_>>>()?;
        let tuned = profile.tasks.as_ref().map_or(Ok(Vec::new()), |tasks| builder.tuned(tasks))?;
        let Builder { manifest, graph, needed, .. } = builder;
        let (context, folder) = (context.clone(), folder.to_path_buf());
        Ok(Self {
            context,
            folder,
            manifest,
            data,
            graph,
            needed,
            methods,
            pairs,
            sweep,
            trials,
            variants,
            tuned,
        })
    }

    /// The training `pretrain` and all that it needs, each once.
    pub fn trainings(&self, pretrain: Key) -> BTreeSet<Key> {
        let mut found = BTreeSet::new();
        let mut open = vec![pretrain];
        while let Some(key) = open.pop() {
            if found.insert(key) {
                open.extend(&self.needed[&key]);
            }
        }
        found
    }
}

/// A layout in progress; a job that several methods need is added once.
struct Builder<'a> {
    context: &'a Arc<StudyContext>,
    folder: &'a Path,
    manifest: Manifest,
    data: Key,
    graph: Graph,
    needed: BTreeMap<Key, Vec<Key>>,
    /// The methods that wait for the encoders which they need.
    in_progress: Vec<String>,
}

impl Builder<'_> {
    /// The method in the file `name`, against the adversary of the profile if that names one.
    fn read(&self, name: &str) -> anyhow::Result<Method> {
        self.against(name, Method::read(&self.folder.join(format!("{name}.toml")))?)
    }

    /// The method, against the adversary of the profile if that names one.
    fn against(&self, name: &str, method: Method) -> anyhow::Result<Method> {
        let profile = &self.context.profile;
        let Some(adversary) = profile.adversary else { return Ok(method) };
        let changed = method.against(adversary.epsilon.value(), adversary.steps);
        changed.map_err(|reason| anyhow!("{}, `adversary` with {name}: {reason}", profile.path.display()))
    }

    /// The method in the file `name`.
    fn named(&mut self, name: &str) -> anyhow::Result<MethodJobs> {
        let method = self.read(name)?;
        self.method(name, method)
    }

    fn method(&mut self, name: &str, method: Method) -> anyhow::Result<MethodJobs> {
        let seeds = self.context.profile.seeds();
        let seeds = seeds.map(|seed| self.seed(name, &method, seed)).collect::<anyhow::Result<_>>()?;
        Ok(MethodJobs { name: name.to_owned(), method, seeds })
    }

    /// The job that trains `method`, after those of its teacher and its start with the same seed. One that is a method of
    /// the study itself, or that several methods need, is trained once.
    fn pretrain(&mut self, name: &str, method: &Method, seed: u64) -> anyhow::Result<Key> {
        self.in_progress.push(name.to_owned());
        let mut inputs = vec![self.data];
        for needed in method.needed() {
            if self.in_progress.contains(needed) {
                let others = self.in_progress.iter().skip(1).chain([needed]);
                let pairs = self.in_progress.iter().zip(others);
                let needs: Vec<String> =
                    pairs.map(|(a, b)| format!("{a} needs the encoder of {b}")).collect();
                bail!(
                    "no method can be trained first: {}; name another `teacher` or `start` in one of their files",
                    needs.join(", ")
                );
            }
            let before = self.read(needed).with_context(|| format!("the teacher or start of {name}"))?;
            inputs.push(self.pretrain(needed, &before, seed)?);
        }
        self.in_progress.pop();
        let title = format!("{name}, seed {seed}");
        let needed = inputs[1..].to_vec();
        let job = stages::pretrain::job(self.context, inputs, &self.manifest, method, &title, seed);
        let key = self.graph.add(job);
        self.needed.insert(key, needed);
        Ok(key)
    }

    fn seed(&mut self, name: &str, method: &Method, seed: u64) -> anyhow::Result<SeedJobs> {
        let pretrain = self.pretrain(name, method, seed)?;
        let Self { context, manifest, graph, .. } = self;
        let title = format!("{name}, seed {seed}");
        let head = graph.add(stages::head::job(context, pretrain, &title, seed));
        let attack = graph.add(stages::attack::job(context, [pretrain, head], manifest, &title, seed));
        let mut frontier = None;
        let mut matched = None;
        if let Some(settings) = &context.profile.frontier {
            let job = stages::frontier::job(context, pretrain, manifest, settings, &title, seed);
            let path = *frontier.insert(graph.add(job));
            let job = stages::matched::job(context, [pretrain, path], settings.clean, &title, seed);
            matched = Some(graph.add(job));
        }
        let attack_settings = &context.profile.attack;
        let mut suite_on = |head: Option<Key>, which: AttackedHead| {
            let head =
                head.filter(|_| attack_settings.autoattack > 0 && attack_settings.autoattack_head == which)?;
            let images = attack_settings.autoattack;
            let job = stages::autoattack::job(context, [pretrain, head], manifest, images, &title, seed);
            Some(graph.add(job))
        };
        let autoattack = suite_on(Some(head), AttackedHead::Selected);
        let matched_autoattack = suite_on(matched, AttackedHead::Matched);
        let wanted = context.profile.frontier.as_ref().is_some_and(|frontier| frontier.best_known);
        let best_known = matched.zip(matched_autoattack).filter(|_| wanted).map(|(matched, suite)| {
            let (inputs, images) = ([pretrain, matched, suite], attack_settings.autoattack);
            graph.add(stages::best_known::job(context, inputs, manifest, images, &title, seed))
        });
        let certify = graph.add(stages::certify::job(context, pretrain, &title, seed));
        let bound = graph.add(stages::bound::job(context, [pretrain, certify], manifest, &title, seed));
        Ok(SeedJobs {
            pretrain,
            head,
            attack,
            autoattack,
            frontier,
            matched,
            matched_autoattack,
            best_known,
            bound,
        })
    }

    /// A variation of a method, and what is set in it.
    fn trial(&mut self, trial: &Trial) -> anyhow::Result<(String, MethodJobs)> {
        let method = self.against(&trial.method, trial.read(self.folder)?)?;
        let label = trial.label();
        let jobs = self.method(&format!("{}, {label}", trial.method), method)?;
        Ok((label, MethodJobs { name: trial.method.clone(), ..jobs }))
    }

    /// Every method that tasks ask, its encoder trained on by a method with labels.
    fn tuned(&mut self, tasks: &Tasks) -> anyhow::Result<Vec<MethodJobs>> {
        let by = &tasks.aff;
        let tuning = self.read(by)?;
        if !tuning.uses_labels() {
            bail!(
                "{}: `tasks.aff` is `{by}`, which learns without labels; name one that fine-tunes with them",
                self.context.profile.path.display()
            );
        }
        let mut tuned = Vec::new();
        let context = self.context;
        for name in context.profile.methods.iter().filter(|name| tasks.asks(name)) {
            let method = Method { start: Some(name.clone()), ..tuning.clone() };
            tuned.push(self.method(&format!("{name}, then {by}"), method)?);
        }
        Ok(tuned)
    }

    fn curves(&mut self, sweep: &Sweep) -> anyhow::Result<Vec<SweepCurve>> {
        let method = self.read(&sweep.method)?;
        let Some(regularizer) = &method.regularizer else {
            bail!(
                "{}: `sweep.method` is `{}`, which has no regularizer to change; name one that has",
                self.context.profile.path.display(),
                sweep.method
            );
        };
        let mut curves = Vec::new();
        for &divergence in &sweep.divergences {
            let label = serde_json::to_value(divergence)?.as_str().unwrap_or_default().to_owned();
            let mut points = Vec::new();
            for &weight in &sweep.weights {
                let config = RegularizerConfig { divergence, weight, ..regularizer.config().clone() };
                let regularizer = (weight > 0.0).then(|| Regularizer::new(config)).transpose();
                let regularizer = regularizer.with_context(|| format!("`sweep` with {label}"))?;
                // Titles are for tables of methods, and all points without a regularizer are the same job.
                let name = if weight > 0.0 {
                    format!("{}, {label}, λ = {weight}", sweep.method)
                } else {
                    format!("{}, λ = 0", sweep.method)
                };
                let method = Method { regularizer, ..method.clone() };
                points.push((weight, self.method(&name, method)?));
            }
            curves.push(SweepCurve { label, points });
        }
        Ok(curves)
    }
}
