#!/usr/bin/env bash
# What: torch.optim.lr_scheduler.CosineAnnealingLR loaded from a checkpoint to
# train for longer. torch 2.15.0.
#
# Guess: a schedule made with T_max=200 that loads the state saved at step 100
# of T_max=100 goes on along the longer cosine (from 0.5 down to 0).
#
# Behavior: the saved T_max replaces the one asked for, without a word; the rate
# is 0 at step 100 and then *rises* to the full rate at step 200. If only the
# schedule's state is loaded and the optimizer is new, the recursion divides by
# nearly nothing and the rate grows to thousands of times the base rate.
#
# TARRL: a rate is a function of the step and of the configuration, never of the
# rate before; a run that is resumed under another number of steps is refused or
# takes the new number, and says which.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0'
"$PYTHON" - <<'PY' || changed "a resumed cosine schedule is another"
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

weight = torch.nn.Parameter(torch.zeros(1))


def make(steps):
    optimizer = torch.optim.SGD([weight], lr=1.0)
    return optimizer, CosineAnnealingLR(optimizer, steps)


def run(optimizer, schedule, steps):
    rates = []
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


optimizer, schedule = make(100)
run(optimizer, schedule, 100)
saved = optimizer.state_dict(), schedule.state_dict()

optimizer, schedule = make(200)
optimizer.load_state_dict(saved[0])
schedule.load_state_dict(saved[1])
rates = run(optimizer, schedule, 100)
print(f"both loaded: T_max {schedule.T_max}, rate at 101 {rates[0]:.4f}, at 150 {rates[49]:.4f}, at 200 {rates[-1]:.4f}")
assert schedule.T_max == 100 and rates[0] < 1e-3 and abs(rates[-1] - 1) < 1e-6

optimizer, schedule = make(200)
schedule.load_state_dict(saved[1])
rates = run(optimizer, schedule, 100)
print(f"schedule alone loaded, base rate 1: largest rate {max(rates):.0f}")
assert max(rates) > 1000
PY
