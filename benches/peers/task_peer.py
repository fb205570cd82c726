"""The tasks of `tarrl bench --peers` in the programs that are known for them: AutoAttack by its authors (pyautoattack),
certificates by auto_LiRPA, the linear probe by scikit-learn, views by torchvision.

Reads the inputs that `tarrl bench` wrote. Prints `ready` after a first run; then does the task once for each line of
standard input and prints its seconds; at the end of the input prints the peak of resident memory in millions of bytes,
name and version of the program, and after a semicolon what came out. Where a program has several ways to the same result,
each is tried first and the quickest is timed.
"""

import argparse
import importlib.metadata
import pathlib
import resource
import sys
import time

import numpy as np


def seconds(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def quickest(ways):
    """Name and function of the way that is quickest in its second run."""
    for run in ways.values():
        run()
    name = min(ways, key=lambda name: seconds(ways[name]))
    return name, ways[name]


def network(options):
    """The encoder with its head as PyTorch modules, batch norm folded into the convolutions."""
    import torch

    from exported import conv_small, folded

    torch.set_num_threads(options.threads)
    return folded(conv_small(options.inputs / "model.safetensors"))


def images(data):
    import torch

    return torch.from_numpy(data["images"]).permute(0, 3, 1, 2).contiguous()


def autoattack(options, data):
    import torch
    from pyautoattack import AutoAttack

    model, x, y = network(options), images(data), torch.from_numpy(data["labels"].astype(np.int64))
    suite = AutoAttack(model, norm="Linf", eps=options.epsilon, seed=0, version="standard", device="cpu")

    def run():
        found = suite.run_standard_evaluation(x, y, batch_size=len(y))
        found = found[0] if isinstance(found, tuple) else found
        with torch.no_grad():
            return f"{int((model(found).argmax(1) == y).sum())} of {len(y)} robust"

    return "pyautoattack", "", run


def certify(options, data):
    import torch
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm

    encoder, x = network(options)[:-1], images(data)
    low, high = (x - options.epsilon).clamp(0, 1), (x + options.epsilon).clamp(0, 1)
    clean = encoder(x).detach().double()

    def bound(size):
        module = BoundedModule(encoder, x[:size], device="cpu")

        def run():
            parts = []
            for i in range(0, len(x), size):
                ball = PerturbationLpNorm(norm=np.inf, x_L=low[i : i + size], x_U=high[i : i + size])
                with torch.no_grad():
                    parts.append(module.compute_bounds(x=(BoundedTensor(x[i : i + size], ball),), method="CROWN"))
            lower, upper = (torch.cat(ends).double() for ends in zip(*parts))
            corner = torch.maximum((upper - clean).abs(), (clean - lower).abs())
            return f"mean radius {corner.square().sum(1).sqrt().mean():.4f}"

        return run

    name, run = quickest({"CROWN, one by one": bound(1), "CROWN, a batch": bound(len(x))})
    return "auto_LiRPA", name, run


def probe(options, data):
    import warnings

    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    warnings.simplefilter("ignore")
    features, labels = data["features"].astype(np.float64), data["labels"]
    n = len(labels)

    def fit(solver, tolerance):
        z = StandardScaler().fit_transform(features)
        # Its C weighs the sum of the cross-entropies.
        model = LogisticRegression(C=1 / (n * options.l2), solver=solver, tol=tolerance, max_iter=10_000).fit(z, labels)
        return z, model

    def objective(z, model):
        logits = model.decision_function(z)
        logits -= logits.max(1, keepdims=True)
        loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(n), labels]
        return loss.mean() + options.l2 / 2 * (model.coef_**2).sum()

    def way(solver):
        """The loosest tolerance that ends within a millionth of the objective that we reach."""
        for digits in range(4, 13):
            if objective(*fit(solver, 10.0**-digits)) <= options.objective * (1 + 1e-6):
                break
        else:
            raise SystemExit(f"{solver} does not reach an objective of {options.objective}")

        def run():
            reached = fit(solver, 10.0**-digits)
            return lambda: f"objective {objective(*reached):.7f}"

        return f"{solver}, tol 1e-{digits}", run

    name, run = quickest(dict(map(way, ["lbfgs", "newton-cg", "newton-cholesky"])))
    default = objective(*fit("lbfgs", 1e-4))
    return "scikit-learn", f"{name} (objective of its defaults {default:.7f})", run


def augment(options, data):
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2

    pixels, size = data["images"], data["images"].shape[1]
    steps = [
        v2.RandomResizedCrop(size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), antialias=True),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(3, (0.1, 2.0))], p=0.5),
    ]
    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]

    class Views(Dataset):
        def __init__(self, items):
            self.items, self.pipeline = items, v2.Compose(steps + last)

        def __len__(self):
            return len(self.items)

        def __getitem__(self, i):
            return self.pipeline(self.items[i]), self.pipeline(self.items[i])

    def way(items):
        loader = DataLoader(
            Views(items), batch_size=64, shuffle=True, num_workers=options.threads, persistent_workers=True
        )
        return lambda: f"{sum(len(a) + len(b) for a, b in loader)} views"

    tensors = list(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous())
    name, run = quickest({"tensors": way(tensors), "Pillow": way([Image.fromarray(image) for image in pixels])})
    return "torchvision", f"{name}, {options.threads} processes", run


def peak_mb(processes):
    """Of this process, and as much again for each of its children as the largest of them had."""
    own, largest = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (own + processes * largest) * 1024 / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["autoattack", "certify", "probe", "augment"])
    parser.add_argument("inputs", type=pathlib.Path, help="the folder that tarrl bench wrote")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epsilon", type=float)
    parser.add_argument("--l2", type=float)
    parser.add_argument("--objective", type=float)
    options = parser.parse_args()
    # What a library prints is no part of the protocol.
    out, sys.stdout = sys.stdout, sys.stderr
    package, setting, run = globals()[options.task](options, np.load(options.inputs / "inputs.npz"))
    result = run()
    print("ready", file=out, flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        result = run()
        print(time.perf_counter() - begin, file=out, flush=True)
    result = result() if callable(result) else result
    version = importlib.metadata.version(package) if package != "auto_LiRPA" else sys.modules[package].__version__
    program = ", ".join(filter(None, [f"{package} {version}", setting]))
    processes = options.threads if options.task == "augment" else 0
    if processes:
        # Ends the processes, whose memory is only known afterwards.
        del run
        import gc

        gc.collect()
    print(peak_mb(processes), f"{program}; {result}", file=out, flush=True)


main()
