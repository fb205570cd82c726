"""Minimum-norm attacks of public libraries and of TARRL on the same encoders and images: a table of docs/attacks-compared.md.

Install beforehand (CPU is enough):
    pip install torch==2.15.0 torchvision scipy safetensors requests
    pip install --no-deps foolbox==3.3.4 eagerpy==0.30.0 adv-lib==0.2.8 secml-torch==1.5
    cargo build --release -p tarrl-cli

    python benches/peers/minimum_norm.py run --tarrl target/release/tarrl --results DIR --images 100 \
        --subject SimCLR=ENCODER.safetensors,HEAD.safetensors --subject TARR=ENCODER.safetensors,HEAD.safetensors
    python benches/peers/minimum_norm.py table --results DIR --document docs/attacks-compared.md

`run` attacks what is not in DIR yet, one attack after the other; `table` writes what is there. Encoders are of the
architecture conv-small, as `tarrl export` writes them. The box is kept by the attacks: there is no clamp in the model.

Passes are counted in a wrapper around the model, as AttackBench (Cina et al. 2025) counts them: every row of a query is a
forward pass of the image that it belongs to, every row that a gradient comes back through a backward pass. An image with
2,000 passes gets no more of them: its scores are then those of its label, with slope zero. What an attack has found is
the nearest point that the network gets wrong among all that it queried within these passes, whatever it returned.
"""

import argparse
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import math
import subprocess
import sys
import time
import types
import warnings
from functools import partial
from pathlib import Path

warnings.simplefilter("ignore")
if importlib.util.find_spec("visdom") is None:
    sys.modules["visdom"] = types.ModuleType("visdom")
    sys.modules["visdom"].__spec__ = importlib.machinery.ModuleSpec("visdom", None)

import adv_lib.attacks as advlib
import foolbox
import numpy as np
import torch
from safetensors import safe_open
from secmlt.adv.evasion.fmn import FMN as SecFMN
from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

BUDGET = 2000
NORMS = {"linf": math.inf, "l2": 2, "l1": 1, "l0": 0}


class ConvSmall(nn.Module):
    """The architecture conv-small with a linear head, from a file of `tarrl export --head`."""

    def __init__(self, path):
        super().__init__()
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}
            constants = file.metadata()
        self.mean, self.std = (float(constants[name]) for name in ("mean", "std"))
        for i, stride in enumerate((1, 2, 1, 2), 1):
            outputs, inputs = state[f"conv{i}.weight"].shape[:2]
            self.add_module(f"conv{i}", nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(outputs))
        self.fc = nn.Linear(*reversed(state["fc.weight"].shape))
        self.load_state_dict(state)
        self.eval().requires_grad_(False)

    def forward(self, x):
        x = (x - self.mean) / self.std
        for i in range(1, 5):
            x = torch.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        return self.fc(x.mean((2, 3)))


def distances(u, x, norm):
    moved = (u.double() - x.double()).flatten(1)
    return (moved != 0).sum(1).double() if norm == "l0" else torch.linalg.vector_norm(moved, NORMS[norm], dim=1)


class Counted(nn.Module):
    """A network that counts passes, ends at the budget, and keeps the nearest mistake of every image."""

    def __init__(self, net, x, y, norm):
        super().__init__()
        self.net, self.x, self.y, self.norm = net, x, y, norm
        self.forwards, self.backwards = torch.zeros(len(x), dtype=torch.long), torch.zeros(len(x), dtype=torch.long)
        self.best = torch.full((len(x),), math.inf, dtype=torch.double)
        self.own = 0.0

    def forward(self, u):
        began = time.perf_counter()
        points = u.detach()
        n = len(self.x)
        if len(points) == n:
            rows = torch.arange(n)
        else:
            rows = torch.cdist(points.flatten(1), self.x.flatten(1)).argmin(1)
        allowed = torch.empty(len(points), dtype=torch.bool)
        for i, row in enumerate(rows.tolist()):
            allowed[i] = self.forwards[row] + self.backwards[row] < BUDGET
            self.forwards[row] += allowed[i]
        self.own += time.perf_counter() - began
        scores = self.net(u)
        began = time.perf_counter()
        labels = nn.functional.one_hot(self.y[rows], scores.shape[1]).float() * scores.shape[1]
        scores = torch.where(allowed[:, None], scores, labels)
        inside = ((points >= 0) & (points <= 1)).flatten(1).all(1)
        wrong = (scores.detach().argmax(1) != self.y[rows]) & inside & allowed
        if wrong.any():
            found = distances(points[wrong], self.x[rows[wrong]], self.norm)
            self.best.scatter_reduce_(0, rows[wrong], found, "amin")
        if scores.requires_grad:
            scores.register_hook(partial(self.back, rows, allowed))
        self.own += time.perf_counter() - began
        return scores

    def back(self, rows, allowed, gradient):
        began = time.perf_counter()
        room = allowed & (self.forwards[rows] + self.backwards[rows] < BUDGET)
        self.backwards.scatter_add_(0, rows, room.long())
        self.own += time.perf_counter() - began
        return gradient * room[:, None]


