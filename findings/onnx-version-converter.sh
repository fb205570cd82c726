#!/usr/bin/env bash
# What: onnx.version_converter of onnx 1.23.2, from opset 20 to the opset 11 that an
#   older reader asks for, on a Softmax over the channels of a map; onnxruntime 1.32.0
#   runs both.
# Guess: the same numbers, or an error where an operator means something else.
# Behavior: Softmax is passed through, though before opset 13 it runs over all axes
#   from the given one on: the sums over the channels are .02 to .16, without a word.
# TARRL: reads opsets 9 to 23 each by its own meaning; for others it says to export
#   again and not to convert.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'onnx==1.23.2' 'onnxruntime==1.32.0' 'numpy==2.4.6'
"$PYTHON" - <<'PY' || changed "models are converted otherwise"
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, checker, helper, version_converter

x = np.random.default_rng(0).normal(size=(2, 8, 4, 4)).astype(np.float32)


def model(node, shape):
    tensor = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph([node], "g", [tensor("x", x.shape)], [tensor("y", shape)])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    checker.check_model(made, full_check=True)
    return made


def run(made):
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


softmax = model(helper.make_node("Softmax", ["x"], ["y"], axis=1), x.shape)
before, after = run(softmax), run(version_converter.convert_version(softmax, 11))
print(f"Softmax over 8 channels: sums {before.sum(1).min():.3f} before, {after.sum(1).min():.3f} to {after.sum(1).max():.3f} at opset 11")
assert np.abs(before.sum(1) - 1).max() < 1e-6 and after.sum(1).max() < 0.5
PY
