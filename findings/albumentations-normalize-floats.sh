#!/usr/bin/env bash
# What: Normalize of albumentations 2.0.8 on float images in [0, 1], as its own
#   ToFloat and its other transforms take them.
# Guess: the type says the range, as for every other transform: the result is that
#   of the bytes.
# Behavior: max_pixel_value is 255 for floats too, so they are divided once more:
#   with ImageNet's constants an image of all values lies in -2.12 to -1.79, a
#   constant within a third, without a word. max_pixel_value=1 helps.
# TARRL: images are bytes, or multiples of 1/255 in [0, 1], and are normalized inside of
#   the encoder alone.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'numpy==2.4.6' 'pillow==13.0.0' 'opencv-python-headless==5.0.0.93' 'albumentations==2.0.8'
"$PYTHON" - <<'PY' || changed "floats are normalized otherwise"
import albumentations
import numpy as np

pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
floats = albumentations.ToFloat()(image=pixels)["image"]
assert floats.dtype == np.float32 and floats.max() == 1
as_bytes = albumentations.Normalize()(image=pixels)["image"]
as_floats = albumentations.Normalize()(image=floats)["image"]
mended = albumentations.Normalize(max_pixel_value=1.0)(image=floats)["image"]
for name, image in (("bytes", as_bytes), ("floats", as_floats), ("floats, max_pixel_value=1", mended)):
    print(f"{name}: {image.min():.3f} to {image.max():.3f}")
assert as_floats.max() < -1.7 and as_bytes.max() > 2.5
assert abs(mended - as_bytes).max() < 1e-5
PY
