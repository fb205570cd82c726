#!/usr/bin/env bash
# What: torch.nn.functional.cosine_similarity in PyTorch 2.15.0 and in the files
#   of its two exporters, by onnxruntime 1.32.0.
# Guess: the same cosines from all three; its eps of 1e-8 matters for no vector
#   that is longer than 1e-8.
# Behavior: the exporter chosen by dynamo=False compares the *product* of the two
#   lengths with eps. For two representations of length 1e-5, as a collapsing or
#   strongly regularized encoder has, every cosine comes out a hundred times too
#   small; below that all similarities look like none. PyTorch and the default
#   exporter have the cosine.
# TARRL: a reader of ONNX should take the Max or Clip of the file literally,
#   and so agree with the file and not with the PyTorch module; its own
#   normalization divides each representation by its own length.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'onnx==1.23.2' 'onnxscript==0.7.2' 'onnxruntime==1.32.0' 'numpy==2.4.6'
cd "$WORK"
"$PYTHON" - <<'PY'
import contextlib, io, logging
import numpy as np, onnxruntime, torch

logging.disable(logging.WARNING)


class Cosine(torch.nn.Module):
    def forward(self, z):
        return torch.nn.functional.cosine_similarity(z[:1], z, dim=1)


torch.manual_seed(0)
directions = torch.nn.functional.normalize(torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 0.1, 0.1]]), dim=1)
for length in (1.0, 1e-3, 1e-5):
    z, rows = directions * length, {"PyTorch": Cosine()(directions * length).numpy()}
    for name, dynamo in (("default exporter", True), ("dynamo=False", False)):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            torch.onnx.export(Cosine(), (z,), "m.onnx", dynamo=dynamo)
        session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
        rows[name] = session.run(None, {session.get_inputs()[0].name: z.numpy()})[0]
    print("length", length, {k: v.round(5).tolist() for k, v in rows.items()})
    assert np.allclose(rows["PyTorch"], rows["default exporter"], atol=1e-5)
    share = rows["dynamo=False"] / rows["PyTorch"]
    assert np.allclose(share, 0.01 if length == 1e-5 else 1, rtol=1e-3), share
PY