def fool(name, **options):
    def attack(model, x, y, norm):
        wrapped = foolbox.PyTorchModel(model.eval(), bounds=(0, 1), device="cpu")
        getattr(foolbox.attacks, name)(**options)(wrapped, x, y, epsilons=None)

    return attack


def adv(name, normed=False, **options):
    def attack(model, x, y, norm):
        own = {"norm": NORMS[norm]} if normed else {}
        getattr(advlib, name)(model, x, y, **own, **options)

    return attack


def secml(model, x, y, norm):
    # Lengths of 10 in l-infinity, as for every FMN here.
    run = SecFMN(norm, num_steps=1000, step_size=10.0 if norm == "linf" else 1.0, backend="native")
    run(BasePyTorchClassifier(model), DataLoader(TensorDataset(x, y), batch_size=len(x)))


def search(model, x, y, norm):
    """Ten balls, doubled until one holds a mistake and then halved between, each with twenty steps towards five classes."""
    low = torch.zeros(len(x))
    high = torch.full((len(x),), math.inf)
    radius = torch.full((len(x),), {"linf": 1 / 255, "l2": 1.0, "l1": 10.0}[norm])
    for _ in range(10):
        advlib.apgd_targeted(model, x, y, radius, NORMS[norm], n_iter=20, num_targets=5, use_rs=True)
        broken = model.best <= radius.double() * (1 + 1e-5)
        high = torch.where(broken, torch.minimum(high, radius), high)
        low = torch.where(broken, low, radius)
        radius = torch.where(high.isinf(), 2 * low, (low + high) / 2)


PEERS = {
    "linf": {
        "adv-lib FMN, 1,000 steps of 10": adv("fmn", True, steps=1000, α_init=10.0),
        "adv-lib PDPGD, 1,000 steps": adv("pdpgd", True, num_steps=1000),
        "adv-lib FAB, 180 steps": adv("fab", True, n_iter=180),
        "adv-lib APGD-T, 10 balls": search,
        "secml-torch FMN, 1,000 steps of 10": secml,
        "foolbox FMN, 1,000 steps of 10": fool("LInfFMNAttack", steps=1000, max_stepsize=10.0),
        "adv-lib DeepFool": adv("df", steps=100, norm=math.inf),
    },
    "l2": {
        "adv-lib ALMA, 1,000 steps": adv("alma", num_steps=1000, distance="l2", init_lr_distance=0.1),
        "adv-lib PDGD, 1,000 steps": adv("pdgd", num_steps=1000),
        "adv-lib DDN, 1,000 steps": adv("ddn", steps=1000, levels=None),
        "adv-lib FAB, 180 steps": adv("fab", True, n_iter=180),
        "adv-lib APGD-T, 10 balls": search,
        "secml-torch FMN, 1,000 steps": secml,
        "foolbox DDN, 1,000 steps": fool("DDNAttack", steps=1000),
        "adv-lib SuperDeepFool": adv("sdf"),
        "adv-lib DeepFool": adv("df", steps=100, norm=2),
    },
    "l1": {
        "adv-lib PDPGD, 1,000 steps": adv("pdpgd", True, num_steps=1000),
        "adv-lib ALMA, 1,000 steps": adv("alma", num_steps=1000, distance="l1", init_lr_distance=0.5),
        "adv-lib APGD-T, 10 balls": search,
        "adv-lib FMN, 1,000 steps": adv("fmn", True, steps=1000),
        "adv-lib FAB, 180 steps": adv("fab", True, n_iter=180),
        "secml-torch FMN, 1,000 steps": secml,
        "foolbox EAD, 9 searches of 74": fool("EADAttack", steps=74, decision_rule="L1"),
    },
    "l0": {
        "adv-lib σ-zero, 1,000 steps": adv("sigma_zero", num_steps=1000),
        "adv-lib PDPGD, 1,000 steps": adv("pdpgd", True, num_steps=1000, proximal_operator=23),
        "adv-lib FMN, 1,000 steps": adv("fmn", True, steps=1000),
        "adv-lib VFGA, 90 steps": adv("vfga", targeted=False, max_iter=90),
        "secml-torch FMN, 1,000 steps": secml,
    },
}
OURS = {
    "linf": ["nearest", "fmn", "sdf"],
    "l2": ["nearest", "alma", "sdf"],
    "l1": ["nearest", "apgd-search", "sdf"],
    "l0": ["nearest", "sigma-zero"],
}


