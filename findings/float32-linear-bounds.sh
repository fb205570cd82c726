#!/usr/bin/env bash
# What: bounds of two public verifiers on small ReLU networks: CROWN of
# bound-propagation 0.4.7 and the dual bound of convex-adversarial 0.4.4
# (torch 2.15.0), against the outputs in float64 at the corners of the box (the
# smaller of the exact box and the one in float32).
#
# Guess: sound for the stored weights: relaxations are loose enough to cover
# float32 rounding wherever the radius is not zero.
#
# Behavior: while no unit changes its sign in the box, the bound is attained and
# nothing covers rounding. Of 40 random networks (6-16-16-3) every one has a
# corner outside its bounds at radius 1e-6 and 1e-4, most at 1e-2, by up to
# 3e-8; none at 0.1. Interval bounds of bound-propagation hold from 1e-6 on.
#
# TARRL: computes bounds in f64 and rounds outward; numbers of such tools are
# compared with a tolerance of 1e-7 of the output's size, never bit by bit.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'numpy==2.4.6' 'bound-propagation==0.4.7' 'convex-adversarial==0.4.4'
"$PYTHON" - <<'PY' || changed "the bounds cover other points"
import itertools
import torch
from torch import nn
from bound_propagation import BoundModelFactory, HyperRectangle
from convex_adversarial import DualNetwork

torch.set_num_threads(1)
corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=6)), dtype=torch.float64)


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))


def intervals(model, x, radius):
    b = BoundModelFactory().build(model).ibp(HyperRectangle.from_eps(x, radius))
    return b.lower, b.upper


def crown(model, x, radius):
    b = BoundModelFactory().build(model).crown(HyperRectangle.from_eps(x, radius)).concretize()
    return b.lower, b.upper


def dual(model, x, radius):
    d = DualNetwork(model, x, radius)
    unit = torch.eye(3)[None]
    a, b = d(unit)[0], -d(-unit)[0]
    return torch.minimum(a, b), torch.maximum(a, b)


outside = {}
for name, bound in (("bound-propagation IBP", intervals), ("bound-propagation CROWN", crown), ("convex-adversarial dual", dual)):
    for radius in (1e-6, 1e-4, 1e-2, 0.1):
        networks, worst = 0, 0.0
        for seed in range(40):
            model = network(seed)
            x = torch.rand(1, 6)
            low, high = (v.detach().double().flatten() for v in bound(model, x, radius))
            exact = x.double()
            left = torch.maximum(exact - radius, (x - radius).double())
            right = torch.minimum(exact + radius, (x + radius).double())
            outputs = network(seed).double()(torch.where(corners < 0, left, right))
            excess = max((low - outputs).max().item(), (outputs - high).max().item())
            networks += excess > 0
            worst = max(worst, excess)
        outside[name, radius] = networks
        print(f"{name}, radius {radius:g}: {networks} of 40 networks have a corner outside, by up to {worst:.1g}")
        assert worst < 1e-6
for name in ("bound-propagation CROWN", "convex-adversarial dual"):
    assert outside[name, 1e-4] >= 35 and outside[name, 1e-2] >= 10 and outside[name, 0.1] == 0
assert outside["bound-propagation IBP", 1e-4] == 0
PY
