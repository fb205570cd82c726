#!/usr/bin/env bash
# What: load_dataset("imagefolder") of datasets 5.2.0 on a folder with one folder
#   of images for each class.
# Guess: every class folder is read and gives a label, whatever its name.
# Behavior: if one class has the name of a split ("train", which CIFAR-100 has,
#   or a name that begins with such a word, as "test_tube"), only that folder is
#   read, as a split, and the other classes and all labels are gone. No warning.
# TARRL: each folder is a class; `train`, `val` and `test` are splits only where
#   they hold folders themselves | .
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'datasets==5.2.0' 'pillow==13.0.0' 'numpy==2.4.6'
cd "$WORK"
HF_HOME=$WORK/home "$PYTHON" - <<'PY'
import os
import datasets, numpy as np
from PIL import Image

datasets.disable_progress_bars()


def read(classes):
    root = "+".join(classes)
    for name in classes:
        os.makedirs(f"{root}/{name}")
        for k in range(3):
            Image.fromarray(np.full((4, 4, 3), k, np.uint8)).save(f"{root}/{name}/{k}.png")
    found = datasets.load_dataset("imagefolder", data_dir=root)
    summary = {s: (len(d), d.features["label"].names if "label" in d.features else None) for s, d in found.items()}
    print(classes, "->", summary)
    return summary


assert read(["streetcar", "sunflower", "tulip"]) == {"train": (9, ["streetcar", "sunflower", "tulip"])}
assert read(["streetcar", "sunflower", "train"]) == {"train": (3, None)}
assert read(["streetcar", "sunflower", "test_tube"]) == {"test": (3, None)}
PY
