//! The state of one sample in a suite: attack after attack, class after class, restart after restart.

use crate::autoattack::apgd_state::{ApgdState, start_noise};
use crate::autoattack::clean_cache::CleanCache;
use crate::autoattack::config::{AttackSpec, RunConfig};
use crate::autoattack::fab_state::FabState;
use crate::autoattack::logit_losses::{LogitLoss, difference, status_of};
use crate::autoattack::mode::Mode;
use crate::autoattack::sample_attack::{CurrentAttack, LogitApgd, QueryKind, Seen};
use crate::autoattack::sample_ball::SampleBall;
use crate::autoattack::square_state::{Extents, SquareState};
use crate::classifier::losses::ranks_of;
use crate::driver::accounting::{SampleRecord, StoppingRule};
use crate::driver::bits;
use crate::driver::{AttackStatus, Origin, StateError, demand};
use serde::{Deserialize, Serialize};
use tarrl_tensor::Key;

/// What all samples of a run share, and the fixed part of this one.
pub(crate) struct SuiteContext<'a> {
    pub(crate) parts: &'a [AttackSpec],
    pub(crate) config: &'a RunConfig,
    pub(crate) extents: Extents,
    pub(crate) ball: &'a SampleBall,
    pub(crate) label: u32,
    pub(crate) key: Key,
}

const fn infinity() -> f64 {
    f64::INFINITY
}

fn is_infinity(distance: &f64) -> bool {
    *distance == f64::INFINITY
}

/// A sample on its way through the suite.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SampleState {
    part: usize,
    /// The rank of the class aimed at, from 0.
    target: usize,
    restart: usize,
    /// The other classes by descending clean logit.
    rivals: Vec<u32>,
    #[serde(rename = "search")]
    current: CurrentAttack,
    /// What the clean sample showed of all classes that targeted FAB aims at, while that runs.
    #[serde(rename = "home")]
    clean: Option<CleanCache>,
    /// The distance of FAB's nearest point, for the restarts of the paper.
    #[serde(with = "bits")]
    nearest: f64,
    pub(crate) done: bool,
    /// The distance of the nearest misclassified point seen; states of earlier builds have none.
    #[serde(with = "bits", default = "infinity", skip_serializing_if = "is_infinity")]
    pub(crate) distance: f64,
    /// The point of least margin in the ball; empty before the first.
    #[serde(with = "bits")]
    pub(crate) best: Vec<f32>,
    #[serde(flatten)]
    pub(crate) record: SampleRecord,
}

impl SampleState {
    pub(crate) fn new() -> Self {
        SampleState {
            part: 0,
            target: 0,
            restart: 0,
            rivals: Vec::new(),
            current: CurrentAttack::Clean,
            clean: None,
            nearest: f64::INFINITY,
            done: false,
            distance: f64::INFINITY,
            best: Vec::new(),
            record: SampleRecord::default(),
        }
    }

    /// An error unless a sample of this suite can be in such a state, on a model of so many classes.
    pub(crate) fn validate(&self, context: &SuiteContext<'_>, classes: usize) -> Result<(), StateError> {
        let width = context.ball.width();
        self.record.validate()?;
        demand(self.best.is_empty() || self.best.len() == width, "a point is of another length")?;
        if self.done {
            return Ok(());
        }
        let Some(part) = context.parts.get(self.part) else {
            return demand(false, "a sample is beyond the last attack");
        };
        if matches!(self.current, CurrentAttack::Clean) {
            let at_start = (self.part, self.target, self.restart) == (0, 0, 0);
            return demand(
                at_start && self.rivals.is_empty(),
                "a sample is in an attack, but has not been evaluated",
            );
        }
        let mut all = self.rivals.clone();
        all.push(context.label);
        all.sort_unstable();
        let is_all = all.iter().map(|&class| class as usize).eq(0..classes);
        demand(
            is_all && classes > 1,
            "the classes of a sample are not those of the model without its label",
        )?;
        let targets = part.targets(classes);
        demand(
            self.restart < part.restarts() && self.target < targets.unwrap_or(1),
            "a sample aims at a class or runs a restart that is not configured",
        )?;
        let cached = self.clean.as_ref();
        demand(
            cached.is_none_or(|cache| cache.fits(classes, targets.unwrap_or(0), width)),
            "what the clean sample showed is of another shape",
        )?;
        demand(
            self.current.can_follow(&self.begin(context, part), context.ball),
            "an attack is at a step or of a shape that is not configured",
        )
    }

    /// The point to evaluate next.
    pub(crate) fn point<'a>(&'a self, ball: &'a SampleBall) -> &'a [f32] {
        self.current.attack().map_or(&ball.x, |attack| attack.point())
    }

