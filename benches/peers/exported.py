"""What the scripts of this folder share: our exported files as modules of PyTorch, and images of a dataset."""

import gzip
import json
import pathlib
import struct
import subprocess

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Names and strides of the convolutions of ConvSmall.
STRIDES = [1, 2, 1, 2]


class ConvSmall(nn.Module):
    """The network `conv-small` under the names of its state dict, with a linear head; pixels are normalized inside."""

    def __init__(self, channels, widths, classes, mean, std):
        super().__init__()
        shape = (1, len(mean) or 1, 1, 1)
        self.mean = torch.tensor(mean or [0.0]).view(shape)
        self.std = torch.tensor(std or [1.0]).view(shape)
        inputs = channels
        for i, (outputs, stride) in enumerate(zip(widths, STRIDES), 1):
            setattr(self, f"conv{i}", nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(outputs))
            inputs = outputs
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = (x - self.mean.to(x)) / self.std.to(x)
        for i in range(1, 5):
            x = torch.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        return self.fc(x.mean((2, 3)))


def conv_small(path):
    """The module in a file that `tarrl export --head … --out FILE.safetensors` wrote, every name of which has to fit."""
    state = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["architecture"] == "conv-small", metadata
    numbers = [[float(v) for v in metadata[key].split()] for key in ("mean", "std")]
    widths = [len(state[f"conv{i}.weight"]) for i in range(1, 5)]
    model = ConvSmall(state["conv1.weight"].shape[1], widths, len(state["fc.bias"]), *numbers)
    model.load_state_dict(state, strict=True)
    return model.eval()


def folded(model):
    """That module as a sequence that ends in the head, batch norm inside of the convolutions, weights without gradient."""
    layers = []
    if (model.mean != 0).any() or (model.std != 1).any():
        raise SystemExit("an encoder that normalizes its pixels has no such sequence")
    for i in range(1, 5):
        layers += [fuse_conv_bn_eval(getattr(model, f"conv{i}"), getattr(model, f"bn{i}")), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.fc).requires_grad_(False).eval()


def export(tarrl, encoder, head, out, *options):
    command = [tarrl, "export", encoder, "--out", out, *(["--head", head] if head else []), *options]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return out


def test_images(folder):
    """Bytes `(n, 1, h, w)` and labels of the test files of MNIST's format in a folder, packed or not."""

    def read(name):
        path = next(path for path in pathlib.Path(folder).glob(f"t10k-{name}*"))
        raw = gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()
        rank = raw[3]
        shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)

    return read("images")[:, None], read("labels").astype(np.int64)


def excess(points, images, norm, radius):
    """How far the farthest point lies beyond its ball, computed in double precision, and how far beyond [0, 1]."""
    difference = np.abs(points.astype(np.float64) - images.astype(np.float64)).reshape(len(points), -1)
    size = difference.max(1) if norm == "linf" else np.sqrt((difference**2).sum(1)) if norm == "l2" else difference.sum(1)
    return (size - radius).max(), max(points.max() - 1.0, -points.min())


def versions(*names):
    import importlib.metadata

    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def version_of(tarrl):
    return subprocess.run([str(tarrl), "--version"], capture_output=True, text=True, check=True).stdout.strip()


def read_json(path):
    return json.loads(pathlib.Path(path).read_text())
