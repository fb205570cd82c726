#!/usr/bin/env bash
# What: safetensors.torch.save_file of safetensors 0.8.0 with tensors of PyTorch
#   2.15.0 that are contiguous but carry a pending conjugation or negation, as
#   conj(), .conj().imag and what is built on them return.
# Guess: the values that PyTorch shows are written, or the tensor is refused, as a
#   transposed one is.
# Behavior: the bytes under the tensor are written and the pending sign is lost:
#   1-2i is read back as 1+2i, and a real tensor of -2 as +2. torch.save keeps it.
# TARRL: files of `torch.save` with a pending sign are refused; in safetensors it
#   is gone before, and the documentation says to compare outputs | .
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'safetensors==0.8.0' 'numpy==2.4.6'
cd "$WORK"
"$PYTHON" - <<'PY'
import safetensors.torch, torch

spectrum = torch.tensor([1 + 2j, 3 - 4j]).conj()
real = torch.view_as_complex(torch.tensor([[1.0, 2.0]])).conj().imag
for tensor in (spectrum, real):
    assert tensor.is_contiguous() and (tensor.is_conj() or tensor.is_neg())
    safetensors.torch.save_file({"w": tensor}, "w.safetensors")
    torch.save({"w": tensor}, "w.pt")
    read, kept = safetensors.torch.load_file("w.safetensors")["w"], torch.load("w.pt")["w"]
    print("PyTorch shows", tensor.tolist(), "safetensors gives back", read.tolist(), "torch.save", kept.tolist())
    assert torch.equal(kept, tensor) and not torch.equal(read, tensor)
    assert torch.equal(read, tensor.conj() if tensor.is_complex() else -tensor)
PY
