#!/usr/bin/env bash
# What: accuracy in torchmetrics 1.9.0.
#
# Guess: MulticlassAccuracy(num_classes=K) is the share of right answers, and the
# same as Accuracy(task="multiclass", num_classes=K).
#
# Behavior: the class averages over classes, the function-like constructor does
# not. With 90 images of one class and 10 of another, all taken for the first,
# the one says 0.5 and the other 0.9; a class that does not occur is left out of
# the mean. Of two encoders the better one by one name can be the worse by the
# other.
#
# TARRL: a robust or clean accuracy is the share of images; a mean over classes
# carries that in its name.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'torchmetrics==1.9.0'
"$PYTHON" - <<'PY' || changed "the two accuracies agree or are others"
import torch
from torchmetrics import Accuracy
from torchmetrics.classification import MulticlassAccuracy

truth = torch.tensor([0] * 90 + [1] * 10)
always = torch.zeros(100, dtype=torch.long)
balanced = truth.clone()
balanced[:20] = 1
rows = []
for name, predicted in (("always the first class", always), ("20 of 90 of the first wrong", balanced)):
    by_class = MulticlassAccuracy(num_classes=3)(predicted, truth).item()
    by_task = Accuracy(task="multiclass", num_classes=3)(predicted, truth).item()
    rows.append((by_class, by_task))
    print(f"{name}: MulticlassAccuracy {by_class:.3f}, Accuracy(task=multiclass) {by_task:.3f}")
assert abs(rows[0][0] - 0.5) < 1e-6 and abs(rows[0][1] - 0.9) < 1e-6
assert rows[0][0] < rows[1][0] and rows[0][1] > rows[1][1]
PY
