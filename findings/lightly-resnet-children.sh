#!/usr/bin/env bash
# What: the backbone that lightly 1.6.0 (torch 2.15.0) documents for small images,
#   a Sequential of the children of its ResNetGenerator but the last.
# Guess: the features of that network, as with the children of torchvision's ResNet.
# Behavior: the ReLU after the first batch norm is called in forward and is no child,
#   so it is gone: half of the values that reach the first block are negative.
#   Names in a state dict are the same with it and without it.
# TARRL: the name map of such files builds the encoder without that ReLU.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'lightly==1.6.0'
"$PYTHON" - <<'PY' || changed "the children of lightly's ResNet compute something else"
import torch
from lightly.models import ResNetGenerator

torch.manual_seed(0)
network = ResNetGenerator("resnet-18").eval()
for module in network.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        module.running_mean.normal_(0, 0.1)
        module.bias.data.normal_(0, 0.1)
pool = torch.nn.AdaptiveAvgPool2d(1)
children = list(network.children())[:-1]
stem = children[:2]
backbone = torch.nn.Sequential(*children, pool).eval()
mended = torch.nn.Sequential(*stem, torch.nn.ReLU(), *children[2:], pool).eval()
x = torch.rand(4, 3, 32, 32)
features = []
network.linear.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
with torch.no_grad():
    network(x)
    whole, plain, with_relu = features[0], backbone(x).flatten(1), mended(x).flatten(1)
scale = whole.abs().max()
gap, mended_gap = ((y - whole).abs().max() / scale for y in (plain, with_relu))
print(f"difference from the network's own features: {gap:.3f}; with a ReLU after the second child {mended_gap:.1e}")
print("names in the state dict:", list(backbone.state_dict())[0], list(backbone.state_dict())[7])
with torch.no_grad():
    negative = (torch.nn.Sequential(*stem)(x) < 0).float().mean().item()
print(f"negative values that reach the first block: {100 * negative:.0f} %")
assert gap > 0.01 and mended_gap < 1e-5 and negative > 0.2
PY
