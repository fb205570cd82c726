"""State dicts as PyTorch writes them, read by tarrl-interop: representations of both beside each other.

    pip install torch torchvision timm safetensors
    cargo build --release -p tarrl-interop --example representations
    cargo build --release -p tarrl-cli
    python benches/peers/state_dicts.py target/release/examples/representations target/release/tarrl

Each network has random weights and random running statistics. It is saved as one of the programs of docs/bring-your-own.md
saves it, and computes eight images here in double precision, there in single precision. A row names the file, the name
map that was chosen, and the largest difference relative to the largest representation. At the end classes of torchvision
and timm load what `tarrl export` wrote, with `strict=True`, and their outputs are compared with those of `tarrl embed`.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from torch import nn


class Children(nn.Module):
    """The children of a ResNet without its classifier, as lightly's examples have them."""

    def __init__(self, net):
        super().__init__()
        self.backbone = nn.Sequential(*list(net.children())[:-1])

    def forward(self, x):
        return self.backbone(x).flatten(1)


class Block(nn.Module):
    """A block of a WideResNet under the names of TRADES."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x):
        a = torch.relu(self.bn1(x))
        y = self.conv2(torch.relu(self.bn2(self.conv1(a))))
        return y + (x if self.convShortcut is None else self.convShortcut(a))


class Stage(nn.Module):
    def __init__(self, n, inputs, outputs, stride):
        super().__init__()
        blocks = [Block(inputs if i == 0 else outputs, outputs, stride if i == 0 else 1) for i in range(n)]
        self.layer = nn.Sequential(*blocks)

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    def __init__(self, depth, factor):
        super().__init__()
        n = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.block1 = Stage(n, 16, 16 * factor, 1)
        self.sub_block1 = Stage(1, 16, 16 * factor, 1)
        self.block2 = Stage(n, 16 * factor, 32 * factor, 2)
        self.block3 = Stage(n, 32 * factor, 64 * factor, 2)
        self.bn1 = nn.BatchNorm2d(64 * factor)
        self.fc = nn.Linear(64 * factor, 10)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return torch.relu(self.bn1(x)).mean((2, 3))


def cifar_resnet(make, padding):
    """A torchvision ResNet with the stem of small images."""
    net = make()
    net.conv1 = nn.Conv2d(3, 64, 3, 1, padding, bias=False)
    net.maxpool = nn.Identity()
    net.fc = nn.Identity()
    return net


def without(net, name):
    setattr(net, name, nn.Identity())
    return net


def randomized(net):
    """Other running statistics, scales and shifts than the initial ones, so that none can be forgotten."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    return net.eval()


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def imagenet(x):
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float32).double().view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float32).double().view(1, 3, 1, 1)
    return (x - mean) / std


LIGHTNING = {"epoch": 3, "global_step": 7, "pytorch-lightning_version": "2.0", "hyper_parameters": {"lr": 0.1}}


