#!/usr/bin/env bash
# What: bounds of public verifiers on small ReLU networks: CROWN of
# bound-propagation 0.4.7 and the dual bound of convex-adversarial 0.4.4 (torch
# 2.15.0), CROWN of auto-LiRPA 0.3 (the newest of the package index; it wants a
# torch below 1.13 and runs on 1.13.1), against the outputs in float64 at the
# corners of the box (the smaller of the exact box and the one in float32).
#
# Guess: sound for the stored weights: relaxations are loose enough to cover
# float32 rounding wherever the radius is not zero.
#
# Behavior: while no unit changes its sign in the box, the bound is attained and
# nothing covers rounding. Of 40 random networks (6-16-16-3) 39 or 40 have a
# corner outside their bounds at radius 1e-6 and 1e-4 and more than half at 1e-2,
# by up to 3e-8, with each of the three. Interval bounds hold from 1e-6 on.
#
# TARRL: computes bounds in f64 and rounds outward; numbers of such tools are
# compared with a tolerance of 1e-7 of the output's size, never bit by bit.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cat >"$WORK/check.py" <<'PY'
import itertools
import sys
import torch
from torch import nn

torch.set_num_threads(1)
corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=6)), dtype=torch.float64)


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))


def bound_propagation(kind):
    from bound_propagation import BoundModelFactory, HyperRectangle

    def bound(model, x, radius):
        bounds = getattr(BoundModelFactory().build(model), kind)(HyperRectangle.from_eps(x, radius))
        bounds = bounds.concretize() if kind == "crown" else bounds
        return bounds.lower, bounds.upper

    return bound


def convex_adversarial(kind):
    from convex_adversarial import DualNetwork

    def bound(model, x, radius):
        dual = DualNetwork(model, x, radius)
        unit = torch.eye(3)[None]
        a, b = dual(unit)[0], -dual(-unit)[0]
        return torch.minimum(a, b), torch.maximum(a, b)

    return bound


def auto_lirpa(kind):
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm

    def bound(model, x, radius):
        box = BoundedTensor(x, PerturbationLpNorm(norm=float("inf"), eps=radius))
        return BoundedModule(model, torch.empty_like(x)).compute_bounds(x=(box,), method=kind)

    return bound


def examine(name, bound, intervals):
    outside = {}
    for radius in (1e-6, 1e-4, 1e-2):
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
        outside[radius] = networks
        print(f"{name}, radius {radius:g}: {networks} of 40 networks have a corner outside, by up to {worst:.1g}")
        assert worst < 1e-6
    if intervals:
        assert outside[1e-4] == 0 and outside[1e-2] == 0
    else:
        assert outside[1e-6] >= 35 and outside[1e-4] >= 35 and outside[1e-2] >= 10


if sys.argv[1] == "new":
    examine("bound-propagation, intervals", bound_propagation("ibp"), True)
    examine("bound-propagation, CROWN", bound_propagation("crown"), False)
    examine("convex-adversarial, dual", convex_adversarial("dual"), False)
else:
    examine("auto-LiRPA, intervals", auto_lirpa("IBP"), True)
    examine("auto-LiRPA, CROWN", auto_lirpa("backward"), False)
PY
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'numpy==2.4.6' 'bound-propagation==0.4.7' 'convex-adversarial==0.4.4'
"$PYTHON" "$WORK/check.py" new || changed "the bounds cover other points"
python_with 'torch==1.13.1' 'numpy==1.26.4' 'appdirs==1.4.4' 'tqdm==4.70.1' 'packaging==26.4' 'psutil==7.2.2' 'setuptools==65.5.0'
[ -z "${FINDINGS_PREPARE:-}" ] || exit 0
install_into "$PYTHON" --no-deps --target "$WORK/lirpa" 'auto-LiRPA==0.3'
PYTHONPATH=$WORK/lirpa "$PYTHON" "$WORK/check.py" old || changed "the bounds cover other points"
