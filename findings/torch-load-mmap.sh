#!/usr/bin/env bash
# What: torch.load(..., mmap=True) of PyTorch 2.15.0, and torch.save to the same
#   path afterwards.
# Guess: what was loaded keeps its values, as without mmap and as with
#   safetensors.torch.load_file.
# Behavior: the tensors that were not yet looked at are those of the new file. A
#   teacher that was loaded from last.pt becomes the student once the student is
#   saved as last.pt, with no error and no changed object.
# TARRL: a checkpoint is read into memory whole, and written beside its name
#   and then renamed, so neither we nor a reader that maps the old file see it
#   change.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'safetensors==0.8.0' 'numpy==2.4.6'
cd "$WORK"
"$PYTHON" - <<'PY'
import safetensors.torch, torch


def after(save, load):
    save({"weight": torch.zeros(300_000)}, "last")
    teacher = load("last")["weight"]
    save({"weight": torch.ones(300_000)}, "last")
    return teacher.sum().item()


mapped = after(torch.save, lambda path: torch.load(path, mmap=True))
read = after(torch.save, torch.load)
other = after(safetensors.torch.save_file, safetensors.torch.load_file)
print("sum of the teacher's zeros after the student was saved: mmap", mapped, "without", read, "safetensors", other)
assert mapped == 300_000 and read == 0 and other == 0
PY
