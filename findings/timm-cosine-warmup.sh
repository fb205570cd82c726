#!/usr/bin/env bash
# What: CosineLRScheduler of timm 1.0.31 (torch 2.15.0) with a linear warm-up.
# Guess: the rate rises to that of the optimizer, and the cosine begins there.
# Behavior: by default (warmup_prefix=False) the cosine runs from step 0 under the
#   warm-up and takes over where it is: after 10 of 100 steps the largest rate is
#   0.976 of the given one, and after 40 of 100 it falls from 0.975 to 0.655 in one
#   step. With warmup_prefix=True it is as guessed, and the schedule is longer by
#   the warm-up.
# TARRL: the cosine begins at the full rate where the warm-up ends.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'timm==1.0.31'
"$PYTHON" - <<'PY' || changed "the warm-up ends elsewhere"
import math

import torch
from timm.scheduler import CosineLRScheduler


def rates(warmup, prefix):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = CosineLRScheduler(optimizer, t_initial=100, warmup_t=warmup, warmup_lr_init=0.0, warmup_prefix=prefix)
    found = []
    for step in range(101 + warmup):
        schedule.step(step)
        found.append(optimizer.param_groups[0]["lr"])
    return found


for warmup in (10, 40):
    found = rates(warmup, False)
    print(f"warm-up {warmup} of 100: rates {found[warmup - 1]:.3f}, {found[warmup]:.3f}, {found[warmup + 1]:.3f}; largest {max(found):.3f}")
    assert abs(found[warmup] - (1 + math.cos(math.pi * warmup / 100)) / 2) < 1e-9
    assert max(found) < 0.98
    assert max(rates(warmup, True)) == 1.0
PY
