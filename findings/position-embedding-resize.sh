#!/usr/bin/env bash
# What: a ViT's position embedding brought from 14 by 14 patches to another grid
#   by timm 1.0.31 (resample_abs_pos_embed) and torchvision 0.29.2
#   (interpolate_embeddings), "bicubic" both.
# Guess: the same numbers to 1e-3 of their size.
# Behavior: timm takes half-pixel centers and smooths when it shrinks,
#   torchvision aligns the corners and does not. On a smooth embedding they differ
#   by 8 % of its norm at 24 by 24 and by 21 % at 7 by 7. One published
#   checkpoint gives two networks of the new size.
# TARRL: a checkpoint is read with its own grid, and images of another size are
#   refused | .
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'timm==1.0.31' 'numpy==2.4.6'
"$PYTHON" - <<'PY'
import torch
from timm.layers import resample_abs_pos_embed
from torchvision.models.vision_transformer import interpolate_embeddings

at = torch.arange(14) / 13
waves = [torch.cos(3.14159 * (a * at[:, None] + b * at[None])) for a in range(4) for b in range(4)]
grid = torch.stack(waves, -1).reshape(1, 196, 16)
embedding = torch.cat([torch.zeros(1, 1, 16), grid], 1)
differences = {}
for side in (7, 14, 24):
    timm = resample_abs_pos_embed(embedding, new_size=(side, side), num_prefix_tokens=1)
    state = interpolate_embeddings(side * 16, 16, {"encoder.pos_embedding": embedding.clone()})
    other = state["encoder.pos_embedding"]
    differences[side] = ((timm - other).norm() / timm.norm()).item()
print("relative difference by the new side:", differences)
assert differences[14] == 0 and differences[7] > 0.05 and differences[24] > 0.02
PY
