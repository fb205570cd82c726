#!/usr/bin/env bash
# What: a network of float16 tensors in onnxruntime 1.32.0 on the CPU, beside
#   NumPy 2.4.6 (PyTorch 2.15.0 gives the same numbers as NumPy).
# Guess: each operator's result is rounded to float16, as the types in the file
#   say, at least with all optimizations switched off.
# Behavior: a chain of operators is computed in float32 and rounded once, with
#   every level of optimization: (1.1 x + 100) - 100 keeps three digits more,
#   and sqrt(mean(300 squared)) is 300 where float16 overflows to infinity.
# TARRL: half weights are read exactly and computed with in float32; a model with
#   float16 inputs is refused | .
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'onnx==1.23.2' 'onnxruntime==1.32.0' 'numpy==2.4.6'
"$PYTHON" - <<'PY'
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper

half = np.float16


def run(nodes, x, level, constants=()):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, None)],
        [onnx.numpy_helper.from_array(np.array([value], half), name) for name, value in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


x = np.linspace(-2, 2, 256).astype(half)[None]
exact = x.astype(float) * float(half(1.1))
rounded = (x * half(1.1) + half(100)) - half(100)
chain = [("Mul", "x", "c", "a"), ("Add", "a", "d", "b"), ("Sub", "b", "d", "y")]
levels = onnxruntime.GraphOptimizationLevel
for level in (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_ALL):
    got = run([helper.make_node(o, [a, b], [c]) for o, a, b, c in chain], x, level, [("c", 1.1), ("d", 100)])
    errors = [np.abs(v.astype(float) - exact).max() for v in (got, rounded)]
    print(level, "largest error of the chain: onnxruntime", errors[0], "each step rounded", errors[1])
    assert errors[0] < 2e-3 and errors[1] > 2e-2
    big = np.full((1, 4), 300, half)
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["a"]),
        helper.make_node("ReduceMean", ["a"], ["b"]),
        helper.make_node("Sqrt", ["b"], ["y"]),
    ]
    got = run(nodes, big, level)
    print(level, "root of the mean of 300 squared:", got.item(), "NumPy", np.sqrt((big * big).mean()))
    assert got.item() == 300 and np.isinf(np.sqrt((big * big).mean()))
PY
