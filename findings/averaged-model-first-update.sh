#!/usr/bin/env bash
# What: the moving average of weights of torch.optim.swa_utils.AveragedModel.
# torch 2.15.0, beside timm 1.0.31.
#
# Guess: with get_ema_multi_avg_fn(0.99), an average that starts at w0 is
# 0.99 w0 + 0.01 w1 after the first update, as in the papers of BYOL and DINO.
#
# Behavior: the first update copies the model: the average is w1, and the
# weights that AveragedModel was made with count for nothing. A teacher that is
# meant to start elsewhere than the student (a loaded teacher, a warm start)
# is lost in the first step. timm's ModelEmaV3 keeps w0; but called with
# step=0, as training loops do that count from zero, it copies too.
#
# TARRL: has no moving average of weights today; one that is added starts at the
# weights given to it, with a first update like every other, and a test says so.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'timm==1.0.31'
"$PYTHON" - <<'PY' || changed "the first update of an average is another"
import torch
from timm.utils import ModelEmaV3
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def fresh():
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    return model


model = fresh()
average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
model.weight.data.fill_(1.0)
average.update_parameters(model)
first = average.module.weight.item()
model.weight.data.fill_(0.0)
average.update_parameters(model)
second = average.module.weight.item()
print(f"torch: from 0, model at 1: {first} after the first update; model at 0: {second:.4f} after the second")
assert first == 1.0 and abs(second - 0.99) < 1e-6

for step, expected in ((None, 0.01), (0, 1.0)):
    model = fresh()
    average = ModelEmaV3(model, decay=0.99)
    model.weight.data.fill_(1.0)
    average.update(model) if step is None else average.update(model, step=step)
    value = average.module.weight.item()
    print(f"timm, step={step}: {value:.4f} after the first update")
    assert abs(value - expected) < 1e-6
PY
