#!/usr/bin/env bash
# What: what timm 1.0.31 says that its vision transformers want their inputs
#   normalized by, for one architecture and several sets of weights.
# Guess: ImageNet's mean and standard deviation, as for every ResNet of timm and
#   for DeiT, which is the same network.
# Behavior: vit_tiny and vit_small at 224 pixels want 0.5 and 0.5 by default and
#   with their AugReg weights, ImageNet's with DINO's or DeiT's; among the
#   pretrained vit_* there are five different pairs, and ImageNet's is the third in number. State
#   dicts of all have the same names and shapes and no trace of it. With the wrong
#   one inputs are up to 2.2 times too large, and a radius in pixels is too.
# TARRL: no constants for timm's transformers; an import says so, and takes them
#   by `--normalization` | .
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'timm==1.0.31' 'numpy==2.4.6'
"$PYTHON" - <<'PY'
from collections import Counter
import timm

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5,) * 3, (0.5,) * 3)


def wants(config):
    return tuple(config.mean), tuple(config.std)


def default(name):
    config = timm.create_model(name, num_classes=0).pretrained_cfg
    return tuple(config["mean"]), tuple(config["std"])


for name in ("resnet18", "resnet50", "deit_tiny_patch16_224"):
    assert default(name) == IMAGENET, name
for name in ("vit_tiny_patch16_224", "vit_small_patch16_224"):
    print(name, default(name))
    assert default(name) == HALF, name
tags = {n: wants(timm.get_pretrained_cfg(n)) for n in timm.list_pretrained("vit_small_patch16_224.*")}
print(tags)
assert tags["vit_small_patch16_224.dino"] == IMAGENET and tags["vit_small_patch16_224.augreg_in21k"] == HALF
count = Counter()
for name in timm.list_pretrained("vit_*"):
    mean, std = wants(timm.get_pretrained_cfg(name))
    count[tuple(round(v, 3) for v in mean), tuple(round(v, 3) for v in std)] += 1
print(count)
assert len(count) >= 4 and [pair for pair, _ in count.most_common()].index(IMAGENET) == 2
names = [{k: tuple(v.shape) for k, v in timm.create_model(n, num_classes=0).state_dict().items()} for n in ("vit_tiny_patch16_224", "deit_tiny_patch16_224")]
assert names[0] == names[1]
PY
