#!/usr/bin/env bash
# What: the two color augmentations of kornia 0.9.0, ColorJitter and ColorJiggle, with
# fixed factors, against torchvision 0.29.2 (torch 2.15.0).
#
# Guess: two names of one thing; brightness 1.4 multiplies by 1.4.
#
# Behavior: ColorJitter is torchvision's to within rounding. ColorJiggle *adds* the
# brightness (1.4 adds 0.4), scales contrast around 0 and saturation in HSV: for a
# factor of 1.4 each differs by 17 to 48 levels on average from torchvision. A
# recipe "strength 0.4" run through it trains on much brighter pictures. Hue
# agrees in both.
#
# TARRL: brightness multiplies, contrast is around the mean of the gray picture,
# saturation around the gray picture; recipes name the operation, not only the
# strength.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'numpy==2.4.6' 'kornia==0.9.0'
"$PYTHON" - <<'PY' || changed "the color augmentations differ otherwise"
import kornia.augmentation
import torch
import torch.nn.functional as F
from torchvision.transforms import functional as TF

torch.set_num_threads(1)
torch.manual_seed(0)
picture = F.interpolate(torch.rand(1, 3, 8, 8), (48, 48), mode="bicubic").clamp(0, 1)
factors = {"brightness": 1.4, "contrast": 1.4, "saturation": 1.4, "hue": 0.1}
for name, factor in factors.items():
    reference = getattr(TF, "adjust_" + name)(picture, factor)
    mean = {}
    for kind in ("ColorJitter", "ColorJiggle"):
        out = getattr(kornia.augmentation, kind)(p=1.0, **{name: (factor, factor)})(picture)
        mean[kind] = 255 * (out - reference).abs().mean().item()
    print(f"{name} {factor}: mean difference to torchvision in levels:", {k: round(v, 2) for k, v in mean.items()})
    assert mean["ColorJitter"] < 0.5
    assert mean["ColorJiggle"] < 0.5 if name == "hue" else mean["ColorJiggle"] > 5
PY
