//! AutoAttack runs: fill batches from the active samples, evaluate, differentiate, advance each sample.

use crate::autoattack::config::{AttackSpec, AutoAttack, RunConfig};
use crate::autoattack::logit_losses::status_of;
use crate::autoattack::outcome::{Progress, SuiteOutcome};
use crate::autoattack::sample_attack::QueryKind;
use crate::autoattack::sample_ball::SampleBall;
use crate::autoattack::sample_state::{SampleState, SuiteContext};
use crate::autoattack::square_state::Extents;
use crate::classifier::{Confirmation, Eot};
use crate::driver::{Envelope, Query, StateError, StoredRun, demand};
use crate::threat::rows::{stack, stack_in};
use crate::threat::{Ball, Threat};
use serde::{Deserialize, Serialize};
use tarrl_tensor::{DType, Key, Recording, Tensor, vjp};

/// AutoAttack on the samples of `x` `(n, h, w, c)` or `(n, d)`: `logits` of points `(m, …)` to `(m, k)`, one
/// label below `k` and one key for each sample.
///
/// `logits` is a deterministic function of each row; a random one needs [`SuiteRun`], whose queries name
/// the draw.
///
/// ```
/// use tarrl_attacks::{AutoAttack, Threat, auto_attack};
/// use tarrl_tensor::{Key, Tensor, cpu};
///
/// let x = Tensor::new(&cpu(), [2, 2], &[0.5f32, 0.4, 0.9, 0.1]); // (n, d)
/// let w = Tensor::new(&cpu(), [2, 2], &[1.0f32, 0.0, 0.0, 1.0]);
/// let logits = |u: &Tensor| u.matmul(&w); // the larger coordinate wins
/// let config = AutoAttack { queries: 50, ..AutoAttack::default() };
/// let keys = [Key::new(1), Key::new(2)];
/// let found = auto_attack(&logits, &x, &[0, 0], &Threat::linf(0.1), &config, &keys);
/// assert_eq!(found.success, [true, false]); // margins 0.1 and 0.8, and each falls by at most 0.2
/// assert_eq!(found.origin[0].as_ref().unwrap().attack, "apgd-ce");
/// ```
///
/// # Panics
/// As [`SuiteRun::new`] and [`SuiteRun::round`].
#[track_caller]
pub fn auto_attack(
    logits: &dyn Fn(&Tensor) -> Tensor,
    x: &Tensor,
    labels: &[u32],
    threat: &Threat,
    config: &AutoAttack,
    keys: &[Key],
) -> SuiteOutcome {
    let mut run = SuiteRun::new(threat.around(x), labels, keys, config.parts(threat.norm), config.run);
    while run.round(&|u, _| logits(u)) {}
    run.finish()
}

/// A suite in progress: `while run.round(logits) {}` and then [`finish`](SuiteRun::finish), with a
/// [`state`](SuiteRun::state) to store wherever it may be interrupted.
///
/// A sample is at its own place in the suite, and a batch is made of the points of as many samples as
/// `config.batch` allows, whatever attacks they are in. One that is finished makes room for the next, so
/// that batches stay full to the end. Given a model whose rows do not depend on each other, a sample's
/// result depends on itself and its key alone.
pub struct SuiteRun {
    setup: Setup,
    ball: Ball,
    centers: Vec<f32>,
    samples: Vec<SampleState>,
    /// The samples in the batch.
    active: Vec<(usize, SampleBall)>,
    /// The first sample that has not been in a batch.
    next: usize,
    /// The points and gradients of a batch; kept between rounds so that these allocate nothing large.
    buffer: Vec<f32>,
}

/// What a run does not change.
struct Setup {
    parts: Vec<AttackSpec>,
    config: RunConfig,
    labels: Vec<u32>,
    keys: Vec<Key>,
    extents: Extents,
}

impl Setup {
    /// What a state has to agree with; batches may be of another size.
    fn identity(&self) -> (Vec<AttackSpec>, RunConfig) {
        (self.parts.clone(), RunConfig { batch: 0, ..self.config })
    }

    fn context<'a>(&'a self, row: usize, ball: &'a SampleBall) -> SuiteContext<'a> {
        let Setup { parts, config, extents, .. } = self;
        SuiteContext { parts, config, extents: *extents, ball, label: self.labels[row], key: self.keys[row] }
    }
}

/// A [`SuiteRun`] stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SuiteState(Envelope<StoredSuite>);

/// The attacks and how they run; the state of each sample.
type StoredSuite = StoredRun<(Vec<AttackSpec>, RunConfig), Vec<SampleState>>;

impl SuiteState {
    /// Samples that are finished.
    pub fn finished(&self) -> usize {
        self.0.content().progress.iter().filter(|sample| sample.done).count()
    }
}

