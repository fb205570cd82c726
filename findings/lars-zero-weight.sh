#!/usr/bin/env bash
# What: the layer-wise rate of LARS for a weight whose norm is zero. lightly
# 1.6.0 (torch 2.15.0), timm 1.0.31.
#
# Guess: the rate of a layer is trust * |w| / (|g| + decay * |w|), so a weight of
# norm zero does not move, or moves as little as its neighbors.
#
# Behavior: at norm zero (a last layer or a scale that starts at zero, as
# zero-initialized residual branches have) the layer-wise factor is replaced
# by 1: the weight moves by the whole rate, 1000 times its neighbor's step. With
# the rates that LARS is run at (several units) that is an explosion.
#
# TARRL: takes the same factor of 1; the documentation of every form says so.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'lightly==1.6.0' 'timm==1.0.31'
"$PYTHON" - <<'PY' || changed "a weight of norm zero moves otherwise"
import torch
from lightly.utils.lars import LARS
from timm.optim.lars import Lars


def steps(make):
    zero = torch.nn.Parameter(torch.zeros(2, 2))
    one = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = make([zero, one])
    zero.grad = torch.ones(2, 2)
    one.grad = torch.ones(2, 2)
    optimizer.step()
    return zero.detach().abs().max().item(), (1 - one.detach()).abs().max().item()


for name, make in (
    ("lightly", lambda p: LARS(p, lr=4.8, momentum=0.9, weight_decay=1e-6)),
    ("timm", lambda p: Lars(p, lr=4.8, momentum=0.9, weight_decay=1e-6)),
):
    at_zero, at_one = steps(make)
    print(f"{name}, rate 4.8, gradient 1: weight 0 moves by {at_zero:.4f}, weight 1 by {at_one:.4f}")
    assert abs(at_zero - 4.8) < 1e-5 and at_one < 0.01
PY