def cases():
    """File, side of the images, network, function of the pixels before it, content, heads, and how it is saved."""
    models = torchvision.models
    plain, same = (lambda state: state), (lambda x: x)
    yield "torchvision resnet18", 64, without(models.resnet18(), "fc"), imagenet, plain, None, {}
    yield "torchvision resnet50, legacy file", 64, without(models.resnet50(), "fc"), imagenet, plain, None, {
        "_use_new_zipfile_serialization": False
    }
    yield "torchvision vgg11_bn", 32, nn.Sequential(models.vgg11_bn().features, nn.Flatten()), imagenet, (
        lambda state: {name.replace("0.", "features.", 1): value for name, value in state.items()}
    ), None, {}
    vit = models.VisionTransformer(32, 4, 3, 3, 192, 768)
    yield "torchvision vit", 32, without(vit, "heads"), imagenet, plain, None, {}
    yield "timm vit_tiny_patch16_224", 224, timm.create_model("vit_tiny_patch16_224", num_classes=0), same, (
        lambda state: {"model": state}
    ), None, {}
    yield "solo-learn resnet18", 32, cifar_resnet(models.resnet18, 2), same, lambda state: {
        **LIGHTNING,
        "state_dict": {
            **prefixed(state, "backbone."),
            **prefixed(state, "momentum_backbone."),
            "classifier.weight": torch.zeros(10, 512),
        },
    }, None, {}
    yield "lightly resnet34", 64, Children(models.resnet34()), same, lambda state: {
        **LIGHTNING,
        "state_dict": {**state, "projection_head.layers.0.weight": torch.zeros(3, 3)},
    }, None, {}
    yield "barlow twins resnet50, bfloat16", 64, without(models.resnet50(), "fc"), imagenet, lambda state: {
        "epoch": 1,
        "model": {
            **prefixed({n: v.bfloat16() if v.is_floating_point() else v for n, v in state.items()}, "module.backbone."),
            "module.projector.0.weight": torch.zeros(3, 3),
            "module.bn.running_mean": torch.zeros(3),
        },
    }, None, {}
    yield "dino vit", 64, timm.models.VisionTransformer(
        img_size=64, patch_size=8, embed_dim=192, depth=4, num_heads=3, num_classes=0
    ), imagenet, lambda state: {
        "student": prefixed(state, "module.backbone."),
        "teacher": prefixed(state, "backbone."),
        "epoch": 4,
    }, None, {}
    yield "TRADES wrn-16-4, data parallel", 32, WideResNet(16, 4), same, lambda state: {
        "state_dict": prefixed(state, "module.")
    }, None, {}
    yield "whole module resnet18", 64, without(models.resnet18(), "fc"), imagenet, None, None, {}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("representations", type=Path)
    parser.add_argument("tarrl", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(1)
    folder = Path(tempfile.mkdtemp())
    print("| file | name map | dimensions | largest difference |\n|---|---|---:|---:|")
    for name, side, net, before, content, heads, how in cases():
        net = randomized(net)
        if "bfloat16" in name:
            net = net.bfloat16().float()
        path = folder / "model.pt"
        torch.save(net if content is None else content(net.state_dict()), path, **how)
        pixels = torch.rand(8, 3, side, side)
        (folder / "images").write_bytes(pixels.permute(0, 2, 3, 1).contiguous().numpy().astype("<f4").tobytes())
        command = [arguments.representations, path, folder / "images", str(side), folder / "out"]
        done = subprocess.run(command + ([str(heads)] if heads else []), capture_output=True, text=True)
        if done.returncode:
            print(f"| {name} | {done.stderr.strip()} | | |")
            continue
        chosen = next(line for line in done.stdout.splitlines() if line.startswith("name map")).split()[2]
        with torch.no_grad():
            expected = net.double()(before(pixels.double())).flatten(1).numpy()
        found = np.frombuffer((folder / "out").read_bytes(), "<f4").reshape(8, -1)
        gap = abs(found - expected).max() / abs(expected).max()
        print(f"| {name} | {chosen} | {found.shape[1]} | {gap:.1e} |")
    strict(arguments.tarrl, folder)


def strict(tarrl, folder):
    """Encoders of ours as `tarrl export` writes them, loaded by classes of other libraries with `strict=True`, and their
    outputs beside those of `tarrl embed`."""
    from safetensors.torch import load_file

    models, rng = torchvision.models, np.random.default_rng(1)
    small = lambda: cifar_resnet(models.resnet34, 1)
    vit = lambda: timm.models.VisionTransformer(
        img_size=64, patch_size=8, embed_dim=192, depth=4, num_heads=3, num_classes=0
    )
    networks = [
        ("resnet18 of torchvision, with a head", 64, lambda: models.resnet18(num_classes=7)),
        ("resnet50 of torchvision", 64, lambda: without(models.resnet50(), "fc")),
        ("resnet34 of torchvision with the stem of small images", 32, small),
        ("VisionTransformer of timm", 64, vit),
    ]
    print("\n| loaded by | dimensions | load_state_dict(strict=True) | largest difference |\n|---|---:|---|---:|")
    for name, side, make in networks:
        net = randomized(make())
        state, head = net.state_dict(), []
        if "head" in name:
            weight, bias = state["fc.weight"], state["fc.bias"]
            layer = {"k": len(bias), "d": weight.shape[1], "weight": weight.flatten().tolist(), "bias": bias.tolist()}
            (folder / "head.json").write_text(json.dumps(layer))
            head = ["--head", folder / "head.json"]
        torch.save(state, folder / "model.pt")
        pixels = rng.integers(0, 256, (8, side, side, 3), dtype=np.uint8)
        np.savez(folder / "images.npz", images=pixels, labels=np.arange(8) % 2)
        run = lambda *words: subprocess.run(list(map(str, [tarrl, *words])), check=True, capture_output=True)
        encoder, exported, features = (folder / part for part in ("encoder.safetensors", "state.safetensors", "f.npz"))
        run("import", folder / "model.pt", "--normalization", "none", "--out", encoder)
        run("export", encoder, *head, "--out", exported)
        run("embed", encoder, "--dataset", folder / "images.npz", "--out", features)
        again = make().eval()
        keys = again.load_state_dict(load_file(exported), strict=True)
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            expected = again.double()(x.double()).numpy()
        found = np.load(features)["features"].astype(np.float64)
        if head:
            found = found @ weight.double().numpy().T + bias.double().numpy()
        gap = abs(found - expected).max() / abs(expected).max()
        print(f"| {name} | {found.shape[1]} | {keys} | {gap:.1e} |")


if __name__ == "__main__":
    main()