    /// The classes of the model, once the sample has been evaluated.
    pub(crate) fn classes(&self) -> usize {
        self.rivals.len() + 1
    }

    /// What is wanted there.
    pub(crate) fn query(&self) -> QueryKind {
        self.current.attack().map_or(QueryKind::Logits, |attack| attack.query())
    }

    /// Counts and judges the logits (k) of each draw at the point; whether the sample goes on to the gradients there and
    /// one more evaluation.
    pub(crate) fn enter(&mut self, context: &SuiteContext<'_>, point: &[f32], z: &[Vec<f64>]) -> bool {
        let rule = context.rule();
        self.record.count(rule.cost, 0);
        let status = self.judge(context, z);
        if status.success {
            self.distance = self.distance.min(context.ball.distance(point));
        }
        if context.ball.contains(point) {
            let is_first = status.success && self.record.origin.is_none();
            let origin = if is_first { self.origin(context) } else { Origin::default() };
            if self.record.note_status(status, || origin) || self.best.is_empty() {
                self.record.margin = status.margin;
                self.best = point.to_vec();
            }
        }
        let in_run = matches!(self.current, CurrentAttack::Apgd(_) | CurrentAttack::Fab(_));
        let gradients = self.cotangents(context, &z[0]).len() as u32;
        self.done |= !self.record.goes_on(&rule, in_run, gradients + 1);
        !self.done
    }

    /// The status of the last draw, or that of the median draw: success in most of them.
    fn judge(&self, context: &SuiteContext<'_>, z: &[Vec<f64>]) -> AttackStatus {
        let mut draws: Vec<AttackStatus> = z.iter().map(|z| status_of(z, context.label as usize)).collect();
        if context.mode(self.part) == Mode::Paper {
            draws.sort_by_key(|v| !v.success);
            let middle = draws.len() / 2;
            let same = |v: &&AttackStatus| v.success == draws[middle].success;
            let margins = draws.iter().filter(same).map(|v| v.margin);
            let margin = margins.clone().sum::<f64>() / margins.count() as f64;
            return AttackStatus { success: draws[middle].success, margin };
        }
        draws[draws.len() - 1]
    }

    /// The cotangents in the logits `z` (k) whose vector-Jacobian products are wanted at the point.
    pub(crate) fn cotangents(&self, context: &SuiteContext<'_>, z: &[f64]) -> Vec<Vec<f64>> {
        let label = context.label as usize;
        if self.shares_clean_evaluation(context) {
            let targets = context.parts[self.part].targets(self.classes()).unwrap_or(0);
            return self.rivals[..targets].iter().map(|&t| difference(z, t as usize, label).1).collect();
        }
        self.current.attack().map_or_else(Vec::new, |attack| attack.cotangents(z, label))
    }

    /// Whether targeted FAB sets out from the clean sample: it does for each class, and one evaluation serves them all.
    fn shares_clean_evaluation(&self, context: &SuiteContext<'_>) -> bool {
        let part = context.parts.get(self.part);
        let is_targeted = part.is_some_and(|part| matches!(part, AttackSpec::FabTargeted { .. }));
        let begins = matches!(&self.current, CurrentAttack::Fab(fab) if fab.begins()) && self.restart == 0;
        is_targeted && begins && context.config.draws == 1
    }

    /// Takes in the logits of all draws and the gradients, and moves to the next point that has to be evaluated.
    pub(crate) fn advance(
        &mut self,
        context: &SuiteContext<'_>,
        z: &[Vec<f64>],
        mut gradients: Vec<Vec<f32>>,
    ) {
        self.record.count(0, gradients.len() as u32 * context.config.draws);
        gradients.iter_mut().for_each(|gradient| self.check(gradient));
        let mut z = z.to_vec();
        if self.shares_clean_evaluation(context) {
            self.clean = Some(CleanCache::new(&z[0], &gradients));
            gradients = vec![gradients.swap_remove(self.target)];
        }
        loop {
            let here = self.point(context.ball).to_vec();
            if self.step(context, &z, &gradients) {
                // A step that leads nowhere has its answer already, unless that would be another draw.
                let wanted = self.cotangents(context, &z[0]).len();
                let stays = context.config.draws == 1 && bits::same(&here, self.point(context.ball));
                if !stays || (wanted > 0 && wanted != gradients.len()) {
                    return;
                }
            } else {
                self.next_attack(context);
                let shares = !self.done && self.shares_clean_evaluation(context);
                let Some(clean) = self.clean.as_ref().filter(|_| shares) else {
                    return;
                };
                (z, gradients) = (vec![clean.z.clone()], vec![clean.gradient(self.target).to_vec()]);
            }
        }
    }

