#!/usr/bin/env bash
# What: images in [-1, 1] or [0, 255] given to torchattacks 3.5.1 and to AutoAttack
# (pyautoattack 0.2.0), on torch 2.15.0.
#
# Guess: an error, since both are written for [0, 1].
#
# Behavior: no error and no warning. Both clamp what they return to [0, 1]: images
# in [-1, 1] come back up to 1.0 away at a radius of 0.06, images in [0, 255] come
# back as white pictures, 254 away; where the model errs on those, that counts as
# a broken image. bytes (uint8) are an error.
#
# TARRL: the range of values is part of the data's description and examined; the
# points that an attack returns are checked against the ball and the box before
# they count.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'torchattacks==3.5.1' 'pyautoattack==0.2.0' 'numpy==2.4.6'
"$PYTHON" - <<'PY' || changed "other ranges are treated otherwise"
import torch
import torchattacks
from pyautoattack import AutoAttack

torch.set_num_threads(1)
torch.manual_seed(7)
images = torch.rand(50, 3, 8, 8)
base = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10)).eval()


class Ranged(torch.nn.Module):
    def __init__(self, low, high):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x):
        return base((x - self.low) / (self.high - self.low))


for low, high, limit in ((-1.0, 1.0, 0.9), (0.0, 255.0, 200.0)):
    model = Ranged(low, high).eval()
    x = images * (high - low) + low
    labels = model(x).argmax(1)
    radius = 0.03 * (high - low)
    for name, attack in (
        ("torchattacks.PGD", lambda: torchattacks.PGD(model, eps=radius, alpha=radius / 4, steps=10)(x, labels)),
        ("torchattacks.FGSM", lambda: torchattacks.FGSM(model, eps=radius)(x, labels)),
        (
            "pyautoattack",
            lambda: AutoAttack(model, norm="Linf", eps=radius, seed=0, version="custom", attacks=["apgd-ce"]).run_standard_evaluation(x, labels, batch_size=50),
        ),
    ):
        found = attack()
        found = found[0] if isinstance(found, tuple) else found
        moved = (found.double() - x.double()).abs().max().item()
        wrong = (model(found).argmax(1) != labels).float().mean().item()
        print(f"{name}, values {low:g} to {high:g}, radius {radius:g}: moved by up to {moved:.3g}, {100 * wrong:.0f} % broken, returned values {found.min():.2f} to {found.max():.2f}")
        assert moved > limit and wrong > 0.3
try:
    torchattacks.FGSM(base)((images * 255).byte(), labels)
except Exception as error:
    print("torchattacks.FGSM, bytes:", type(error).__name__)
else:
    raise AssertionError
PY
