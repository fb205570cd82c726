#!/usr/bin/env bash
# What: PCA of scikit-learn 1.9.1 on float32 features, as used for the rank of a
# representation.
#
# Guess: singular values down to 1e-5 of the largest come out within a percent,
# and a mean far from zero does no harm, because PCA centers.
#
# Behavior: for many more rows than columns the solver that "auto" picks squares
# the data (and centers by subtracting the product of means), all in float32.
# On 2000 features of 64 dimensions with singular values 100 ... 1e-4, those
# below 1e-4 of the largest are wrong by half or zero; with a constant 100 added,
# the value that is 1 comes out above 4 and every one below 0.02 as 0 or noise.
# svd_solver="full" holds out two orders of magnitude longer, and so does float64.
#
# TARRL: rank measures (effective rank, RankMe, participation ratio) take
# centered features in f64 and never the eigenvalues of an f32 covariance.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'numpy==2.4.6' 'scipy==1.17.1' 'scikit-learn==1.9.1'
"$PYTHON" - <<'PY' || changed "PCA resolves small components otherwise"
import numpy as np
from sklearn.decomposition import PCA

rng = np.random.default_rng(0)
rows, columns = 2000, 64
u = np.linalg.qr(rng.standard_normal((rows, columns)))[0]
u = np.linalg.qr(u - u.mean(0))[0]
v = np.linalg.qr(rng.standard_normal((columns, columns)))[0]
features = (u * np.logspace(2, -4, columns) @ v.T).astype(np.float32)


def exact(x):
    x = x.astype(np.float64)
    return np.linalg.svd(x - x.mean(0), compute_uv=False)


def error(x, solver):
    pca = PCA(svd_solver=solver).fit(x)
    found = pca.singular_values_.astype(np.float64)
    return found, np.abs(found / exact(x) - 1)


shown = [0, 21, 35, 42, 49, 56]
for name, x in (("mean 0", features), ("mean 100", features + np.float32(100))):
    print(f"{name}, exact   ", *[f"{s:.3g}" for s in exact(x)[shown]])
    for solver in ("auto", "full"):
        print(f"{name}, {solver}    ", *[f"{s:.3g}" for s in error(x, solver)[0][shown]])
small = exact(features) < 1e-4 * 100
assert np.median(error(features, "auto")[1][small]) > 0.5
assert np.median(error(features, "full")[1][small]) < 0.05
shifted = features + np.float32(100)
found, _ = error(shifted, "auto")
assert found[21] > 2 * exact(shifted)[21] and (found == 0).sum() >= 10
assert error(shifted, "full")[1][:42].max() < 0.2
assert error(shifted.astype(np.float64), "auto")[1][:42].max() < 0.01
PY
