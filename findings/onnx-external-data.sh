#!/usr/bin/env bash
# What: the ONNX files that PyTorch 2.15.0 writes by default (onnx 1.23.2,
#   onnxruntime 1.32.0): a graph, and its weights in a file beside it.
# Guess: the graph knows its weights (a checksum, or at least a name of their
#   own), so that a graph whose weights were replaced by another network's is an
#   error.
# Behavior: the graph keeps only the name that it was first exported under. If it
#   is renamed, say to keep the best epoch, and the next network is exported under
#   the first name, the renamed graph silently has the new weights; onnx's
#   checker and onnxruntime see nothing.
# TARRL: a graph that does not use the file beside it to its end is warned about;
#   weights of the same size cannot be told apart, and the documentation says so;
#   its own ONNX files are whole | .
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'onnx==1.23.2' 'onnxscript==0.7.2' 'onnxruntime==1.32.0' 'numpy==2.4.6'
cd "$WORK"
"$PYTHON" - <<'PY'
import contextlib, io, logging, os
import numpy as np, onnx, onnxruntime, torch

logging.disable(logging.WARNING)


def export(network):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(network, (torch.eye(100),), "model.onnx")


def outputs(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: np.eye(100, dtype=np.float32)})[0]


torch.manual_seed(0)
first, second = (torch.nn.Linear(100, 100, bias=False) for _ in range(2))
export(first)
os.rename("model.onnx", "best.onnx")
before = outputs("best.onnx")
export(second)
onnx.checker.check_model("best.onnx", full_check=True)
after = outputs("best.onnx")
weights = [n.weight.detach().numpy().T for n in (first, second)]
keys = {e.key for t in onnx.load("best.onnx", load_external_data=False).graph.initializer for e in t.external_data}
print("files", sorted(os.listdir(".")), "what the graph says of its weights", sorted(keys))
print("best.onnx is the first network before", np.array_equal(before, weights[0]), "and the second after", np.array_equal(after, weights[1]))
assert np.array_equal(before, weights[0]) and np.array_equal(after, weights[1]) and "checksum" not in keys
PY
