#!/usr/bin/env bash
# What: onnxruntime 1.32.0 on the CPU, a value that is not a number within
#   ReduceMax, ReduceMin, MaxPool, GlobalMaxPool and ArgMax, beside NumPy 2.4.6
#   (PyTorch answers as NumPy does).
# Guess: the result is not a number either, as Relu, Clip, Max and TopK of the
#   same library have it, and ArgMax names its place.
# Behavior: ReduceMax and ReduceMin keep it only where it is the first of what is
#   reduced, a pool over the whole map not even there; otherwise the largest of
#   the other numbers comes back, and ArgMax names that one. A row of nothing
#   else has class 0.
# TARRL: reads ONNX with its own operators and not by onnxruntime; losses,
#   gradients and stored tensors that are not finite are errors | .
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'onnx==1.23.2' 'onnxruntime==1.32.0' 'numpy==2.4.6'
"$PYTHON" - <<'PY'
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper


def run(operator, x, out=TensorProto.FLOAT, constants=(), **attributes):
    names = ["x"] + [f"c{i}" for i in range(len(constants))]
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", out, None)],
        [onnx.numpy_helper.from_array(np.array(c), f"c{i}") for i, c in enumerate(constants)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


for place in (0, 3, 6, 9):
    x = np.arange(12, dtype=np.float32)[None]
    x[0, place] = np.nan
    found = {
        "ReduceMax": run("ReduceMax", x, constants=[[1]]).item(),
        "ReduceMin": run("ReduceMin", x, constants=[[1]]).item(),
        "GlobalMaxPool": run("GlobalMaxPool", x.reshape(1, 1, 3, 4)).item(),
        "MaxPool": run("MaxPool", x.reshape(1, 1, 3, 4), kernel_shape=[3, 4]).item(),
        "ArgMax": run("ArgMax", x, TensorProto.INT64, axis=1, keepdims=0).item(),
    }
    print("not a number at", place, found, "NumPy's argmax", x.argmax())
    assert np.isnan(run("Relu", x)[0, place]) and x.argmax() == place
    assert all(np.isnan(found[name]) == (place == 0) for name in ("ReduceMax", "ReduceMin"))
    assert found["GlobalMaxPool"] == found["MaxPool"] == 11
    assert found["ArgMax"] == (0 if place == 0 else 11)
nothing = run("ArgMax", np.full((2, 10), np.nan, np.float32), TensorProto.INT64, axis=1, keepdims=0)
print("rows of nothing else have the classes", nothing)
assert (nothing == 0).all()
PY
