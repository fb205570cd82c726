#!/usr/bin/env bash
# What: convert_float_to_float16 of onnxconverter-common 1.16.0 and of onnxruntime
#   1.32.0 (transformers.float16) on a model's weights.
# Guess: each weight becomes the nearest float16: infinite above 65504, 0 below 3e-8.
# Behavior: the first moves weights to between 1e-7 and 10,000 in size: 20,000, which
#   float16 has exactly, becomes 10,000, and 1e-9 becomes 1e-7, a hundred times as
#   large; zeros stay. The second cuts at 65504 and lifts what would be 0 to 6e-8.
#   Only the first warns.
# TARRL: reads what is stored; the documentation says to cast | .
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'onnx==1.23.2' 'onnxruntime==1.32.0' 'onnxconverter-common==1.16.0' 'numpy==2.4.6'
"$PYTHON" - <<'PY' || changed "weights become other float16 numbers"
import importlib

import numpy as np
from onnx import TensorProto, helper, numpy_helper

weights = np.array([[1e5, 20000, 12000, 1, 1e-3, 2e-7, 9e-8, 1e-9, 0, -1e-9, -20000]], np.float32)
shape = list(weights.shape)


def converted(module):
    tensor = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [tensor("x")], [tensor("y")], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    half = importlib.import_module(module).convert_float_to_float16(model, keep_io_types=True)
    return numpy_helper.to_array(half.graph.initializer[0])[0].astype(np.float64)


np.set_printoptions(linewidth=200)
print("float32:    ", weights[0])
common = converted("onnxconverter_common.float16")
print("common:     ", common)
runtime = converted("onnxruntime.transformers.float16")
print("onnxruntime:", runtime)
assert (common[:3] == 10000).all() and common[-1] == -10000 and common[8] == 0
assert 9e-8 < common[7] < 1.3e-7 and -1.3e-7 < common[9] < -9e-8
assert runtime[0] == 65504 and (runtime[1:3] == (20000, 12000)).all() and 5e-8 < runtime[7] < 7e-8
PY
