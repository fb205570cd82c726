#!/usr/bin/env bash
# What: Image.thumbnail of Pillow 13.0.0 on a JPEG file, as scripts that shrink a
# data set use it.
#
# Guess: thumbnail((32, 32)) is resize((32, 32), BICUBIC) with the shape kept.
#
# Behavior: for a file that has not been decoded yet it lets the JPEG decoder
# shrink by a power of two (with other arithmetic for the color), then shrinks by
# whole factors with a box, and only then resizes: up to 6 levels and three
# quarters of the values differ from resize; after a call of load() or copy()
# the same call gives a third answer.
#
# TARRL: decodes whole and resizes after that; the documentation of folders warns
#   of `thumbnail` | .
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'numpy==2.4.6' 'pillow==13.0.0'
"$PYTHON" - "$WORK" <<'PY' || changed "thumbnail shrinks otherwise"
import sys
import numpy as np
from PIL import Image

path = sys.argv[1] + "/big.jpg"
rng = np.random.default_rng(0)
coarse = rng.integers(0, 256, (42, 42, 3), dtype=np.uint8)
smooth = np.asarray(Image.fromarray(coarse).resize((256, 256), Image.BICUBIC)).astype(float)
Image.fromarray(np.clip(smooth + 12 * rng.standard_normal(smooth.shape), 0, 255).astype(np.uint8)).save(path, quality=95)

lazy = Image.open(path)
lazy.thumbnail((32, 32))
loaded = Image.open(path)
loaded.load()
loaded.thumbnail((32, 32))
plain = Image.open(path).resize((32, 32), Image.BICUBIC)
once = Image.open(path)
once.load()
once.thumbnail((32, 32), reducing_gap=None)
values = {n: np.asarray(i).astype(int) for n, i in (("file", lazy), ("loaded", loaded), ("resize", plain), ("loaded, no gap", once))}
for a, b in (("file", "resize"), ("loaded", "resize"), ("file", "loaded"), ("loaded, no gap", "resize")):
    d = np.abs(values[a] - values[b])
    print(f"{a} against {b}: largest {d.max()}, mean {d.mean():.2f}, share {(d > 0).mean():.2f}")
    if "gap" in a:
        assert d.max() == 0
    else:
        assert d.max() >= 3 and (d > 0).mean() > 0.4
PY
