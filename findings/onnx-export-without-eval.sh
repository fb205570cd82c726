#!/usr/bin/env bash
# What: a network in training mode, as after its construction, exported by both
#   exporters of PyTorch 2.15.0 and run in onnxruntime 1.32.0.
# Guess: one mode for the whole file: that of evaluation, which the argument
#   "training" defaults to.
# Behavior: with dynamo=False it is. The default exporter mixes them: batch norm is that
#   of evaluation, folded into the convolution, and Dropout stays and is active: it
#   draws anew in every run, and the same image has other outputs.
# TARRL: refuses Dropout and batch norm in training mode, by the name of the node.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'onnx==1.23.2' 'onnxscript==0.7.2' 'onnxruntime==1.32.0' 'numpy==2.4.6'
cd "$WORK"
"$PYTHON" - <<'PY' || changed "training mode is exported otherwise"
import contextlib, io, logging
import numpy as np, onnx, onnxruntime, torch

logging.disable(logging.WARNING)
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Dropout(0.5))
net[1].running_mean.normal_()
x = torch.rand(2, 3, 8, 8)
for dynamo in (True, False):
    net.train()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        extra = {"external_data": False} if dynamo else {}
        torch.onnx.export(net, (x,), "m.onnx", dynamo=dynamo, **extra)
    net.eval()
    evaluated = net(x).detach().numpy()
    operators = [node.op_type for node in onnx.load("m.onnx").graph.node]
    session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    first, second = (session.run(None, {session.get_inputs()[0].name: x.numpy()})[0] for _ in range(2))
    kept = first != 0
    print(f"dynamo={dynamo}: {operators}, two runs differ by {np.abs(first - second).max():.2f}")
    if dynamo:
        assert operators == ["Conv", "Relu", "Dropout"] and np.abs(first - second).max() > 0.1
        assert np.abs(first / 2 - evaluated)[kept].max() < 1e-6
    else:
        assert operators == ["Conv", "Relu"] and np.abs(first - evaluated).max() < 1e-6
PY
