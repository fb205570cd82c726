#!/usr/bin/env bash
# What: NewtonFool of foolbox 3.3.4 on an ordinary small network (torch 2.15.0).
#
# Guess: the images it reports as broken are images, and at radius 0 it reports the
# clean errors.
#
# Behavior: where the probability of the class reaches zero or its gradient
# vanishes, the step is 0/0: 40 of 100 returned images are NaN, the network's answer
# to NaN is another class, and they count as broken: 47 of 100 "at radius 0", where
# the network errs on 8.
#
# TARRL: a returned point that is not finite is never a success; the share of such
# points is part of the report.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'numpy==2.4.6' 'scipy==1.17.1' 'scikit-learn==1.9.1' 'foolbox==3.3.4'
"$PYTHON" - <<'PY' || changed "NewtonFool returns other points"
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
x, y = x[1300:1400], y[1300:1400]
clean = (model(x).argmax(1) != y).float().mean().item()
wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
_, points, success = foolbox.attacks.NewtonFoolAttack()(wrapped, x, y, epsilons=[0.0])
lost = points[0].isnan().flatten(1).any(1).float().mean().item()
reported = success.float().mean().item()
print(f"radius 0: clean errors {clean:.2f}, reported as broken {reported:.2f}, returned images with NaN {lost:.2f}")
assert lost > 0.2 and reported > clean + 0.15
PY
