#!/usr/bin/env bash
# What: the global random numbers of torch 2.15.0 after an attack of torchattacks
# 3.5.1 or of AutoAttack (pyautoattack 0.2.0) with a seed.
#
# Guess: an attack with a seed of its own leaves the global generator alone, or at
# worst in another state each time.
#
# Behavior: APGD, APGDT, FAB and Square of torchattacks (seed 0 by default) and
# AutoAttack(seed=0) set the *global* generator to their seed and leave it
# there. A training loop that measures robustness after every epoch therefore
# draws the same permutation of the data, the same augmentation and the same
# dropout in every epoch that follows. PGD of torchattacks does not.
#
# TARRL: random numbers of an attack come from a stream of their own, keyed by the
# image; training draws nothing from a generator that an attack can touch.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'torchattacks==3.5.1' 'pyautoattack==0.2.0' 'numpy==2.4.6'
"$PYTHON" - <<'PY' || changed "the generator is left in another state"
import torch
import torchattacks
from pyautoattack import AutoAttack

torch.set_num_threads(1)
torch.manual_seed(7)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10)).eval()
images = torch.rand(4, 3, 8, 8)
labels = model(images).argmax(1)


def official(x, y):
    attack = AutoAttack(model, norm="Linf", eps=0.01, seed=0, version="custom", attacks=["apgd-ce"])
    attack.run_standard_evaluation(x, y, batch_size=4)


attacks = {
    "torchattacks.APGD": torchattacks.APGD(model, steps=3),
    "torchattacks.APGDT": torchattacks.APGDT(model, steps=3),
    "torchattacks.FAB": torchattacks.FAB(model, steps=3),
    "torchattacks.Square": torchattacks.Square(model, n_queries=5),
    "pyautoattack, seed=0": official,
    "torchattacks.PGD": torchattacks.PGD(model, steps=3),
}
for name, attack in attacks.items():
    orders = []
    torch.manual_seed(11)
    for epoch in range(3):
        attack(images, labels)
        orders.append(torch.randperm(50).tolist())
    same = orders[0] == orders[1] == orders[2]
    print(f"{name}: orders of 50 images in three epochs begin {[o[:4] for o in orders]}, all the same: {same}")
    assert same == (name != "torchattacks.PGD")
PY
