#!/usr/bin/env bash
# What: adjust_hue of torchvision 0.29.2 on pictures (Pillow 13.0.0) and on tensors of
#   the same bytes: by 0, which changes nothing, and by 0.1.
# Guess: by 0 the same bytes; by 0.1 one or two levels between the two.
# Behavior: pictures go through HSV of 8 bits: by 0 half of the values of a colorful
#   image move, by up to 6 levels; by 0.1 pictures and tensors are more than 10
#   levels apart. Tensors stay to the bit. Saturation, contrast and brightness by 1
#   change nothing in either.
# TARRL: computes the hue in floats, as for tensors.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'numpy==2.4.6' 'pillow==13.0.0'
"$PYTHON" - <<'PY' || changed "hue moves other values"
import numpy as np
import torch
import torchvision.transforms.v2.functional as F
from PIL import Image

pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
picture, tensor = Image.fromarray(pixels), torch.tensor(pixels.transpose(2, 0, 1))


def both(name, amount):
    change = getattr(F, f"adjust_{name}")
    of_picture = np.asarray(change(picture, amount)).astype(int)
    return of_picture, change(tensor, amount).numpy().transpose(1, 2, 0).astype(int)


of_picture, of_tensor = both("hue", 0.0)
moved = abs(of_picture - pixels)
print(f"hue by 0: pictures move in {100 * (moved > 0).mean():.0f} % of the values, by up to {moved.max()}; tensors by {abs(of_tensor - pixels).max()}")
assert moved.max() >= 5 and (moved > 0).mean() > 0.3 and (of_tensor == pixels).all()
of_picture, of_tensor = both("hue", 0.1)
print(f"hue by 0.1: {abs(of_picture - of_tensor).mean():.2f} levels apart on average, {abs(of_picture - of_tensor).max()} at most")
assert abs(of_picture - of_tensor).max() >= 10
for name in ("saturation", "contrast", "brightness"):
    assert all((image == pixels).all() for image in both(name, 1.0)), name
PY
