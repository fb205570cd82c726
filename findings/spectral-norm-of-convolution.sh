#!/usr/bin/env bash
# What: torch.nn.utils.parametrizations.spectral_norm of torch 2.15.0 on Conv2d, and
# SpectralLinear of deel-torchlip 1.0.5.
#
# Guess: after some hundred forward passes the layer has a Lipschitz constant of 1
# (in l2), or below.
#
# Behavior: true of Linear to a few units of the last place (deel's is above 1 by
# 2e-7, so that a product over layers is not a bound). For Conv2d it is the
# matrix (out, in * 3 * 3) that gets norm 1: the convolution itself has 1.5 for 16
# channels, 2 for 3 to 16 channels and up to 3, the root of the number of taps,
# for a kernel without sign changes. Fresh, before any pass in training mode, a
# Linear layer has 1.03.
#
# TARRL: spectral bounds of convolutions are those of the operator at its picture
# size, computed in f64 with an upper bound, not a power iteration.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'numpy==2.4.6' 'deel-torchlip==1.0.5'
"$PYTHON" - <<'PY' || changed "the norms are others"
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
import deel.torchlip

torch.set_num_threads(1)
torch.manual_seed(0)


def norm(weight):
    weight = weight.detach().double()
    if weight.dim() == 2:
        return torch.linalg.matrix_norm(weight, 2).item()
    n = weight.shape[1]
    basis = torch.eye(n * 64, dtype=torch.float64).view(-1, n, 8, 8)
    return torch.linalg.matrix_norm(nn.functional.conv2d(basis, weight, padding=1).flatten(1), 2).item()


def trained(layer, shape):
    layer = spectral_norm(layer)
    for _ in range(300):
        layer(torch.randn(2, *shape))
    return norm(layer.eval().weight)


linear = trained(nn.Linear(64, 64), (64,))
same = nn.Conv2d(3, 16, 3, padding=1)
nn.init.constant_(same.weight, 0.1)
convolutions = {
    "16 to 16 channels": trained(nn.Conv2d(16, 16, 3, padding=1), (16, 8, 8)),
    "3 to 16 channels": trained(nn.Conv2d(3, 16, 3, padding=1), (3, 8, 8)),
    "3 to 16 channels, constant": trained(same, (3, 8, 8)),
}
print(f"torch, Linear: {linear:.7f}")
for name, value in convolutions.items():
    print(f"torch, Conv2d 3x3, {name}: {value:.3f}")
layer = deel.torchlip.SpectralLinear(64, 64)
layer(torch.randn(2, 64))
above = norm(layer.weight) - 1
print(f"deel-torchlip, SpectralLinear: 1 + {above:.1e}")
assert abs(linear - 1) < 1e-4 and 0 < above < 1e-5
assert 1.3 < convolutions["16 to 16 channels"] < 1.8
assert convolutions["3 to 16 channels"] > 1.7 and convolutions["3 to 16 channels, constant"] > 2.5
PY
