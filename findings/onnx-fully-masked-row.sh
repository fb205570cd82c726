#!/usr/bin/env bash
# What: scaled_dot_product_attention with a mask that leaves a query nothing to look
#   at, exported by both exporters of PyTorch 2.15.0, in onnxruntime 1.32.0.
# Guess: the file computes what PyTorch does, for every kind of mask.
# Behavior: PyTorch gives zeros for such a row. With a mask of truth values the file
#   does too; with a mask of zeros and minus infinities, which is the same mask,
#   both exporters write a plain Softmax, and the row is not a number.
# TARRL: computes what the file says; the documentation names the kind of mask | .
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'onnx==1.23.2' 'onnxscript==0.7.2' 'onnxruntime==1.32.0' 'numpy==2.4.6'
cd "$WORK"
"$PYTHON" - <<'PY' || changed "masked rows are exported otherwise"
import contextlib, io, logging
import numpy as np, onnx, onnxruntime, torch

logging.disable(logging.WARNING)
allowed = torch.ones(4, 4, dtype=torch.bool)
allowed[0] = False
masks = {"truth values": allowed, "zeros and minus infinity": torch.zeros(4, 4).masked_fill(~allowed, float("-inf"))}
x = torch.rand(2, 3, 4, 8, generator=torch.Generator().manual_seed(0))


class Attention(torch.nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, x):
        return torch.nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=self.mask)


for name, mask in masks.items():
    module = Attention(mask).eval()
    of_torch = module(x).numpy()
    assert np.isfinite(of_torch).all() and (of_torch[:, :, 0] == 0).all()
    for dynamo in (True, False):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            extra = {"external_data": False} if dynamo else {}
            torch.onnx.export(module, (x,), "m.onnx", dynamo=dynamo, **extra)
        session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
        found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
        has_test = any(node.op_type == "IsNaN" for node in onnx.load("m.onnx").graph.node)
        print(f"{name}, dynamo={dynamo}: {np.isnan(found).sum()} values of {found.size} are not numbers, PyTorch has none")
        assert np.isnan(found[:, :, 0]).all() == (mask.dtype != torch.bool) and has_test == (mask.dtype == torch.bool)
        assert np.abs(found[:, :, 1:] - of_torch[:, :, 1:]).max() < 1e-6
PY
