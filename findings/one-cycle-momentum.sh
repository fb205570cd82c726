#!/usr/bin/env bash
# What: torch.optim.lr_scheduler.OneCycleLR of torch 2.15.0, common in fast adversarial
# training, on an optimizer with momentum.
#
# Guess: a rate schedule changes the rate.
#
# Behavior: it changes the momentum as well, from the moment it is made: SGD with
# momentum 0.9 starts at 0.95, goes down to 0.85 and back to 0.95; Adam's first
# beta likewise (0.9 becomes 0.95). Since SGD's effective step is rate / (1 -
# momentum), the first steps are twice as long as those of the same rate without
# the schedule.
#
# TARRL: a schedule changes the rate alone; one that changes the momentum too has it
# in its name and in the record of the run.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0'
"$PYTHON" - <<'PY' || changed "the schedule treats the momentum otherwise"
import torch
from torch.optim.lr_scheduler import OneCycleLR

weight = torch.nn.Parameter(torch.zeros(1))
for optimizer, read in (
    (torch.optim.SGD([weight], lr=0.1, momentum=0.9), lambda group: group["momentum"]),
    (torch.optim.Adam([weight], lr=0.1), lambda group: group["betas"][0]),
):
    schedule = OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    values = [read(optimizer.param_groups[0])]
    for _ in range(9):
        optimizer.step()
        schedule.step()
        values.append(read(optimizer.param_groups[0]))
    print(type(optimizer).__name__, "given 0.9, then:", [round(v, 3) for v in values])
    assert abs(values[0] - 0.95) < 1e-6 and abs(min(values) - 0.85) < 1e-6 and abs(values[-1] - 0.95) < 1e-6
PY
