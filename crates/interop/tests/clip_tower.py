"""The expected values of `a_tower_of_clip_has_the_expected_values` in golden.rs, by PyTorch in double precision.

    pip install torch
    python crates/interop/tests/clip_tower.py
"""

import math

import torch
from torch import nn

D, HEADS, PATCH, SIDE, E = 8, 2, 2, 4, 3
torch.set_default_dtype(torch.float64)


def w(offset, shape, plus=0.0):
    values = [plus + 0.5 * math.sin(0.37 * (i + offset)) for i in range(math.prod(shape))]
    return torch.tensor(values, dtype=torch.float32).double().view(shape)


def norm(offset):
    layer = nn.LayerNorm(D)
    layer.weight.data, layer.bias.data = w(10 + offset, (D,), 1.0), w(20 + offset, (D,))
    return layer


def linear(offset, inputs, outputs):
    layer = nn.Linear(inputs, outputs)
    layer.weight.data, layer.bias.data = w(offset, (outputs, inputs)), w(offset + 10, (outputs,))
    return layer


def tower(x, activation):
    attention = nn.MultiheadAttention(D, HEADS, batch_first=True)
    attention.in_proj_weight.data, attention.in_proj_bias.data = w(30, (3 * D, D)), w(40, (3 * D,))
    attention.out_proj.weight.data, attention.out_proj.bias.data = w(31, (D, D)), w(41, (D,))
    patches = nn.functional.conv2d(x, w(0, (D, 1, PATCH, PATCH)), stride=PATCH).flatten(2).transpose(1, 2)
    tokens = torch.cat([w(2, (D,)).expand(len(x), 1, D), patches], 1) + w(3, (1 + (SIDE // PATCH) ** 2, D))
    h = norm(4)(tokens)
    y = norm(0)(h)
    h = h + attention(y, y, y, need_weights=False)[0]
    h = h + linear(33, 4 * D, D)(activation(linear(32, D, 4 * D)(norm(1)(h))))
    return norm(2)(h[:, 0]) @ w(5, (D, E))


x = torch.tensor([((37 * i) % 101) / 101 for i in range(32)], dtype=torch.float32).double().view(2, 1, SIDE, SIDE)
with torch.no_grad():
    for name, activation in ("fare", lambda u: u * torch.sigmoid(1.702 * u)), ("open-clip", nn.GELU()):
        print(name, tower(x, activation).flatten().tolist())