#[cfg(test)]
impl SuiteState {
    /// The same with a checksum that fits.
    pub(crate) fn resealed(&self) -> Self {
        SuiteState(Envelope::new(self.0.content().clone()))
    }
}

/// What was seen of a sample's point.
#[derive(Default)]
struct Answer {
    /// The logits (k) of each draw.
    z: Vec<Vec<f64>>,
    goes_on: bool,
    /// Sums over draws.
    gradients: Vec<Vec<f32>>,
}

impl SuiteRun {
    /// Nothing done yet. Each sample has its own radius: see [`Threat::around_each`].
    ///
    /// # Panics
    /// If there are not as many labels and keys as samples, a batch or the number of draws is zero, the norm
    /// is l0, the threat model has levels, samples are neither images nor vectors, or f32 does not hold a coordinate.
    #[track_caller]
    pub fn new(ball: Ball, labels: &[u32], keys: &[Key], parts: Vec<AttackSpec>, config: RunConfig) -> Self {
        let n = ball.len();
        assert!(
            labels.len() == n && keys.len() == n,
            "suite: {} labels, {} keys, {n} samples",
            labels.len(),
            keys.len()
        );
        assert!(
            config.batch > 0 && config.draws > 0,
            "suite: a batch and an evaluation need at least one sample and draw"
        );
        assert!(ball.threat().norm.dual().is_some(), "suite: its attacks have no step for l0");
        assert!(ball.threat().levels.is_none(), "suite: its attacks take any value, not levels");
        assert!(!parts.is_empty(), "suite: no attack");
        let extents = Extents::of(ball.center().shape());
        SuiteRun {
            setup: Setup { parts, config, labels: labels.to_vec(), keys: keys.to_vec(), extents },
            centers: single_precision(ball.center()),
            ball,
            samples: vec![SampleState::new(); n],
            active: Vec::new(),
            next: 0,
            buffer: Vec::new(),
        }
    }

    /// Goes on with an interrupted run of the same samples and attacks, on a model of `classes`; batches may be of
    /// another size.
    ///
    /// # Errors
    /// If the state is of other samples, radii, labels or keys, of other attacks or classes, is damaged, or is none that a
    /// run has.
    ///
    /// # Panics
    /// As [`new`](SuiteRun::new).
    #[track_caller]
    pub fn resume(
        ball: Ball,
        labels: &[u32],
        keys: &[Key],
        parts: Vec<AttackSpec>,
        config: RunConfig,
        classes: usize,
        state: &SuiteState,
    ) -> Result<Self, StateError> {
        let mut run = SuiteRun::new(ball, labels, keys, parts, config);
        let samples = state.0.open_run(run.fingerprint(), &run.setup.identity())?;
        demand(samples.len() == run.samples.len(), "there are not as many samples")?;
        let width = run.ball.width();
        for (row, sample) in samples.iter().enumerate() {
            let x = &run.centers[row * width..][..width];
            let ball = SampleBall::new(run.ball.threat(), run.ball.radii()[row], x);
            sample.validate(&run.setup.context(row, &ball), classes)?;
        }
        run.samples.clone_from(samples);
        Ok(run)
    }

    /// Everything that [`resume`](SuiteRun::resume) needs.
    pub fn state(&self) -> SuiteState {
        SuiteState(Envelope::new(StoredRun {
            problem: self.fingerprint(),
            config: self.setup.identity(),
            progress: self.samples.clone(),
        }))
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let count = |f: fn(&SampleState) -> bool| self.samples.iter().filter(|&sample| f(sample)).count();
        Progress {
            samples: self.samples.len(),
            finished: count(|sample| sample.done),
            broken: count(|sample| sample.done && sample.record.success),
            forward: self.samples.iter().map(|sample| u64::from(sample.record.forward)).sum(),
            backward: self.samples.iter().map(|sample| u64::from(sample.record.backward)).sum(),
        }
    }

