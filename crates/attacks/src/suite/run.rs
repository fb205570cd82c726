//! A suite of attacks on a classifier: the points of many samples, each at its own place in the suite,
//! gathered into batches.

use crate::ball::Ball;
use crate::eot::{Confirmation, Eot};
use crate::outcome::{Flags, Origin};
use crate::problem::Query;
use crate::state::StateError;
use crate::suite::apgd::{stack, stack_in};
use crate::suite::cell::Cell;
use crate::suite::mission::{Mission, Orders, Wish};
use crate::suite::plan::{AttackSpec, AutoAttack, RunConfig};
use crate::suite::score::judge;
use crate::suite::square::Extents;
use crate::threat::Threat;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{DType, Key, Recording, Tensor, vjp};

/// AutoAttack on the samples of `x` `(n, h, w, c)` or `(n, d)`: `logits` of points `(m, …)` to `(m, k)`, one
/// label below `k` and one key for each sample.
///
/// `logits` is a deterministic function of each row; a random one is told by [`SuiteRun`] which draw
/// it is to make.
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

/// What a suite found, row by row of the batch.
#[derive(Clone, Debug)]
pub struct SuiteOutcome {
    /// `(n, …)`: the misclassified point of least margin that was seen in the ball, or the point of least margin;
    /// `success` says which it is.
    pub adversarial: Tensor,
    /// `(n)`: whether that point is misclassified.
    pub success: Vec<bool>,
    /// `(n)`: z_y − max_{i≠y} z_i there.
    pub margin: Vec<f64>,
    /// `(n)`: which attack, class, restart and step found the first misclassified point.
    pub origin: Vec<Option<Origin>>,
    /// `(n)`: forward passes of each sample.
    pub forward: Vec<u32>,
    /// `(n)`: backward passes whose gradient the sample used.
    pub backward: Vec<u32>,
    /// `(n)`: what went wrong on the way.
    pub flags: Vec<Flags>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Samples in all.
    pub samples: usize,
    /// Samples whose fate is known.
    pub finished: usize,
    /// Those of them that are broken.
    pub broken: usize,
    /// Passes so far, of all samples.
    pub forward: u64,
    /// Those backward.
    pub backward: u64,
}

/// A suite in progress: `while run.round(logits) {}` and then [`finish`](SuiteRun::finish), with a
/// [`state`](SuiteRun::state) to write down wherever it may be interrupted.
///
/// A sample is at its own place in the suite, and a batch is made of the points of as many samples as
/// `config.batch` allows, whatever attacks they are in. One that is finished makes room for the next, so
/// that batches stay full to the end. Given a model whose rows do not depend on each other, a sample's
/// result depends on itself and its key alone.
pub struct SuiteRun {
    parts: Vec<AttackSpec>,
    config: RunConfig,
    ball: Ball,
    centers: Vec<f32>,
    labels: Vec<u32>,
    keys: Vec<Key>,
    extents: Extents,
    missions: Vec<Mission>,
    /// The samples in flight.
    flying: Vec<(usize, Cell)>,
    /// The first sample that has not taken off.
    next: usize,
    /// Room for the points and gradients of a batch, kept between rounds.
    room: Vec<f32>,
}

/// A [`SuiteRun`] written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SuiteState {
    /// The fingerprint of the samples.
    problem: u64,
    parts: Vec<AttackSpec>,
    config: RunConfig,
    missions: Vec<Mission>,
}

impl SuiteState {
    /// Samples whose fate is known.
    pub fn finished(&self) -> usize {
        self.missions.iter().filter(|mission| mission.done).count()
    }
}

