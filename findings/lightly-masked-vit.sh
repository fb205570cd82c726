#!/usr/bin/env bash
# What: lightly 1.6.0's MaskedVisionTransformerTIMM and ...Torchvision around a
#   vision transformer that has weights already (timm 1.0.31, torchvision 0.29.2).
# Guess: the wrapper holds the network as it was given and adds a mask token.
# Behavior: building the wrapper replaces the weights of the network that was
#   given, in place: every patch projection, attention and MLP weight is drawn
#   anew and the position embedding becomes sines and cosines without a gradient.
#   A pretrained network that is wrapped to be evaluated or trained further is a
#   random one. weight_initialization="skip" keeps the weights but still replaces
#   the position embedding, unless
#   pos_embed_initialization="skip" is given too.
# TARRL: weights are loaded last, after a network is built; an import of such
#   a checkpoint (names beginning with "vit.") should report a position
#   embedding of sines and cosines.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'timm==1.0.31' 'lightly==1.6.0' 'numpy==2.4.6'
"$PYTHON" - <<'PY'
import copy
import timm, torch
from lightly.models.modules import MaskedVisionTransformerTIMM, MaskedVisionTransformerTorchvision
from torchvision.models import VisionTransformer


def changed(network, wrap):
    torch.manual_seed(1)
    before = copy.deepcopy(network.state_dict())
    wrap(network)
    after = network.state_dict()
    return [name for name in before if not torch.equal(before[name], after[name])]


def small():
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0, depth=2).eval()


network = small()
x = torch.rand(2, 3, 32, 32)
before = network(x)
names = changed(network, lambda v: MaskedVisionTransformerTIMM(vit=v))
print("timm's, default:", names, "outputs moved by", (network(x) - before).abs().max().item())
assert {"pos_embed", "patch_embed.proj.weight", "blocks.1.attn.qkv.weight", "blocks.1.mlp.fc2.weight"} <= set(names)
assert not network.pos_embed.requires_grad and (network(x) - before).abs().max() > 0.1

skipped = changed(small(), lambda v: MaskedVisionTransformerTIMM(vit=v, weight_initialization="skip"))
both = changed(
    small(),
    lambda v: MaskedVisionTransformerTIMM(vit=v, weight_initialization="skip", pos_embed_initialization="skip"),
)
print("with the first skipped:", skipped, "with both:", both)
assert skipped == ["pos_embed"] and both == []

names = changed(VisionTransformer(32, 16, 2, 2, 16, 32), lambda v: MaskedVisionTransformerTorchvision(vit=v))
print("torchvision's, default:", names)
assert {"conv_proj.weight", "encoder.pos_embedding", "encoder.layers.encoder_layer_1.mlp.0.weight"} <= set(names)
PY
