#!/usr/bin/env bash
# What: the moving average of a network with batch normalization, as a teacher or
#   as the checkpoint that is published: torch.optim.swa_utils.AveragedModel
#   (PyTorch 2.15.0), timm 1.0.31's ModelEmaV3, lightly 1.6.0's update_momentum.
# Guess: all three hold the average of the weights and of the running statistics
#   (or at least the same thing).
# Behavior: three different things. AveragedModel copies the last statistics,
#   ModelEmaV3 averages them, update_momentum never touches them: a teacher in
#   eval() keeps mean 0 and variance 1 forever. So averaged weights stand beside
#   the statistics of other weights, and a state dict does not tell which.
# TARRL: its own average says which of the three; an import warns of means that
#   are all 0 and reads an AveragedModel | .
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'timm==1.0.31' 'lightly==1.6.0' 'numpy==2.4.6'
"$PYTHON" - <<'PY'
import copy
import torch
from lightly.models.utils import update_momentum
from timm.utils import ModelEmaV3
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

torch.manual_seed(0)
student = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.BatchNorm2d(2)).train()
averaged = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(0.9))
timm = ModelEmaV3(student, decay=0.9)
lightly = copy.deepcopy(student).eval()
optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
expected = student[1].running_mean.clone()
for step in range(10):
    student(torch.rand(8, 3, 8, 8) + step).square().mean().backward()
    optimizer.step()
    averaged.update_parameters(student)
    timm.update(student)
    update_momentum(student, lightly, 0.9)
    expected = 0.9 * expected + 0.1 * student[1].running_mean
found = {"student": student, "PyTorch": averaged.module, "timm": timm.module, "lightly": lightly}
for name, network in found.items():
    print(name, "weight", network[0].weight.flatten()[0].item(), "running mean", network[1].running_mean.tolist())
mean = {name: network[1].running_mean for name, network in found.items()}
weights = [found[name][0].weight for name in ("timm", "lightly")]
assert torch.allclose(*weights, atol=1e-6)
assert torch.equal(mean["PyTorch"], mean["student"])
assert torch.allclose(mean["timm"], expected, atol=1e-5) and not torch.allclose(mean["timm"], mean["student"], atol=0.1)
assert (mean["lightly"] == 0).all() and (lightly[1].running_var == 1).all()
PY
