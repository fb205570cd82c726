#!/usr/bin/env bash
# What: timm.data.create_transform(32), the evaluation transform of timm 1.0.31,
#   on images that are 32 by 32 already (CIFAR's).
# Guess: nothing to resize, nothing to crop: the image as a tensor, normalized.
# Behavior: the image is enlarged to 36 by 36 and its middle cropped, because
#   crop_pct is 0.875 at any size. Almost every pixel changes and the outermost
#   two are gone; noise of 8 levels, independent in each pixel, arrives with
#   little more than half of its size. So an accuracy under corruptions or
#   under images attacked elsewhere is not that of the images. crop_pct=1 leaves
#   them alone.
# TARRL: images of the right size are not resampled; `--resize` and `--crop` are
#   what the user asks for | .
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'timm==1.0.31' 'numpy==2.4.6'
"$PYTHON" - <<'PY'
import numpy as np, torch
from PIL import Image
from timm.data import create_transform

rng = np.random.default_rng(0)
clean = np.full((32, 32, 3), 128, np.uint8)
noisy = (clean + rng.choice([-8, 8], clean.shape)).astype(np.uint8)
ramp = np.broadcast_to(np.arange(32, dtype=np.uint8)[None, :, None] * 8, (32, 32, 3)).copy()
plain = dict(mean=(0, 0, 0), std=(1, 1, 1))


def levels(image, **extra):
    return create_transform(32, **plain, **extra)(Image.fromarray(image)).permute(1, 2, 0).numpy() * 255


print(create_transform(32, **plain))
row = levels(ramp)[0, :, 0]
size = np.abs(levels(noisy) - levels(clean)).mean()
print("a ramp 0, 8, ..., 248 arrives as", row.round().astype(int))
print("noise of 8 levels arrives with", size)
assert row[0] > 8 and row[-1] < 240 and 4 < size < 6.5
assert np.allclose(levels(noisy, crop_pct=1.0), noisy, atol=1e-3)
PY
