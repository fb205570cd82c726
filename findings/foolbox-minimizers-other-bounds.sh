#!/usr/bin/env bash
# What: foolbox 3.3.4 with bounds=(0, 255) instead of (0, 1): the same model, the
# same images and radii times 255 (torch 2.15.0).
#
# Guess: the bounds are given so that an attack can scale its steps: the same
# images are broken in either unit.
#
# Behavior: true of PGD and DeepFool. The fast minimum-norm
# attack and DDN take their steps in absolute units (1 and 1): in 0 ... 255
# FMN breaks a fifth of what it breaks in 0 ... 1, DDN about half. A model looks
# several times as robust because its pixels are bytes.
#
# TARRL: one unit inside every attack, [0, 1]; other ranges are converted at the
# border, and the distances back.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'numpy==2.4.6' 'scipy==1.17.1' 'scikit-learn==1.9.1' 'foolbox==3.3.4'
"$PYTHON" - <<'PY' || changed "the bounds matter otherwise"
import foolbox
import torch
from sklearn.datasets import load_digits

torch.set_num_threads(1)
torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
x = torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8)
y = torch.tensor(y)
model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 3, padding=1),
    torch.nn.ReLU(),
    torch.nn.Conv2d(8, 8, 3, stride=2, padding=1),
    torch.nn.ReLU(),
    torch.nn.Flatten(),
    torch.nn.Linear(128, 10),
)
optimizer = torch.optim.Adam(model.parameters(), 3e-3)
for _ in range(15):
    for part in torch.randperm(1300).split(64):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()
model.eval()
x, y = x[1300:1360], y[1300:1360]


class Bytes(torch.nn.Module):
    def forward(self, u):
        return model(u / 255)


unit = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
byte = foolbox.PyTorchModel(Bytes().eval(), bounds=(0, 255), device="cpu")
share = {}
for name, radius in (("LinfPGD", 0.1), ("LinfDeepFoolAttack", 0.1), ("LInfFMNAttack", 0.1), ("L2FMNAttack", 0.7), ("DDNAttack", 0.7)):
    counts = []
    for target, scale in ((unit, 1), (byte, 255)):
        torch.manual_seed(0)
        success = getattr(foolbox.attacks, name)()(target, x * scale, y, epsilons=[radius * scale])[2]
        counts.append(success.float().mean().item())
    share[name] = counts
    print(f"{name} at {radius}: broken with bounds 0 to 1 {100 * counts[0]:.0f} %, with bounds 0 to 255 {100 * counts[1]:.0f} %")
for name in ("LInfFMNAttack", "L2FMNAttack", "DDNAttack"):
    assert share[name][1] < 0.75 * share[name][0]
assert share["L2FMNAttack"][1] < 0.4 * share["L2FMNAttack"][0]
assert abs(share["LinfPGD"][0] - share["LinfPGD"][1]) < 0.05
assert abs(share["LinfDeepFoolAttack"][0] - share["LinfDeepFoolAttack"][1]) < 0.05
PY
