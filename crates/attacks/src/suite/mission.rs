//! What happens to one sample in a suite: attack after attack, class after class, restart after restart.

use crate::label::ranks_of;
use crate::outcome::{AttackStatus, Flags, Origin};
use crate::suite::apgd::noise;
use crate::suite::bits;
use crate::suite::cell::Cell;
use crate::suite::climb::Climb;
use crate::suite::fab::Walk;
use crate::suite::home::Home;
use crate::suite::mode::Mode;
use crate::suite::plan::{AttackSpec, EarlyExit, RunConfig};
use crate::suite::score::{Score, difference, judge};
use crate::suite::square::{Extents, Squares};
use serde::{Deserialize, Serialize};
use tarrl_tensor::Key;

/// What all missions of a run share, and what is this sample's.
pub(crate) struct Orders<'a> {
    pub(crate) parts: &'a [AttackSpec],
    pub(crate) config: &'a RunConfig,
    pub(crate) extents: Extents,
    pub(crate) cell: &'a Cell,
    pub(crate) label: u32,
    pub(crate) key: Key,
}

/// A sample on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mission {
    part: usize,
    /// The rank of the class aimed at, from 0.
    target: usize,
    restart: usize,
    /// The other classes by descending clean logit.
    rivals: Vec<u32>,
    search: AttackDriver,
    /// What the sample has told of all classes that targeted FAB aims at, while that runs.
    home: Option<Home>,
    /// The distance of FAB's nearest point, for the restarts of the paper.
    #[serde(with = "bits")]
    nearest: f64,
    pub(crate) done: bool,
    pub(crate) success: bool,
    #[serde(with = "bits")]
    pub(crate) margin: f64,
    #[serde(with = "bits")]
    pub(crate) best: Vec<f32>,
    pub(crate) origin: Option<Origin>,
    pub(crate) forward: u32,
    pub(crate) backward: u32,
    pub(crate) flags: Flags,
}

/// The search of the moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum AttackDriver {
    /// The sample itself has still to be seen.
    Clean,
    Climb(Climb, Score),
    Walk(Walk),
    Squares(Squares),
}

/// How a point is best looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    /// Its gradients will be wanted, unless it is a success.
    Gradient,
    /// They may be wanted.
    Perhaps,
    /// They will not.
    Logits,
}

impl Mission {
    pub(crate) fn new() -> Self {
        Mission {
            part: 0,
            target: 0,
            restart: 0,
            rivals: Vec::new(),
            search: AttackDriver::Clean,
            home: None,
            nearest: f64::INFINITY,
            done: false,
            success: false,
            margin: f64::INFINITY,
            best: Vec::new(),
            origin: None,
            forward: 0,
            backward: 0,
            flags: Flags::default(),
        }
    }

    /// Where to look.
    pub(crate) fn point<'a>(&'a self, cell: &'a Cell) -> &'a [f32] {
        match &self.search {
            AttackDriver::Clean => &cell.x,
            AttackDriver::Climb(climb, _) => climb.point(),
            AttackDriver::Walk(walk) => walk.point(),
            AttackDriver::Squares(squares) => squares.point(),
        }
    }

    pub(crate) fn wish(&self) -> Wish {
        match &self.search {
            AttackDriver::Climb(climb, _) if climb.wants_gradient() => Wish::Gradient,
            AttackDriver::Walk(walk) if walk.beyond => Wish::Perhaps,
            AttackDriver::Walk(_) => Wish::Gradient,
            _ => Wish::Logits,
        }
    }

    /// Enters the logits (k) of each draw at the point, and says whether the search goes on there.
    pub(crate) fn enter(&mut self, orders: &Orders<'_>, point: &[f32], z: &[Vec<f64>]) -> bool {
        self.forward += orders.config.draws;
        let verdict = self.judge_all(orders, z);
        if orders.cell.contains(point) {
            let before = AttackStatus { success: self.success, margin: self.margin };
            if verdict.success && self.origin.is_none() {
                self.origin = Some(self.origin(orders));
            }
            if verdict.is_nearer_than(&before) || self.best.is_empty() {
                (self.success, self.margin) = (verdict.success, verdict.margin);
                self.best = point.to_vec();
            }
        }
        let lingers = match orders.config.leave {
            EarlyExit::AtOnce => false,
            EarlyExit::AfterRun => matches!(self.search, AttackDriver::Climb(..) | AttackDriver::Walk(_)),
            EarlyExit::Never => true,
        };
        self.done |= self.success && !lingers;
        !self.done
    }

