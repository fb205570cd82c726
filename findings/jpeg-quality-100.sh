#!/usr/bin/env bash
# What: saving a picture as JPEG with quality=100 in Pillow 13.0.0 and OpenCV 5.0.0.93.
#
# Guess: at 100 the chroma is kept whole and a value moves by a level or two.
#
# Behavior: both still halve the chroma in both directions at any quality: colored
# noise moves by 8 levels on average and 50 at most at 100, barely less than at 95.
# Only subsampling=0 (Pillow) brings it to 4 levels at most. A perturbation of
# 8/255 written in that way is another perturbation, mostly outside its ball.
#
# TARRL: pictures of reports are PNG; the documentation of folders says to write
#   them so | .
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'numpy==2.4.6' 'pillow==13.0.0' 'opencv-python-headless==5.0.0.93'
"$PYTHON" - <<'PY' || changed "quality 100 keeps other values"
import io
import cv2
import numpy as np
from PIL import Image

rng = np.random.default_rng(0)
coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
smooth = np.asarray(Image.fromarray(coarse).resize((48, 48), Image.BICUBIC)).astype(float)
picture = np.clip(smooth + 12 * rng.standard_normal(smooth.shape), 0, 255).round().astype(np.uint8)


def moved(values):
    d = np.abs(values.astype(int) - picture)
    return d.mean(), d.max(), (d > 8).mean()


def pillow(**options):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", **options)
    opened = Image.open(buffer)
    return np.asarray(opened), [part[1] for part in opened.layer]


for quality in (95, 100):
    values, sampling = pillow(quality=quality)
    results = {"Pillow": moved(values)}
    coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    results["OpenCV"] = moved(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])
    for name, (mean, most, far) in results.items():
        print(f"{name}, quality {quality}: mean {mean:.1f}, largest {most}, further than 8 levels {100 * far:.0f} %")
        assert mean > 4 and most > 20 and far > 0.1
    assert sampling == [2, 1, 1]
mean, most, far = moved(pillow(quality=100, subsampling=0)[0])
print(f"Pillow, quality 100, subsampling=0: mean {mean:.1f}, largest {most}, further than 8 levels {100 * far:.0f} %")
assert most <= 6
PY
