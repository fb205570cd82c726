#!/usr/bin/env bash
# What: getACC and getAUC of medmnist 3.0.2, which its Evaluator calls.
# Guess: for a set of two classes and a score for each, accuracy is that of the
#   larger score; for the set with 14 findings it is the share of images whose
#   findings are all right.
# Behavior: (1) of two scores only the last is looked at, against 0.5, so logits
#   give another accuracy (half of what it is here) and another area under the
#   curve; softmax first gives the expected one. With three classes logits are
#   right. (2) For several findings, accuracies of the findings are averaged:
#   answering "nothing" to 1,000 images of which half have one finding scores
#   96 %. A certified accuracy that counts an image only if all its findings are
#   certified is not comparable with that.
# TARRL: accuracy is by the largest logit for any number of classes, and per image;
#   a table that stands beside published figures of these sets says which.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchvision==0.29.2' 'medmnist==3.0.2' 'numpy==2.4.6'
"$PYTHON" - <<'PY'
import numpy as np
from medmnist.evaluator import getACC, getAUC

logits = np.array([[3, 0.8], [1, 2], [2, -1], [-1, -0.2]])
labels = np.array([[0], [1], [0], [1]])
shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
largest = (logits.argmax(1) == labels[:, 0]).mean()
found = {name: (getACC(labels, z, "binary-class"), getAUC(labels, z, "binary-class")) for name, z in (("logits", logits), ("softmax", shares))}
print("two classes: by the largest", largest, "medmnist's accuracy and area", found)
assert largest == 1 and found == {"logits": (0.5, 0.75), "softmax": (1, 1)}

three = np.array([[3, 0.8, 0], [0, 2, 0.6], [-1, -2, -0.5]])
print("three classes, logits:", getACC(np.array([[0], [1], [2]]), three, "multi-class"))
assert getACC(np.array([[0], [1], [2]]), three, "multi-class") == 1

findings = np.zeros((1000, 14), int)
findings[np.arange(0, 1000, 2), np.arange(0, 1000, 2) % 14] = 1
nothing = getACC(findings, np.zeros((1000, 14)), "multi-label, binary-class")
whole = (findings == 0).all(1).mean()
print("answering nothing: medmnist", nothing, "images all right", whole)
assert nothing > 0.96 and whole == 0.5
PY