    /// The last draw's verdict, or that of the median draw: success in most of them.
    fn judge_all(&self, orders: &Orders<'_>, z: &[Vec<f64>]) -> AttackStatus {
        let mut verdicts: Vec<AttackStatus> = z.iter().map(|z| judge(z, orders.label as usize)).collect();
        if orders.mode(self.part) == Mode::Paper {
            verdicts.sort_by_key(|v| !v.success);
            let middle = verdicts.len() / 2;
            let same = |v: &&AttackStatus| v.success == verdicts[middle].success;
            let margins = verdicts.iter().filter(same).map(|v| v.margin);
            let margin = margins.clone().sum::<f64>() / margins.count() as f64;
            return AttackStatus { success: verdicts[middle].success, margin };
        }
        verdicts[verdicts.len() - 1]
    }

    /// The gradients in the logits `z` (k) that the search wants pulled back to the point.
    pub(crate) fn cotangents(&self, orders: &Orders<'_>, z: &[f64]) -> Vec<Vec<f64>> {
        match &self.search {
            AttackDriver::Climb(climb, score) if climb.wants_gradient() => {
                vec![score.rate(z, orders.label as usize).1]
            }
            AttackDriver::Walk(_) if self.is_at_home(orders) => {
                let targets = orders.parts[self.part].targets(z.len()).unwrap_or(0);
                let aims = self.rivals[..targets].iter();
                aims.map(|&t| difference(z, t as usize, orders.label as usize).1).collect()
            }
            AttackDriver::Walk(walk) => walk.cotangents(z),
            _ => Vec::new(),
        }
    }

    /// Whether targeted FAB sets out from the sample: it does for each class, and one look serves them all.
    fn is_at_home(&self, orders: &Orders<'_>) -> bool {
        let aims =
            orders.parts.get(self.part).is_some_and(|part| matches!(part, AttackSpec::FabTargeted { .. }));
        let begins = matches!(&self.search, AttackDriver::Walk(walk) if walk.begins()) && self.restart == 0;
        aims && begins && orders.config.draws == 1
    }

    /// Whether passes to come are within the budget; if not, the sample is done.
    pub(crate) fn affords(&mut self, orders: &Orders<'_>, passes: u32) -> bool {
        let spent = self.forward + self.backward;
        let ends = orders.config.budget.is_some_and(|budget| spent + passes > budget);
        self.flags.out_of_budget |= ends;
        self.done |= ends;
        !ends
    }

    /// Takes in the logits of all draws and the gradients, and moves to the next point that has to be looked at.
    pub(crate) fn advance(&mut self, orders: &Orders<'_>, z: &[Vec<f64>], mut gradients: Vec<Vec<f32>>) {
        self.backward += gradients.len() as u32 * orders.config.draws;
        gradients.iter_mut().for_each(|gradient| self.check(gradient));
        let mut z = z.to_vec();
        if self.is_at_home(orders) {
            self.home = Some(Home::new(&z[0], &gradients));
            gradients = vec![gradients.swap_remove(self.target)];
        }
        loop {
            let here = self.point(orders.cell).to_vec();
            if self.go(orders, &z, &gradients) {
                // A step that leads nowhere has its answer already, unless that would be another draw.
                let wanted = self.cotangents(orders, &z[0]).len();
                let stays = orders.config.draws == 1 && bits::same(&here, self.point(orders.cell));
                if !stays || (wanted > 0 && wanted != gradients.len()) {
                    return;
                }
            } else {
                self.next(orders);
                let Some(home) = self.home.as_ref().filter(|_| !self.done && self.is_at_home(orders)) else {
                    return;
                };
                (z, gradients) = (vec![home.z.clone()], vec![home.gradient(self.target).to_vec()]);
            }
        }
    }

