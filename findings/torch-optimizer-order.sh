#!/usr/bin/env bash
# What: SGD's and AdamW's load_state_dict in PyTorch 2.15.0 for an optimizer whose
#   parameters come in another order than those of the one that was saved.
# Guess: momentum finds its parameter by name, or at least a momentum of another
#   shape than its parameter is refused, as the model's load_state_dict does.
# Behavior: the state is numbered; each momentum goes to the parameter at its
#   number, whatever its shape, without a word. Parameters of equal shape (all
#   batch normalizations of one width) trade their momentum and train on.
# TARRL: a foreign optimizer's state is not imported; ours must stay under the
#   names of its parameters.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'safetensors==0.8.0' 'numpy==2.4.6'
"$PYTHON" - <<'PY'
import torch

for kind in (torch.optim.SGD, torch.optim.AdamW):
    extra, key = ({"momentum": 0.9}, "momentum_buffer") if kind is torch.optim.SGD else ({}, "exp_avg")
    names = ["conv.weight", "norm.weight", "norm.bias"]
    shapes = [(4, 3, 3, 3), (4,), (4,)]
    network = {n: torch.nn.Parameter(torch.ones(s)) for n, s in zip(names, shapes)}
    for scale, parameter in enumerate(network.values(), 1):
        parameter.grad = torch.full_like(parameter, scale)
    saved = kind(network.values(), lr=0.1, **extra)
    saved.step()
    order = ["norm.bias", "norm.weight", "conv.weight"]
    loaded = kind([network[n] for n in order], lr=0.1, **extra)
    loaded.load_state_dict(saved.state_dict())
    found = {n: tuple(loaded.state[network[n]][key].shape) for n in order}
    print(kind.__name__, found)
    assert found == {"norm.bias": (4, 3, 3, 3), "norm.weight": (4,), "conv.weight": (4,)}

    pair = [network["norm.bias"], network["norm.weight"]]
    swapped = kind(pair, lr=0.1, **extra)
    first = kind(pair[::-1], lr=0.1, **extra)
    first.step()
    swapped.load_state_dict(first.state_dict())
    moved = swapped.state[network["norm.bias"]][key]
    own = first.state[network["norm.bias"]][key]
    print(kind.__name__, "momentum of norm.bias: its own", own[0].item(), "after loading", moved[0].item())
    swapped.step()
    assert not torch.equal(own, moved)
PY
