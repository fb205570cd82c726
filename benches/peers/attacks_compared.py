"""Public attack libraries on the same small networks and images: the table of docs/attacks-compared.md.

Install beforehand (CPU is enough):
    pip install torch==2.15.0 torchvision==0.29.2 scikit-learn==1.9.1 torchattacks==3.5.1 foolbox==3.3.4 \
        adversarial-robustness-toolbox==1.20.1 pyautoattack==0.2.0 safetensors==0.8.0
    pip install --no-deps adv-lib==0.2.8 secml-torch==1.5
adv-lib imports visdom for plots, whose source package does not build with today's setuptools; an empty module stands
for it here. Prints the table as Markdown; takes a few minutes on two cores.

`--export FILE` instead writes the plain and the two-class network, their images, labels and logits, and which images
pyautoattack's standard breaks, as a safetensors file for benches/examples/attacks_compared.rs.
"""

import argparse
import importlib.machinery
import importlib.metadata
import importlib.util
import logging
import math
import sys
import types
import warnings
from fractions import Fraction

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
if importlib.util.find_spec("visdom") is None:
    sys.modules["visdom"] = types.ModuleType("visdom")
    sys.modules["visdom"].__spec__ = importlib.machinery.ModuleSpec("visdom", None)

import adv_lib.attacks as advlib
import art.attacks.evasion as art_attacks
import foolbox
import numpy as np
import pyautoattack
import torch
import torchattacks
from art.estimators.classification import PyTorchClassifier
from safetensors.torch import save_file
from secmlt.adv.evasion.pgd import PGD as SecPGD
from secmlt.adv.evasion.perturbation_models import LpPerturbationModels as SecNorm
from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

RADIUS = {"linf": Fraction(1, 10), "l2": Fraction(1, 2), "l1": Fraction(3)}
IMAGES = 50


class Scaled(nn.Module):
    def __init__(self, inner, factor=1.0):
        super().__init__()
        self.inner, self.factor, self.passes = inner, factor, 0

    def forward(self, x):
        self.passes += len(x)
        return self.inner(x) * self.factor


def trained(classes, dropout=0.0):
    """A network for 8 x 8 digits, and test images on a grid of 256 levels that it has right."""
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    x = (torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8) * 255).round() / 255
    y = torch.tensor(y)
    x, y = x[y < classes], y[y < classes]
    part = len(x) * 2 // 3
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Dropout(dropout), nn.Linear(128, classes),
    )
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(15):
        for rows in torch.randperm(part).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
    net.eval()
    x, y = x[part:], y[part:]
    right = net(x).argmax(1) == y
    return net, x[right][:IMAGES], y[right][:IMAGES]


def excess(points, x, norm, radius):
    """Largest distance minus the radius, of the stored floats: exact for linf and l1, to first order for l2."""
    worst = -math.inf
    for u, v in zip(points.flatten(1).tolist(), x.flatten(1).tolist()):
        if any(math.isnan(a) for a in u):
            return math.nan
        d = [Fraction(a) - Fraction(b) for a, b in zip(u, v)]
        if norm == "linf":
            value = float(max(map(abs, d)) - radius)
        elif norm == "l1":
            value = float(sum(map(abs, d)) - radius)
        else:
            square = sum(a * a for a in d)
            value = float((square - radius * radius) / (2 * radius)) if abs(square - radius**2) < Fraction(1, 1000) else math.sqrt(square) - float(radius)
        worst = max(worst, value)
    return worst


def torchattack(name, **options):
    return lambda model, x, y: getattr(torchattacks, name)(model, **options)(x, y)


def fool(name, norm, **options):
    def attack(model, x, y):
        # The wrapper of foolbox warns about a model in training mode and goes on in that mode.
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        return getattr(foolbox.attacks, name)(**options)(wrapped, x, y, epsilons=float(RADIUS[norm]))[1]

    return attack


def art(name, **options):
    def attack(model, x, y):
        classes = model(x[:1]).shape[1]
        wrapped = PyTorchClassifier(model, nn.CrossEntropyLoss(), (1, 8, 8), classes, clip_values=(0, 1))
        return torch.from_numpy(getattr(art_attacks, name)(wrapped, **options).generate(x.numpy(), y.numpy()))

    return attack