    /// Takes in what was seen and moves; `false` if the search has ended.
    fn go(&mut self, orders: &Orders<'_>, z: &[Vec<f64>], gradients: &[Vec<f32>]) -> bool {
        let (cell, label) = (orders.cell, orders.label as usize);
        let last = &z[z.len() - 1];
        match &mut self.search {
            AttackDriver::Clean => {
                self.rivals = ranks_of(last).into_iter().filter(|&class| class != orders.label).collect();
                false
            }
            AttackDriver::Climb(climb, score) => {
                let score = *score;
                let value = |z: &Vec<f64>| score.rate(z, label).0;
                let value = if orders.mode(self.part) == Mode::Reference {
                    value(last)
                } else {
                    z.iter().map(value).sum::<f64>() / z.len() as f64
                };
                self.flags.nan_value |= value.is_nan();
                climb.advance(cell, value, gradients.first().map_or(&[], |g| &g[..]))
            }
            AttackDriver::Walk(walk) => {
                let go_on = walk.advance(cell, last, gradients);
                self.nearest = self.nearest.min(walk.nearest);
                go_on
            }
            AttackDriver::Squares(squares) => {
                let key = self_key(orders, self.part, self.target, self.restart);
                squares.advance(cell, judge(last, label).margin, key, orders.config.draws == 1)
            }
        }
    }

    /// The next search, if there is one.
    fn next(&mut self, orders: &Orders<'_>) {
        if self.success && orders.config.leave != EarlyExit::Never {
            self.done = true;
            return;
        }
        let classes = self.rivals.len() + 1;
        if !matches!(self.search, AttackDriver::Clean) {
            self.restart += 1;
        }
        loop {
            let Some(part) = orders.parts.get(self.part) else {
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
                self.home = None;
            }
        }
        self.search = self.begin(orders, &orders.parts[self.part]);
    }

    fn begin(&self, orders: &Orders<'_>, part: &AttackSpec) -> AttackDriver {
        let cell = orders.cell;
        let key = self_key(orders, self.part, self.target, self.restart);
        let noise = || noise(cell.norm, cell.width(), key);
        let target = part.targets(self.rivals.len() + 1).map(|_| self.rivals[self.target]);
        match part {
            AttackSpec::Apgd { loss, config } => {
                AttackDriver::Climb(Climb::new(cell, config, &noise()), Score::Label(*loss))
            }
            AttackSpec::ApgdTargeted { loss, config, .. } => {
                let score = Score::Target(*loss, self.rivals[self.target]);
                AttackDriver::Climb(Climb::new(cell, config, &noise()), score)
            }
            AttackSpec::Fab { config } | AttackSpec::FabTargeted { config, .. } => {
                let walk = Walk::new(cell, config, orders.label, target);
                AttackDriver::Walk(if self.restart == 0 {
                    walk
                } else {
                    walk.restart(cell, &noise(), self.nearest)
                })
            }
            AttackSpec::Square { config } => {
                AttackDriver::Squares(Squares::new(cell, config, orders.extents, key))
            }
        }
    }

    fn origin(&self, orders: &Orders<'_>) -> Origin {
        let step = match &self.search {
            AttackDriver::Clean => return Origin { attack: "clean".to_owned(), ..Origin::default() },
            AttackDriver::Climb(climb, _) => climb.taken,
            AttackDriver::Walk(walk) => walk.taken,
            AttackDriver::Squares(squares) => squares.taken,
        };
        let part = &orders.parts[self.part];
        let target = part.targets(self.rivals.len() + 1).map(|_| self.rivals[self.target]);
        Origin { attack: part.name().to_owned(), target, restart: self.restart as u32, step }
    }

    /// A gradient that is not finite counts as zero.
    fn check(&mut self, gradient: &mut [f32]) {
        if gradient.iter().any(|g| !g.is_finite()) {
            self.flags.bad_gradient = true;
            gradient.fill(0.0);
        }
        self.flags.zero_gradient |= gradient.iter().all(|&g| g == 0.0);
    }
}

impl Orders<'_> {
    /// The mode of a part.
    pub(crate) fn mode(&self, part: usize) -> Mode {
        match &self.parts[part] {
            AttackSpec::Apgd { config, .. } | AttackSpec::ApgdTargeted { config, .. } => config.mode,
            AttackSpec::Fab { config } | AttackSpec::FabTargeted { config, .. } => config.mode,
            AttackSpec::Square { config } => config.mode,
        }
    }
}

/// The randomness of a search: the sample's, under the attack, the rank of its class and the restart.
fn self_key(orders: &Orders<'_>, part: usize, target: usize, restart: usize) -> Key {
    orders.key.fold(orders.parts[part].name()).fold(target).fold(restart)
}