    /// A gradient that is not finite is taken as zero.
    fn check(&mut self, gradient: &mut [f32]) {
        let is_finite = gradient.iter().all(|g| g.is_finite());
        if !is_finite {
            gradient.fill(0.0);
        }
        self.record.note_gradient(gradient.iter().all(|&g| g == 0.0), is_finite);
    }

    /// One step of the attack; `false` if it has ended.
    fn step(&mut self, context: &SuiteContext<'_>, z: &[Vec<f64>], gradients: &[Vec<f32>]) -> bool {
        let label = context.label as usize;
        let key = context.run_key(self.part, self.target, self.restart);
        let Some(attack) = self.current.attack_mut() else {
            let ranks = ranks_of(&z[z.len() - 1]).into_iter();
            self.rivals = ranks.filter(|&class| class != context.label).collect();
            return false;
        };
        let goes_on = attack.advance(context.ball, &Seen { z, gradients, label, key }, &mut self.record);
        if let CurrentAttack::Fab(fab) = &self.current {
            self.nearest = self.nearest.min(fab.nearest);
        }
        goes_on
    }

    /// Sets out on the next run of an attack, if there is one.
    fn next_attack(&mut self, context: &SuiteContext<'_>) {
        if self.record.leaves(&context.rule(), false) {
            self.done = true;
            return;
        }
        let classes = self.classes();
        if !matches!(self.current, CurrentAttack::Clean) {
            self.restart += 1;
        }
        loop {
            let Some(part) = context.parts.get(self.part) else {
                self.done = true;
                return;
            };
            if self.restart < part.restarts() && self.target < part.targets(classes).unwrap_or(1) {
                break;
            }
            self.restart = 0;
            self.target += 1;
            self.nearest = f64::INFINITY;
            if self.target >= part.targets(classes).unwrap_or(1) {
                (self.target, self.part) = (0, self.part + 1);
                self.clean = None;
            }
        }
        self.current = self.begin(context, &context.parts[self.part]);
    }

    fn begin(&self, context: &SuiteContext<'_>, part: &AttackSpec) -> CurrentAttack {
        let ball = context.ball;
        let key = context.run_key(self.part, self.target, self.restart);
        let noise = || start_noise(ball.norm, ball.width(), key);
        let apgd =
            |config, loss| CurrentAttack::Apgd(LogitApgd(ApgdState::new(ball, config, &noise()), loss));
        match part {
            AttackSpec::Apgd { loss, config } => apgd(config, LogitLoss::Label(*loss)),
            AttackSpec::ApgdTargeted { loss, config, .. } => {
                apgd(config, LogitLoss::Target(*loss, self.rivals[self.target]))
            }
            AttackSpec::Fab { config } | AttackSpec::FabTargeted { config, .. } => {
                let fab = FabState::new(ball, config, context.label, self.target_class(part));
                CurrentAttack::Fab(if self.restart == 0 {
                    fab
                } else {
                    fab.restart(ball, &noise(), self.nearest)
                })
            }
            AttackSpec::Square { config } => {
                CurrentAttack::Square(SquareState::new(ball, config, context.extents, key))
            }
        }
    }

    /// The class that a part aims at now, if it does.
    fn target_class(&self, part: &AttackSpec) -> Option<u32> {
        part.targets(self.classes()).map(|_| self.rivals[self.target])
    }

    fn origin(&self, context: &SuiteContext<'_>) -> Origin {
        let Some(attack) = self.current.attack() else {
            return Origin { attack: "clean".to_owned(), ..Origin::default() };
        };
        let part = &context.parts[self.part];
        let (attack, step) = (part.name().to_owned(), attack.steps());
        Origin { attack, target: self.target_class(part), restart: self.restart as u32, step }
    }
}

impl SuiteContext<'_> {
    /// When the sample leaves.
    fn rule(&self) -> StoppingRule {
        let RunConfig { early_exit, budget, draws: cost, .. } = *self.config;
        StoppingRule { early_exit, budget, cost }
    }

    /// The mode of a part.
    fn mode(&self, part: usize) -> Mode {
        match &self.parts[part] {
            AttackSpec::Apgd { config, .. } | AttackSpec::ApgdTargeted { config, .. } => config.mode,
            AttackSpec::Fab { config } | AttackSpec::FabTargeted { config, .. } => config.mode,
            AttackSpec::Square { config } => config.mode,
        }
    }

    /// The randomness of a run: the sample's, under the attack, the rank of its class and the restart.
    fn run_key(&self, part: usize, target: usize, restart: usize) -> Key {
        self.key.fold(self.parts[part].name()).fold(target).fold(restart)
    }
}