    /// One evaluation of a point of each active sample: `logits` of points `(m, …)` to `(m, k)`; a random model
    /// draws by what the query says. `false` if there is nothing left to do.
    ///
    /// Points whose gradients are wanted, those where they may be, and those where they are not are evaluated
    /// in batches of their own, so that no backward pass is computed in vain.
    ///
    /// # Panics
    /// If `logits` answers in another shape than `(m, k)` with `k` of at least 2, a label is not below `k`, or `k` is less
    /// than before.
    #[track_caller]
    pub fn round(&mut self, logits: &dyn Fn(&Tensor, Query<'_>) -> Tensor) -> bool {
        self.fill_batch();
        let kinds: Vec<QueryKind> = self.active.iter().map(|(row, _)| self.samples[*row].query()).collect();
        for kind in [QueryKind::Gradient, QueryKind::MaybeGradient, QueryKind::Logits] {
            let group: Vec<usize> = (0..kinds.len()).filter(|&i| kinds[i] == kind).collect();
            if !group.is_empty() {
                self.evaluate(&group, kind, logits);
            }
        }
        let samples = &self.samples;
        self.active.retain(|(row, _)| !samples[*row].done);
        !self.active.is_empty() || self.next < self.samples.len()
    }

    /// What fresh draws of a random model say of the points found so far, sample by sample: passes that the attack never
    /// saw, and that are not counted as its own. Among enough evaluations of a random model, one succeeds by
    /// chance.
    ///
    /// # Panics
    /// As [`round`](SuiteRun::round), and if there are no draws or the share is not in (0, 1].
    #[track_caller]
    pub fn confirm(&self, logits: &dyn Fn(&Tensor, Query<'_>) -> Tensor, eot: &Eot) -> Vec<Confirmation> {
        eot.check();
        let rows: Vec<usize> = (0..self.samples.len()).collect();
        let mut found = Vec::with_capacity(rows.len());
        for rows in rows.chunks(self.setup.config.batch) {
            let points = stack(rows.iter().map(|&row| self.found(row)), self.ball.center());
            let mut answers: Vec<Answer> = rows.iter().map(|_| Answer::default()).collect();
            for draw in 0..eot.draws {
                let passes = self.passes(rows, draw);
                self.read(&logits(&points, Query { rows, passes: &passes }), &mut answers, rows);
            }
            for (answer, &row) in answers.iter().zip(rows) {
                let label = self.setup.labels[row] as usize;
                let draws: Vec<_> = answer.z.iter().map(|z| status_of(z, label)).collect();
                found.push(eot.conclude(&draws));
            }
        }
        found
    }

    /// What was found; of a sample of which no point has been evaluated, the sample.
    pub fn finish(self) -> SuiteOutcome {
        let adversarial = stack((0..self.samples.len()).map(|row| self.found(row)), self.ball.center());
        let records = || self.samples.iter().map(|sample| &sample.record);
        SuiteOutcome {
            adversarial,
            success: records().map(|record| record.success).collect(),
            margin: records().map(|record| record.margin).collect(),
            distance: self.samples.iter().map(|sample| sample.distance).collect(),
            origin: records().map(|record| record.origin.clone()).collect(),
            forward: records().map(|record| record.forward).collect(),
            backward: records().map(|record| record.backward).collect(),
            flags: records().map(|record| record.flags).collect(),
        }
    }

    /// The point that is returned of a sample.
    fn found(&self, row: usize) -> &[f32] {
        let width = self.ball.width();
        match &self.samples[row].best[..] {
            [] => &self.centers[row * width..][..width],
            best => best,
        }
    }

    /// The forward passes that samples have had before a draw of the next evaluation.
    fn passes(&self, rows: &[usize], draw: u32) -> Vec<u32> {
        rows.iter().map(|&row| self.samples[row].record.forward + draw).collect()
    }

    fn fill_batch(&mut self) {
        let width = self.ball.width();
        while self.active.len() < self.setup.config.batch && self.next < self.samples.len() {
            let row = self.next;
            self.next += 1;
            if !self.samples[row].done {
                let x = &self.centers[row * width..][..width];
                self.active.push((row, SampleBall::new(self.ball.threat(), self.ball.radii()[row], x)));
            }
        }
    }

    /// Evaluates the points of a group of the active samples, and advances them.
    #[track_caller]
    fn evaluate(&mut self, group: &[usize], kind: QueryKind, logits: &dyn Fn(&Tensor, Query<'_>) -> Tensor) {
        let active = &self.active;
        let draws = self.setup.config.draws;
        let rows: Vec<usize> = group.iter().map(|&i| active[i].0).collect();
        let points: Vec<Vec<f32>> =
            group.iter().map(|&i| self.samples[active[i].0].point(&active[i].1).to_vec()).collect();
        let mut buffer = std::mem::take(&mut self.buffer);
        let batch = stack_in(&mut buffer, points.iter().map(|p| &p[..]), self.ball.center());
        let mut answers: Vec<Answer> = group.iter().map(|_| Answer::default()).collect();
        for draw in 0..draws {
            let tracked = if kind == QueryKind::Logits { batch.clone() } else { batch.requires_grad() };
            let passes = self.passes(&rows, draw);
            let z = logits(&tracked, Query { rows: &rows, passes: &passes });
            self.read(&z, &mut answers, &rows);
            // The draws of a random model are all needed to judge, and their graphs are not kept.
            if draws == 1 {
                self.enter(group, &points, &mut answers);
            }
            self.differentiate(&z, &tracked, group, &mut answers, &mut buffer);
        }
        if draws > 1 {
            self.enter(group, &points, &mut answers);
        }
        self.buffer = buffer;
        for (&i, mut answer) in group.iter().zip(answers) {
            let (row, ball) = &self.active[i];
            if answer.goes_on {
                answer.gradients.iter_mut().flatten().for_each(|g| *g /= draws as f32);
                let context = self.setup.context(*row, ball);
                self.samples[*row].advance(&context, &answer.z, answer.gradients);
            }
        }
    }

    #[track_caller]
    fn read(&self, z: &Tensor, answers: &mut [Answer], rows: &[usize]) {
        let (shape, m) = (z.shape(), answers.len());
        assert!(
            shape.rank() == 2 && shape[0] == m && shape[1] >= 2,
            "suite: logits of {m} points have shape {shape:?}, not ({m}, k) with k of at least 2"
        );
        let k = shape[1];
        for ((answer, z), &row) in answers.iter_mut().zip(z.array().to_f64().chunks(k)).zip(rows) {
            let label = self.setup.labels[row];
            assert!((label as usize) < k, "suite: label {label} of sample {row}, {k} classes");
            let classes = self.samples[row].classes();
            assert!(classes <= k, "suite: {k} classes, but {classes} when sample {row} was first evaluated");
            answer.z.push(z.to_vec());
        }
    }

    fn enter(&mut self, group: &[usize], points: &[Vec<f32>], answers: &mut [Answer]) {
        for ((&i, point), answer) in group.iter().zip(points).zip(answers) {
            let (row, ball) = &self.active[i];
            answer.goes_on = self.samples[*row].enter(&self.setup.context(*row, ball), point, &answer.z);
        }
    }

    /// Takes the gradients that the samples which go on want, one of each at a time.
    fn differentiate(
        &self,
        z: &Tensor,
        point: &Tensor,
        group: &[usize],
        answers: &mut [Answer],
        buffer: &mut Vec<f32>,
    ) {
        let k = z.shape()[1];
        let wanted = |(&i, answer): (&usize, &Answer)| {
            if self.setup.config.draws == 1 && !answer.goes_on {
                return Vec::new();
            }
            let (row, ball) = &self.active[i];
            let last = &answer.z[answer.z.len() - 1];
            self.samples[*row].cotangents(&self.setup.context(*row, ball), last)
        };
        let wanted: Vec<Vec<Vec<f64>>> = group.iter().zip(answers.iter()).map(wanted).collect();
        let width = self.ball.width();
        for number in 0..wanted.iter().map(Vec::len).max().unwrap_or(0) {
            let zero = vec![0.0; k];
            let slopes: Vec<f64> =
                wanted.iter().flat_map(|slopes| slopes.get(number).unwrap_or(&zero)).copied().collect();
            let slopes = Tensor::new(z.device(), *z.shape(), &slopes).cast(z.dtype());
            let gradient = vjp(z, &slopes, &[point], Recording::Off).remove(0);
            gradient.cast(DType::F32).array().read_into(buffer);
            for ((answer, slopes), gradient) in answers.iter_mut().zip(&wanted).zip(buffer.chunks(width)) {
                if number >= slopes.len() {
                    continue;
                }
                match answer.gradients.get_mut(number) {
                    Some(sum) => sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g),
                    None => answer.gradients.push(gradient.to_vec()),
                }
            }
        }
    }

    fn fingerprint(&self) -> u64 {
        let Setup { labels, keys, .. } = &self.setup;
        let threat = self.ball.threat();
        let (lo, hi) = self.ball.bounds();
        let mut key = Key::new(labels.len() as u64).fold(threat.norm.to_string().as_str());
        let radii = self.ball.radii().iter().chain([&lo, &hi]).map(|v| v.to_bits());
        let labels = labels.iter().map(|&y| u64::from(y));
        for part in radii.chain(labels).chain(keys.iter().map(|key| key.seed())) {
            key = key.fold(part);
        }
        self.centers.iter().fold(key, |key, v| key.fold(u64::from(v.to_bits()))).seed()
    }
}

/// The coordinates of samples as f32, in which the attacks of the suite step.
#[track_caller]
fn single_precision(x: &Tensor) -> Vec<f32> {
    let narrow = |v: f64| {
        assert!(
            f64::from(v as f32) == v,
            "suite: f32, in which its attacks step, does not hold the coordinate {v} of an input; round the inputs, with \
             `cast(DType::F32)`"
        );
        v as f32
    };
    x.array().to_f64().into_iter().map(narrow).collect()
}
