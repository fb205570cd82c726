#!/usr/bin/env bash
# What: nearest-neighbor resizing in torchvision 0.29.2: tensor against PIL picture
# (torch 2.15.0, Pillow 13.0.0).
#
# Guess: InterpolationMode.NEAREST picks the same pixels for both.
#
# Behavior: for tensors it takes the upper left pixel of each cell, for PIL pictures
# the middle one: 96 to 32 differs by one pixel to both sides in 98 % of noisy
# values, more than 20 levels on average. NEAREST_EXACT of tensors is PIL's
# NEAREST where the factor is whole, and differs again (96 to 40) where it is not.
#
# TARRL: `--resize` averages as Pillow's BILINEAR, to the byte, and there is no
#   other filter; the documentation of folders warns of them | .
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'numpy==2.4.6' 'pillow==13.0.0'
"$PYTHON" - <<'PY' || changed "nearest neighbors are others"
import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode as Mode
from torchvision.transforms import functional as TF

columns = np.arange(96, dtype=np.uint8)[None].repeat(96, 0)
tensor = torch.from_numpy(columns)[None]
differs = {}
for size in (32, 48, 40):
    pil = np.asarray(TF.resize(Image.fromarray(columns), [size, size], Mode.NEAREST))[0].astype(int)
    near = TF.resize(tensor, [size, size], Mode.NEAREST)[0, 0].numpy().astype(int)
    exact = TF.resize(tensor, [size, size], Mode.NEAREST_EXACT)[0, 0].numpy().astype(int)
    print(f"96 to {size}: PIL takes columns {pil[:5]}, tensor {near[:5]}, tensor NEAREST_EXACT {exact[:5]}")
    differs[size] = ((near != pil).mean(), (exact != pil).mean())
    print(f"    share of columns that differ from PIL: NEAREST {differs[size][0]:.2f}, NEAREST_EXACT {differs[size][1]:.2f}")
assert differs[32] == (1.0, 0.0) and differs[48] == (1.0, 0.0)
assert differs[40][0] > 0.5 and 0 < differs[40][1] < 0.5
PY