def images(folder, indices):
    from gzip import open as unpack

    pixels = np.frombuffer(unpack(folder / "t10k-images-idx3-ubyte.gz").read(), np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(unpack(folder / "t10k-labels-idx1-ubyte.gz").read(), np.uint8, offset=8)
    x = torch.from_numpy(pixels[indices].astype(np.float32)) / 255
    return x[:, None], torch.from_numpy(labels[indices].astype(np.int64))


def ours(arguments, encoder, head, norm, attack, out):
    """The outcome of each image, and the seconds of the whole program."""
    command = [arguments.tarrl, "attack", "--checkpoint", encoder, "--head", head, "--dataset", "fashion-mnist-sample"]
    command += ["--norm", norm, "--epsilon", "1", "--attack", attack, "--images", str(arguments.images)]
    command += ["--seed", str(arguments.seed), "--passes", str(BUDGET), "--threads", str(arguments.threads), "--json", out]
    Path(out).unlink(missing_ok=True)
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return json.loads(Path(out).read_text())["samples"], time.perf_counter() - began


def run(arguments):
    torch.set_num_threads(arguments.threads)
    arguments.results.mkdir(parents=True, exist_ok=True)
    for subject in arguments.subject:
        name, files = subject.split("=")
        encoder, head = files.split(",")
        exported = arguments.results / f"{name}.safetensors"
        command = [arguments.tarrl, "export", encoder, "--head", head, "--out", exported]
        subprocess.run(command, check=True, capture_output=True)
        net = ConvSmall(exported)
        for norm in arguments.norms:
            place = arguments.results / f"{name}-{norm}.json"
            done = json.loads(place.read_text()) if place.exists() else {"rows": {}}

            def keep(row, forward, backward, seconds, found):
                numbers = [None if math.isinf(d) else d for d in found]
                done["rows"][row] = {
                    "forward": forward, "backward": backward, "seconds": seconds, "distance": numbers,
                }
                place.write_text(json.dumps(done))
                print(name, norm, row, f"{seconds:.1f} s", flush=True)

            for attack in OURS[norm]:
                if f"TARRL {attack}" in done["rows"] and not arguments.again:
                    continue
                found, seconds = ours(arguments, encoder, head, norm, attack, arguments.results / "ours.json")
                indices = [image["index"] for image in found]
                x, y = images(arguments.data, indices)
                # Both programs have to get the same images right.
                right = torch.tensor([image["distance"] != 0 for image in found])
                assert (right == (net(x).argmax(1) == y)).all(), "the exported network is another one"
                found = [image for image in found if image["distance"] != 0]
                mean = lambda key: sum(image[key] for image in found) / len(found)
                far = [math.inf if image["distance"] is None else image["distance"] for image in found]
                done["indices"] = indices
                keep(f"TARRL {attack}", mean("forward"), mean("backward"), seconds, far)
            x, y = images(arguments.data, done["indices"])
            right = net(x).argmax(1) == y
            x, y = x[right], y[right]
            for row, attack in PEERS[norm].items():
                if row in done["rows"] or arguments.ours:
                    continue
                torch.manual_seed(0)
                np.random.seed(0)
                model = Counted(net, x, y, norm)
                began = time.perf_counter()
                try:
                    attack(model, x.clone(), y.clone(), norm)
                except Exception as error:
                    print(name, norm, row, repr(error), flush=True)
                    continue
                seconds = time.perf_counter() - began - model.own
                passes = [count.double().mean().item() for count in (model.forwards, model.backwards)]
                keep(row, *passes, seconds, model.best.tolist())


def optimality(found, reference):
    """Local optimality, the median ratio, the share within one per cent, the worst ratio."""
    most = max(reference)
    local = sum(most - min(d, most) for d in found) / sum(most - d for d in reference)
    ratios = sorted(d / best for d, best in zip(found, reference))
    n = len(ratios)
    median = (ratios[(n - 1) // 2] + ratios[n // 2]) / 2
    return local, median, sum(ratio <= 1.01 for ratio in ratios) / n, ratios[-1]


def written(value):
    return "∞" if math.isinf(value) else f"{value:.3f}".removeprefix("0")


BEGIN, END = "<!-- minimum_norm.py writes from here -->", "<!-- to here -->"


def table(arguments):
    lines = []
    for place in sorted(arguments.results.glob("*-l*.json"), key=lambda place: (place.stem.rsplit("-", 1)[0], place.stem)):
        name, norm = place.stem.rsplit("-", 1)
        done = json.loads(place.read_text())["rows"]
        found = {row: [math.inf if d is None else d for d in one["distance"]] for row, one in done.items()}
        reference = [min(column) for column in zip(*found.values())]
        union = {
            side: [min(column) for column in zip(*(d for row, d in found.items() if row.startswith("TARRL") == mine))]
            for side, mine in (("all peers together", False), ("all of TARRL together", True))
        }
        lines += [f"### {name}, {norm}", ""]
        lines += [f"{len(reference)} images; the largest distance of the union is {max(reference):.4g}.", ""]
        lines += ["| attack | local optimality | median d/d* | within 1 % | worst d/d* | forward | backward | seconds |"]
        lines += ["|---|---:|---:|---:|---:|---:|---:|---:|"]
        order = sorted(found, key=lambda row: -optimality(found[row], reference)[0])
        for row in order:
            local, median, share, worst = optimality(found[row], reference)
            one = done[row]
            lines.append(
                f"| {row} | {written(local)} | {written(median)} | {written(share)} | {written(worst)} "
                f"| {one['forward']:.0f} | {one['backward']:.0f} | {one['seconds']:.1f} |"
            )
        for side, far in union.items():
            if far:
                local, median, share, worst = optimality(far, reference)
                lines.append(f"| {side} | {written(local)} | {written(median)} | {written(share)} | {written(worst)} | | | |")
        lines.append("")
        for radius in {"l1": [4.4], "l0": [6.0]}.get(norm, []):
            broken = {side: sum(d <= radius for d in far) for side, far in union.items() if far}
            counts = ", ".join(f"{side} {count}" for side, count in broken.items())
            nearest = sum(d <= radius for d in found.get("TARRL nearest", []))
            lines += [f"Within {radius:g}: `nearest` breaks {nearest}; {counts}.", ""]
    if arguments.document:
        text = arguments.document.read_text()
        before, rest = text.split(BEGIN)
        after = rest.split(END)[1]
        names = {"torch": "torch", "foolbox": "foolbox", "adv-lib": "adv-lib", "secml-torch": "secml-torch"}
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
        commit = arguments.commit or subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        head = f"{versions}; TARRL at commit {commit}."
        arguments.document.write_text(f"{before}{BEGIN}\n\n{head}\n\n" + "\n".join(lines) + f"\n{END}{after}")
    else:
        print("\n".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("run")
    verb.set_defaults(act=run)
    verb.add_argument("--tarrl", required=True)
    verb.add_argument("--subject", action="append", required=True, metavar="NAME=ENCODER,HEAD")
    verb.add_argument("--results", type=Path, required=True)
    verb.add_argument("--images", type=int, default=100)
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--threads", type=int, default=2)
    verb.add_argument("--norms", nargs="+", choices=NORMS, default=list(NORMS))
    verb.add_argument("--data", type=Path, default=Path("datasets/fashion-mnist-sample"))
    verb.add_argument("--ours", action="store_true", help="no peers")
    verb.add_argument("--again", action="store_true", help="our attacks once more, in the place of their results")
    verb = verbs.add_parser("table")
    verb.set_defaults(act=table)
    verb.add_argument("--results", type=Path, required=True)
    verb.add_argument("--document", type=Path)
    verb.add_argument("--commit")
    arguments = parser.parse_args()
    arguments.act(arguments)


if __name__ == "__main__":
    main()
