#!/usr/bin/env bash
# What: a 16-bit RGB PNG read as 8-bit RGB by Pillow 13.0.0, OpenCV 5.0.0.93, the
# Rust crate image 0.25.10, and by torchvision 0.29.2 (torch 2.15.0).
#
# Guess: all give round(v / 257), and decode_image(mode="RGB") of torchvision gives
# bytes like for every other file.
#
# Behavior: Pillow and OpenCV keep the upper byte, the image crate rounds: about a
# quarter to a half of the values differ by one level, always upward: the whole
# of an attack radius of 1/255. torchvision gives uint16 up to 65535, so that
# the usual division by 255 makes pixels up to 257.
#
# TARRL: rounds; the documentation of folders says so.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'numpy==2.4.6' 'pillow==13.0.0' 'opencv-python-headless==5.0.0.93'
cargo_with 'image = { version = "=0.25.10", default-features = false, features = ["png", "jpeg"] }' <<'RS'
fn main() {
    let mut arguments = std::env::args().skip(1);
    let (from, to) = (arguments.next().unwrap(), arguments.next().unwrap());
    std::fs::write(to, image::open(from).unwrap().to_rgb8().as_raw()).unwrap();
}
RS
cat >"$WORK/make.py" <<'PY'
import sys
import cv2
import numpy as np

values = np.random.default_rng(0).integers(0, 65536, (48, 48, 3)).astype(np.uint16)
np.save(sys.argv[1] + ".npy", values)
cv2.imwrite(sys.argv[1], values[..., ::-1])
PY
"$PYTHON" "$WORK/make.py" "$WORK/deep.png"
"$PROGRAM" "$WORK/deep.png" "$WORK/raw"
"$PYTHON" - "$WORK" <<'PY' || changed "16-bit color is read otherwise"
import sys
import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.io import decode_image

work = sys.argv[1]
values = np.load(work + "/deep.png.npy").astype(int)
pillow = np.asarray(Image.open(work + "/deep.png").convert("RGB")).astype(int)
opencv = cv2.imread(work + "/deep.png")[..., ::-1].astype(int)
crate = np.fromfile(work + "/raw", np.uint8).reshape(values.shape).astype(int)
print("Pillow keeps the upper byte:", bool((pillow == values >> 8).all()))
print("OpenCV keeps the upper byte:", bool((opencv == values >> 8).all()))
print("image crate rounds v / 257:", bool((crate == np.round(values / 257)).all()))
difference = crate - pillow
print(f"image crate minus Pillow: {difference.min()} to {difference.max()}, share that differs {(difference != 0).mean():.3f}")
assert (pillow == values >> 8).all() and (opencv == values >> 8).all()
assert (crate == np.round(values / 257)).all()
assert set(np.unique(difference)) <= {-1, 0, 1} and (difference != 0).mean() > 0.2
image = decode_image(work + "/deep.png", mode="RGB")
print("torchvision:", image.dtype, "up to", int(image.numpy().max()))
assert image.dtype == torch.uint16
PY
