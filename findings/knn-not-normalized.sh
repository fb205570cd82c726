#!/usr/bin/env bash
# What: the nearest-neighbor classifier of lightly 1.6.0 (knn_predict), with the
# arithmetic of torch 2.15.0.
#
# Guess: features are normalized inside, because the votes are documented with a
# temperature for cosines; or features of another length give slightly other
# votes.
#
# Behavior: nothing is normalized. A feature of length 1 gets 100 % right, the
# same features times 5 get 0 %: exp(similarity / 0.1) is infinite and so are the
# votes. No error, no warning.
#
# TARRL: the classifier normalizes itself and adds its votes in f64; subtracting the
# largest similarity before the exponential would serve temperatures below 0.0015
# too.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'lightly==1.6.0'
"$PYTHON" - <<'PY' || changed "knn_predict treats lengths otherwise"
import torch
import torch.nn.functional as F
from lightly.utils.benchmarking.knn import knn_predict

draws = torch.Generator().manual_seed(0)
centers = F.normalize(torch.randn(5, 32, generator=draws))
labels = torch.randint(0, 5, (1000,), generator=draws)
features = F.normalize(centers[labels] + 0.1 * torch.randn(1000, 32, generator=draws))
accuracy = {}
for length in (1.0, 2.0, 5.0, 30.0):
    scaled = features * length
    predicted = knn_predict(scaled[:200], scaled[200:].T.contiguous(), labels[200:], 5, knn_k=50, knn_t=0.1)[:, 0]
    accuracy[length] = (predicted == labels[:200]).float().mean().item()
    print(f"features of length {length}: {100 * accuracy[length]:.1f} % right")
assert accuracy[1.0] > 0.99 and accuracy[5.0] < 0.5 and accuracy[30.0] < 0.5
PY
