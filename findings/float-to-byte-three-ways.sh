#!/usr/bin/env bash
# What: writing a float picture as bytes with torchvision 0.29.2 (torch 2.15.0):
# ToPILImage / to_pil_image, ToDtype(uint8, scale=True), and save_image.
#
# Guess: all three round to the nearest byte.
#
# Behavior: three answers in one library. to_pil_image cuts off: a value one
# rounding error below k/255 becomes k - 1, so that a perturbed picture loses half
# a level on average. ToDtype and convert_image_dtype multiply by 255.999 and
# cut off: right at k/255, but 0.05 of a level downward already moves dark
# pixels by a whole one. save_image rounds.
#
# TARRL: its only pictures are those of reports; the documentation of folders says to
#   round to nearest and to measure the written bytes.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'numpy==2.4.6' 'pillow==13.0.0'
"$PYTHON" - "$WORK" <<'PY' || changed "floats become bytes otherwise"
import sys
import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF
from torchvision.utils import save_image

path = sys.argv[1] + "/x.png"
k = torch.arange(1, 255)
grid = k.to(torch.float32) / 255
truth = k.numpy()


def all_ways(values):
    x = values[None, :, None].expand(3, -1, 1).contiguous()
    save_image(x, path)
    return {
        "to_pil_image": np.asarray(TF.to_pil_image(x))[:, 0, 0].astype(int),
        "to_dtype": TF.to_dtype(x, torch.uint8, scale=True)[0, :, 0].numpy().astype(int),
        "save_image": np.asarray(Image.open(path))[:, 0, 0].astype(int),
    }


wrong = {}
for name, shift in (("on the grid", 0.0), ("1e-7 below", -1e-7), ("0.05 levels below", -0.05 / 255), ("0.4 levels below", -0.4 / 255)):
    ways = all_ways(grid + shift)
    wrong[name] = {way: (values != truth).mean() for way, values in ways.items()}
    print(name + ", share of bytes that are not the nearest:", {way: round(float(v), 3) for way, v in wrong[name].items()})
assert all(v == 0 for v in wrong["on the grid"].values())
assert wrong["1e-7 below"]["to_pil_image"] > 0.9
assert wrong["0.05 levels below"]["to_dtype"] > 0 and wrong["0.4 levels below"]["to_dtype"] > 0.3
assert all(v["save_image"] == 0 for v in wrong.values())
PY
