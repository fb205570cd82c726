#!/usr/bin/env bash
# What: torch.nn.functional.normalize on a row of zeros, and the contrastive
# losses built on it. torch 2.15.0, lightly 1.6.0, pytorch-metric-learning 2.9.0.
#
# Guess: a row of zeros stays zero and gets no gradient; in half precision the
# same.
#
# Behavior: the value is zero, the gradient is that of a division by 1e-12: a
# single dead row (all units of a ReLU off) in a batch of eight gets a gradient
# of 2e11 from NT-Xent of both libraries, where its neighbors get 1e-2, and one
# step of training throws every weight above it away. In float16 the guard
# 1e-12 is itself zero: the row is NaN, and so is the loss.
#
# TARRL: has the same floor and gradient, and its documentation says so; losses are
#   in f32, where it is finite.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'lightly==1.6.0' 'pytorch-metric-learning==2.9.0'
"$PYTHON" - <<'PY' || changed "the gradient at a row of zeros is another"
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from pytorch_metric_learning.losses import NTXentLoss as MetricNTXent

z = torch.zeros(2, 4)
z[1] = 1
z.requires_grad_()
y = F.normalize(z)
y.sum().backward()
print("row of zeros, float32: value", y[0].tolist(), "gradient", z.grad[0].tolist())
assert y[0].abs().max() == 0 and z.grad[0].min() > 9e11

half = F.normalize(torch.zeros(1, 4, dtype=torch.float16))
print("row of zeros, float16: value", half[0].tolist())
assert half.isnan().all()

torch.manual_seed(0)
a = torch.randn(8, 16)
b = a + 0.1 * torch.randn(8, 16)
a[0] = 0
for name, loss in (
    ("lightly", lambda u: NTXentLoss(temperature=0.5)(u, b)),
    ("pytorch-metric-learning", lambda u: MetricNTXent(0.5)(torch.cat([u, b]), torch.arange(8).repeat(2))),
):
    u = a.clone().requires_grad_()
    value = loss(u)
    value.backward()
    norms = u.grad.norm(dim=1)
    print(f"{name}: loss {value.item():.4f}, gradient of the row of zeros {norms[0]:.3g}, largest other {norms[1:].max():.3g}")
    assert norms[0] > 1e10 and norms[1:].max() < 1
value = NTXentLoss(temperature=0.5)(a.half(), b.half())
print("lightly in float16: loss", value.item())
assert value.isnan()
PY