impl SuiteRun {
    /// Nothing done yet. Each sample has its own radius: see [`Threat::around_each`].
    ///
    /// # Panics
    /// If there are not as many labels and keys as samples, a batch or the number of draws is zero, the norm
    /// is l0, levels are asked for, or samples are neither images nor vectors.
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
            "suite: a batch and a look need at least one sample and draw"
        );
        assert!(ball.threat().norm.dual().is_some(), "suite: its attacks have no step for l0");
        assert!(ball.threat().levels.is_none(), "suite: its attacks take any value, not levels");
        assert!(!parts.is_empty(), "suite: no attack");
        SuiteRun {
            extents: Extents::of(ball.center().shape()),
            centers: ball.center().cast(DType::F32).to_vec::<f32>(),
            parts,
            config,
            ball,
            labels: labels.to_vec(),
            keys: keys.to_vec(),
            missions: vec![Mission::new(); n],
            flying: Vec::new(),
            next: 0,
            room: Vec::new(),
        }
    }

    /// Goes on with an interrupted run of the same samples and attacks; batches may be of another size.
    ///
    /// # Errors
    /// If the state is of other samples, radii, labels or keys, or of other attacks.
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
        state: &SuiteState,
    ) -> Result<Self, StateError> {
        let mut run = SuiteRun::new(ball, labels, keys, parts, config);
        let config = RunConfig { batch: config.batch, ..state.config };
        if state.parts != run.parts || config != run.config {
            let said = |parts: &[AttackSpec], config: &RunConfig| format!("{parts:?} with {config:?}");
            let (found, wanted) = (said(&state.parts, &state.config), said(&run.parts, &run.config));
            return Err(StateError::OtherConfig { found, wanted });
        }
        if state.problem != run.fingerprint() || state.missions.len() != run.missions.len() {
            return Err(StateError::OtherProblem);
        }
        run.missions.clone_from(&state.missions);
        Ok(run)
    }

    /// What [`resume`](SuiteRun::resume) needs.
    pub fn state(&self) -> SuiteState {
        SuiteState {
            problem: self.fingerprint(),
            parts: self.parts.clone(),
            config: self.config,
            missions: self.missions.clone(),
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let count = |f: fn(&Mission) -> bool| self.missions.iter().filter(|&m| f(m)).count();
        Progress {
            samples: self.missions.len(),
            finished: count(|m| m.done),
            broken: count(|m| m.done && m.success),
            forward: self.missions.iter().map(|m| u64::from(m.forward)).sum(),
            backward: self.missions.iter().map(|m| u64::from(m.backward)).sum(),
        }
    }

    /// One look at a point of each sample in flight: `logits` of points `(m, …)` to `(m, k)`; a random model
    /// draws by what it is told of the visit. `false` if there is nothing left to do.
    ///
    /// Points whose gradients are wanted, those where they may be, and those where they are not are looked at
    /// in batches of their own, so that nobody's backward pass is computed in vain.
    ///
    /// # Panics
    /// If `logits` answers in another shape than `(m, k)` with `k` of at least 2, or a label is not below `k`.
    #[track_caller]
    pub fn round(&mut self, logits: &dyn Fn(&Tensor, Query<'_>) -> Tensor) -> bool {
        self.take_off();
        let wishes: Vec<Wish> = self.flying.iter().map(|(row, _)| self.missions[*row].wish()).collect();
        for wish in [Wish::Gradient, Wish::Perhaps, Wish::Logits] {
            let group: Vec<usize> = (0..wishes.len()).filter(|&i| wishes[i] == wish).collect();
            if !group.is_empty() {
                self.visit(&group, wish, logits);
            }
        }
        let missions = &self.missions;
        self.flying.retain(|(row, _)| !missions[*row].done);
        !self.flying.is_empty() || self.next < self.missions.len()
    }

    /// What fresh draws of a random model say of the points found so far, sample by sample: passes that the attack was
    /// never told, and that are not counted as its own. An attack that looks often enough is lucky once.
    ///
    /// # Panics
    /// As [`round`](SuiteRun::round), and if there are no draws or the share is not in (0, 1].
    #[track_caller]
    pub fn confirm(&self, logits: &dyn Fn(&Tensor, Query<'_>) -> Tensor, eot: &Eot) -> Vec<Confirmation> {
        eot.check();
        let rows: Vec<usize> = (0..self.missions.len()).collect();
        let mut found = Vec::with_capacity(rows.len());
        for rows in rows.chunks(self.config.batch) {
            let points = stack(rows.iter().map(|&row| self.found(row)), self.ball.center());
            let mut answers: Vec<Answer> = rows.iter().map(|_| Answer::default()).collect();
            for draw in 0..eot.draws {
                let passes: Vec<u32> = rows.iter().map(|&row| self.missions[row].forward + draw).collect();
                self.read(&logits(&points, Query { rows, passes: &passes }), &mut answers, rows);
            }
            for (answer, &row) in answers.iter().zip(rows) {
                let draws: Vec<_> = answer.z.iter().map(|z| judge(z, self.labels[row] as usize)).collect();
                found.push(eot.conclude(&draws));
            }
        }
        found
    }

    /// The point that is returned of a sample.
    fn found(&self, row: usize) -> &[f32] {
        let width = self.ball.width();
        match &self.missions[row].best[..] {
            [] => &self.centers[row * width..][..width],
            best => best,
        }
    }

    /// What was found; of a sample that nobody has looked at, the sample.
    pub fn finish(self) -> SuiteOutcome {
        let adversarial = stack((0..self.missions.len()).map(|row| self.found(row)), self.ball.center());
        let each = |f: fn(&Mission) -> u32| self.missions.iter().map(f).collect();
        SuiteOutcome {
            adversarial,
            success: self.missions.iter().map(|m| m.success).collect(),
            margin: self.missions.iter().map(|m| m.margin).collect(),
            origin: self.missions.iter().map(|m| m.origin.clone()).collect(),
            forward: each(|m| m.forward),
            backward: each(|m| m.backward),
            flags: self.missions.iter().map(|m| m.flags).collect(),
        }
    }

    fn take_off(&mut self) {
        let width = self.ball.width();
        while self.flying.len() < self.config.batch && self.next < self.missions.len() {
            let row = self.next;
            self.next += 1;
            if !self.missions[row].done {
                let x = &self.centers[row * width..][..width];
                self.flying.push((row, Cell::new(self.ball.threat(), self.ball.radii()[row], x)));
            }
        }
    }

    #[track_caller]
    fn visit(&mut self, group: &[usize], wish: Wish, logits: &dyn Fn(&Tensor, Query<'_>) -> Tensor) {
        let flying = &self.flying;
        let rows: Vec<usize> = group.iter().map(|&i| flying[i].0).collect();
        let points: Vec<Vec<f32>> =
            group.iter().map(|&i| self.missions[flying[i].0].point(&flying[i].1).to_vec()).collect();
        let mut room = std::mem::take(&mut self.room);
        let batch = stack_in(&mut room, points.iter().map(|p| &p[..]), self.ball.center());
        let mut answers: Vec<Answer> = group.iter().map(|_| Answer::default()).collect();
        for draw in 0..self.config.draws {
            let tracked = if wish == Wish::Logits { batch.clone() } else { batch.requires_grad() };
            let passes: Vec<u32> = rows.iter().map(|&row| self.missions[row].forward + draw).collect();
            let z = logits(&tracked, Query { rows: &rows, passes: &passes });
            self.read(&z, &mut answers, &rows);
            // The draws of a random model are all needed for a verdict, and their graphs are not kept.
            if self.config.draws == 1 {
                self.enter(group, &points, &mut answers);
            }
            self.differentiate(&z, &tracked, group, &mut answers, &mut room);
        }
        if self.config.draws > 1 {
            self.enter(group, &points, &mut answers);
        }
        self.room = room;
        for (&i, mut answer) in group.iter().zip(answers) {
            let (row, cell) = &self.flying[i];
            if answer.goes_on {
                let draws = self.config.draws as f32;
                answer.gradients.iter_mut().flatten().for_each(|g| *g /= draws);
                let orders =
                    orders(&self.parts, &self.config, self.extents, cell, self.labels[*row], self.keys[*row]);
                self.missions[*row].advance(&orders, &answer.z, answer.gradients);
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
            assert!(
                (self.labels[row] as usize) < k,
                "suite: label {} of sample {row}, {k} classes",
                self.labels[row]
            );
            answer.z.push(z.to_vec());
        }
    }

    fn enter(&mut self, group: &[usize], points: &[Vec<f32>], answers: &mut [Answer]) {
        for ((&i, point), answer) in group.iter().zip(points).zip(answers) {
            let (row, cell) = &self.flying[i];
            let orders =
                orders(&self.parts, &self.config, self.extents, cell, self.labels[*row], self.keys[*row]);
            let mission = &mut self.missions[*row];
            // A step is worth its gradients only if its end can be looked at.
            let gradients = mission.cotangents(&orders, &answer.z[0]).len() as u32;
            answer.goes_on = mission.enter(&orders, point, &answer.z)
                && mission.affords(&orders, (gradients + 1) * self.config.draws);
        }
    }

    /// Pulls back what those who go on want, one gradient of each at a time.
    fn differentiate(
        &self,
        z: &Tensor,
        point: &Tensor,
        group: &[usize],
        answers: &mut [Answer],
        room: &mut Vec<f32>,
    ) {
        let k = z.shape()[1];
        let wanted: Vec<Vec<Vec<f64>>> = group
            .iter()
            .zip(answers.iter())
            .map(|(&i, answer)| {
                if self.config.draws == 1 && !answer.goes_on {
                    return Vec::new();
                }
                let (row, cell) = &self.flying[i];
                let orders =
                    orders(&self.parts, &self.config, self.extents, cell, self.labels[*row], self.keys[*row]);
                self.missions[*row].cotangents(&orders, &answer.z[answer.z.len() - 1])
            })
            .collect();
        let width = self.ball.width();
        for number in 0..wanted.iter().map(Vec::len).max().unwrap_or(0) {
            let zero = vec![0.0; k];
            let slopes: Vec<f64> =
                wanted.iter().flat_map(|slopes| slopes.get(number).unwrap_or(&zero)).copied().collect();
            let slopes = Tensor::new(z.device(), *z.shape(), &slopes).cast(z.dtype());
            let gradient = vjp(z, &slopes, &[point], Recording::Off).remove(0);
            gradient.cast(DType::F32).array().read_into(room);
            for ((answer, slopes), gradient) in answers.iter_mut().zip(&wanted).zip(room.chunks(width)) {
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
        let threat = self.ball.threat();
        let (lo, hi) = self.ball.bounds();
        let mut key = Key::new(self.labels.len() as u64).fold(threat.norm.to_string().as_str());
        let radii = self.ball.radii().iter().chain([&lo, &hi]).map(|v| v.to_bits());
        let labels = self.labels.iter().map(|&y| u64::from(y));
        for part in radii.chain(labels).chain(self.keys.iter().map(|key| key.seed())) {
            key = key.fold(part);
        }
        self.centers.iter().fold(key, |key, v| key.fold(u64::from(v.to_bits()))).seed()
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

fn orders<'a>(
    parts: &'a [AttackSpec],
    config: &'a RunConfig,
    extents: Extents,
    cell: &'a Cell,
    label: u32,
    key: Key,
) -> Orders<'a> {
    Orders { parts, config, extents, cell, label, key }
}
