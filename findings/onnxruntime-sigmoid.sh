#!/usr/bin/env bash
# What: Sigmoid of onnxruntime 1.32.0 on the CPU, and SiLU and LogSigmoid as
#   PyTorch 2.15.0 exports them (both exporters).
# Guess: a relative error of some 1e-7 wherever the result is a normal number;
#   the exporters write LogSigmoid in a form that does not overflow.
# Behavior: the absolute error is some 1e-7, so that the relative one is 2e-4 at
#   -10, 17 % at -15 and 100 % from -18 on, where the result is exactly 0. SiLU
#   inherits it. Both exporters write LogSigmoid as Log(Sigmoid(x)), which
#   therefore gives minus infinity from -18 on, where PyTorch gives -18.
# TARRL: its Sigmoid has the relative error of float32 down to −87, so that an
#   exported LogSigmoid is finite there; the documentation tells of onnxruntime for
#   the way out | .
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'onnx==1.23.2' 'onnxscript==0.7.2' 'onnxruntime==1.32.0' 'numpy==2.4.6'
cd "$WORK"
"$PYTHON" - <<'PY'
import contextlib, io, logging
import numpy as np, onnx, onnxruntime, torch

logging.disable(logging.WARNING)
x = np.array([[-5, -10, -15, -17, -18, -20, -30]], np.float32)


def exported(module, dynamo):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        extra = {"external_data": False} if dynamo else {}
        torch.onnx.export(module, (torch.tensor(x),), "m.onnx", dynamo=dynamo, **extra)
    session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load("m.onnx").graph.node]
    return operators, session.run(None, {session.get_inputs()[0].name: x})[0][0]


exact = 1 / (1 + np.exp(-x[0].astype(np.float64)))
for dynamo in (True, False):
    operators, sigmoid = exported(torch.nn.Sigmoid(), dynamo)
    relative = np.abs(sigmoid / exact - 1)
    print("Sigmoid", sigmoid, "relative error", relative)
    assert operators == ["Sigmoid"]
    assert relative[1] > 1e-4 and relative[2] > 0.1 and (sigmoid[4:] == 0).all()
    assert np.abs(sigmoid - exact).max() < 1e-6
    operators, silu = exported(torch.nn.SiLU(), dynamo)
    print("SiLU", operators, silu)
    assert (silu[4:] == 0).all() and abs(silu[2] / (-15 * exact[2]) - 1) > 0.1
    operators, log = exported(torch.nn.LogSigmoid(), dynamo)
    print("LogSigmoid", operators, log, "PyTorch", torch.nn.functional.logsigmoid(torch.tensor(x))[0].numpy())
    assert operators == ["Sigmoid", "Log"] and np.isneginf(log[4:]).all()
PY