def adv(name, minimal=None, **options):
    def attack(model, x, y):
        points = getattr(advlib, name)(model, x, y, **options)
        if minimal:
            p = {"linf": math.inf, "l2": 2, "l1": 1}[minimal]
            far = torch.linalg.vector_norm((points.double() - x.double()).flatten(1), p, dim=1) > float(RADIUS[minimal])
            points = torch.where(far[:, None, None, None], x, points)
        return points

    return attack


def official(norm, **options):
    def attack(model, x, y):
        suite = pyautoattack.AutoAttack(model, norm=norm, eps=float(RADIUS[norm.lower()]), seed=0, **options)
        points = suite.run_standard_evaluation(x, y, batch_size=IMAGES)
        return points[0] if isinstance(points, tuple) else points

    return attack


def secml(norm, step):
    def attack(model, x, y):
        run = SecPGD(
            perturbation_model=getattr(SecNorm, norm.upper()), epsilon=float(RADIUS[norm]), num_steps=40, step_size=step,
            random_start=False, y_target=None, lb=0.0, ub=1.0, backend="native",
        )
        loader = DataLoader(TensorDataset(x, y), batch_size=IMAGES)
        return torch.cat([batch[0] for batch in run(BasePyTorchClassifier(model), loader)]).detach()

    return attack


E = {norm: float(radius) for norm, radius in RADIUS.items()}
ROWS = [
    ("linf", "torchattacks", "FGSM", torchattack("FGSM", eps=E["linf"])),
    ("linf", "torchattacks", "PGD, 40 steps of eps/10", torchattack("PGD", eps=E["linf"], alpha=0.01, steps=40)),
    ("linf", "torchattacks", "APGD (ce), 50 steps", torchattack("APGD", eps=E["linf"], steps=50)),
    ("linf", "torchattacks", "Square, 500", torchattack("Square", eps=E["linf"], n_queries=500)),
    ("linf", "torchattacks", "AutoAttack standard", torchattack("AutoAttack", eps=E["linf"])),
    ("linf", "foolbox", "FGSM", fool("FGSM", "linf")),
    ("linf", "foolbox", "LinfPGD, defaults", fool("LinfPGD", "linf")),
    ("linf", "foolbox", "LinfPGD, 40 steps of eps/10", fool("LinfPGD", "linf", rel_stepsize=0.1)),
    ("linf", "foolbox", "LInfFMN, defaults", fool("LInfFMNAttack", "linf")),
    ("linf", "foolbox", "LinfDeepFool, defaults", fool("LinfDeepFoolAttack", "linf")),
    ("linf", "ART", "PGD, 40 steps of eps/10", art("ProjectedGradientDescent", eps=E["linf"], eps_step=0.01, max_iter=40, verbose=False)),
    ("linf", "ART", "APGD, 50 steps from 2 eps", art("AutoProjectedGradientDescent", eps=E["linf"], eps_step=0.2, max_iter=50, nb_random_init=1, verbose=False)),
    ("linf", "adv-lib", "pgd_linf, defaults", adv("pgd_linf", ε=E["linf"])),
    ("linf", "adv-lib", "apgd, defaults", adv("apgd", eps=E["linf"], norm=math.inf)),
    ("linf", "adv-lib", "apgd_targeted, defaults", adv("apgd_targeted", eps=E["linf"], norm=math.inf)),
    ("linf", "adv-lib", "fmn, 200 steps", adv("fmn", minimal="linf", norm=math.inf, steps=200)),
    ("linf", "secml-torch", "PGD, 40 steps of eps/10", secml("linf", 0.01)),
    ("linf", "pyautoattack", "APGD (ce)", official("Linf", version="custom", attacks=["apgd-ce"])),
    ("linf", "pyautoattack", "standard", official("Linf")),
    ("l2", "torchattacks", "PGDL2, 40 steps of eps/10", torchattack("PGDL2", eps=E["l2"], alpha=0.05, steps=40)),
    ("l2", "foolbox", "L2PGD, defaults", fool("L2PGD", "l2")),
    ("l2", "foolbox", "DDN, defaults", fool("DDNAttack", "l2")),
    ("l2", "foolbox", "L2FMN, defaults", fool("L2FMNAttack", "l2")),
    ("l2", "ART", "PGD, 40 steps of eps/10", art("ProjectedGradientDescent", norm=2, eps=E["l2"], eps_step=0.05, max_iter=40, verbose=False)),
    ("l2", "adv-lib", "ddn, 200 steps", adv("ddn", minimal="l2", steps=200)),
    ("l2", "adv-lib", "fmn, 200 steps", adv("fmn", minimal="l2", norm=2, steps=200)),
    ("l2", "secml-torch", "PGD, 40 steps of eps/10", secml("l2", 0.05)),
    ("l2", "pyautoattack", "standard", official("L2")),
    ("l1", "foolbox", "L1PGD, defaults", fool("L1PGD", "l1")),
    ("l1", "foolbox", "SparseL1Descent, defaults", fool("SparseL1DescentAttack", "l1")),
    ("l1", "foolbox", "L1FMN, defaults", fool("L1FMNAttack", "l1")),
    ("l1", "foolbox", "EAD, 9 searches of 200", fool("EADAttack", "l1", steps=200)),
    ("l1", "ART", "PGD, 40 steps of eps/10", art("ProjectedGradientDescent", norm=1, eps=E["l1"], eps_step=0.3, max_iter=40, verbose=False)),
    ("l1", "adv-lib", "apgd, defaults", adv("apgd", eps=E["l1"], norm=1)),
    ("l1", "adv-lib", "fmn, 200 steps", adv("fmn", minimal="l1", norm=1, steps=200)),
    ("l1", "secml-torch", "PGD, 40 steps of eps/10", secml("l1", 0.3)),
    ("l1", "pyautoattack", "standard", official("L1")),
]


