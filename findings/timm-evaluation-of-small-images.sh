#!/usr/bin/env bash
# What: the evaluation transform that timm 1.0.31 makes for a model of 32 x 32
# pictures (torch 2.15.0, torchvision 0.29.2).
#
# Guess: a 32 x 32 picture passes as it is, but for the normalization.
#
# Behavior: with the default crop share it is enlarged to 36 (to 33 with the
# configuration that resolve_data_config finds for a ResNet-18) and its center is
# cut out: hardly a value is as it was in the file (pure noise moves by 60 levels on
# average), and the border is never seen. Accuracy and attacks
# on "32 x 32" pictures are those of enlarged ones.
#
# TARRL: pictures pass untouched at their own size; an imported timm configuration with
# a crop share below 1 is to be followed only on demand.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'timm==1.0.31' 'numpy==2.4.6' 'pillow==13.0.0'
"$PYTHON" - <<'PY' || changed "a small picture passes otherwise"
import numpy as np
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
same = dict(mean=(0, 0, 0), std=(1, 1, 1))
found = resolve_data_config({"input_size": (3, 32, 32)}, model=timm.create_model("resnet18", pretrained=False))
for name, options in (("default", {}), ("resolved for resnet18", {"crop_pct": found["crop_pct"], "interpolation": found["interpolation"]})):
    transform = create_transform((3, 32, 32), is_training=False, **same, **options)
    size = transform.transforms[0].size
    out = (transform(Image.fromarray(picture)) * 255).permute(1, 2, 0).numpy()
    difference = np.abs(out - picture)
    print(f"{name}: first step resizes to {size}; mean difference {difference.mean():.1f} levels, unchanged values {(difference < 0.5).mean():.3f}")
    assert out.shape == picture.shape and size != 32 and difference.mean() > 5 and (difference < 0.5).mean() < 0.2
whole = create_transform((3, 32, 32), is_training=False, crop_pct=1.0, **same)
out = (whole(Image.fromarray(picture)) * 255).permute(1, 2, 0).numpy()
assert np.abs(out - picture).max() < 0.01
print("crop_pct=1: unchanged")
PY
