#!/usr/bin/env bash
# What: distances and cosines of equal float32 features with torch 2.15.0
# (torch.cdist, F.cosine_similarity), as measures of how far an attack moves a
# representation use them.
#
# Guess: a feature is at distance 0 from itself and has a cosine of at most 1; a
# shift of 0.01 comes out as 0.01.
#
# Behavior: from 26 rows on, cdist expands the square: for 64 values around 10 a
# feature is up to 0.07 from itself, and true shifts of 0.01 come out between 0 and
# 0.06, while the same call on 20 rows is right. Of 10,000 equal pairs some two
# thousand have a cosine above 1, and their angle (acos) is NaN.
# scikit-learn 1.9.1, which computes the same expansion in f64, is right.
#
# TARRL: clamps before acos; displacements are sums of squared differences, 0 for
#   equal features.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'numpy==2.4.6' 'scipy==1.17.1' 'scikit-learn==1.9.1'
"$PYTHON" - <<'PY' || changed "equal features are compared otherwise"
import torch
import torch.nn.functional as F
from sklearn.metrics import pairwise_distances

torch.set_num_threads(1)
torch.manual_seed(0)
features = torch.randn(200, 64) + 10
moved = features.double() + 0.01 * F.normalize(torch.randn(200, 64, dtype=torch.float64))
moved = moved.float()
exact = (moved.double() - features.double()).norm(dim=1)
large = torch.cdist(features, features).diagonal()
small = torch.cdist(features[:20], features[:20]).diagonal()
shifts = torch.cdist(features, moved).diagonal()
print(f"distance to itself: up to {large.max():.3f} of 200 rows, {small.max():.3f} of 20 rows")
print(f"shift of {exact.min():.4f} to {exact.max():.4f}: cdist gives {shifts.min():.4f} to {shifts.max():.4f}")
assert large.max() > 0.02 and small.max() == 0
assert (shifts - exact).abs().max() > 0.005
exactly = torch.cdist(features, moved, compute_mode="donot_use_mm_for_euclid_dist").diagonal()
assert (exactly - exact).abs().max() < 1e-4
own = pairwise_distances(features.numpy()).diagonal().max()
shifted = torch.tensor(pairwise_distances(features.numpy(), moved.numpy()).diagonal().copy())
print(f"scikit-learn: to itself {own}, shifts {shifted.min():.4f} to {shifted.max():.4f}")
assert own == 0 and (shifted - exact).abs().max() < 1e-3
pairs = torch.randn(10_000, 128)
cosine = F.cosine_similarity(pairs, pairs)
print(f"cosine of equal rows: up to 1 + {cosine.max() - 1:.1e}, angles that are NaN: {cosine.acos().isnan().sum().item()} of 10000")
assert cosine.max() > 1 and cosine.acos().isnan().sum() > 100
PY