def measure(attack, net, x, y, norm, factor=1.0, training=False):
    model = Scaled(net, factor)
    model.train(training)
    torch.manual_seed(0)
    np.random.seed(0)
    try:
        points = attack(model, x.clone(), y.clone()).detach().float()
    except Exception as error:
        net.eval()
        return type(error).__name__, None, None, None
    passes = model.passes / len(x)
    mode = model.training
    net.eval()
    with torch.no_grad():
        wrong = net(points).argmax(1) != y
    finite = points.flatten(1).isfinite().all(1)
    return f"{100 * (wrong & finite).float().mean():.0f}", excess(points, x, norm, RADIUS[norm]), passes, mode


@torch.no_grad()
def export(path, networks):
    """Writes networks, images, labels, logits, and which images of the first pyautoattack's standard breaks."""
    tensors = {}
    for name, (net, x, y) in networks.items():
        parts = net.state_dict() | {"images": x, "labels": y.int(), "logits": net(x)}
        tensors |= {f"{name}.{key}": value.contiguous() for key, value in parts.items()}
    name, (net, x, y) = next(iter(networks.items()))
    for norm in RADIUS:
        torch.manual_seed(0)
        with torch.enable_grad():
            points = official(norm.capitalize())(net, x.clone(), y.clone())
        tensors[f"{name}.broken.{norm}"] = (net(points).argmax(1) != y).int()
    save_file(tensors, path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--export", metavar="FILE", help="write networks and images for our own attacks instead")
    path = parser.parse_args().export
    ten, two = trained(10), trained(2)
    if path:
        return export(path, {"ten": ten, "two": two})
    packages = {"ART": "adversarial-robustness-toolbox"}
    dropped = trained(10, dropout=0.3)
    print("| norm | library | attack | broken, % | largest distance − ε | forward passes an image | logits × 30, % | two classes, % | given in training mode, %; mode afterwards |")
    print("|---|---|---|---|---|---|---|---|---|")
    for norm, library, name, attack in ROWS:
        version = importlib.metadata.version(packages.get(library, library))
        share, over, passes, _ = measure(attack, *ten, norm)
        steep = measure(attack, *ten, norm, factor=30.0)[0]
        pair = measure(attack, *two, norm)[0]
        training, _, _, mode = measure(attack, *dropped, norm, training=True)
        after = "" if mode is None else "; training" if mode else "; evaluation"
        distance = "" if over is None else f"{over:+.1e}"
        count = "" if passes is None else f"{passes:.0f}"
        print(f"| {norm} | {library} {version} | {name} | {share} | {distance} | {count} | {steep} | {pair} | {training}{after} |", flush=True)


if __name__ == "__main__":
    main()
