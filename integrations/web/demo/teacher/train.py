"""Trains the demo's teacher on the repository's digits and writes it in TensorFlow.js's format: model.json and weights.bin.

Needs NumPy and PyTorch: `python train.py [EPOCHS]`. The digits are turned, scaled and moved a little, so that it also reads digits drawn by hand.
"""

import gzip
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[3] / "data"
BATCH = 100


def read(name, header):
    raw = gzip.decompress((DATA / name).read_bytes())
    return np.frombuffer(raw, np.uint8, offset=header)


def digits(part):
    images = read(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    labels = read(f"{part}-labels-idx1-ubyte.gz", 8)
    return torch.from_numpy(images / np.float32(255)), torch.from_numpy(labels.astype(np.int64))


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 5, stride=2)
        self.conv2 = nn.Conv2d(8, 16, 5, stride=2)
        self.dense1 = nn.Linear(7 * 7 * 16, 48)
        self.dense2 = nn.Linear(48, 10)

    def forward(self, x):
        # Padding and order of TensorFlow: one pixel before, two behind; channels last.
        same = (1, 2, 1, 2)
        x = F.relu(self.conv1(F.pad(x, same)))
        x = F.relu(self.conv2(F.pad(x, same)))
        x = x.permute(0, 2, 3, 1).flatten(1)
        x = F.dropout(F.relu(self.dense1(x)), 0.2, self.training)
        return self.dense2(x)


def moved(images):
    """Up to 12 degrees, 12 % and 2 pixels, for each image its own."""
    n = len(images)
    uniform = lambda most: (torch.rand(n) * 2 - 1) * most
    angle, scale = uniform(math.pi / 15), 1 + uniform(0.12)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = torch.stack([cos, -sin, uniform(2 / 14), sin, cos, uniform(2 / 14)], 1)
    grid = F.affine_grid(rows.view(n, 2, 3), images.shape, align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        right = (model(images).argmax(1) == labels).float().mean()
    model.train()
    return right.item()


def write(model):
    """Weights in f16, which TensorFlow.js widens as it loads."""
    convolution = lambda layer: layer.weight.permute(2, 3, 1, 0)
    matrix = lambda layer: layer.weight.T
    entries, parts = [], []
    for name, layer, kernel in [
        ("conv1", model.conv1, convolution), ("conv2", model.conv2, convolution), ("dense1", model.dense1, matrix), ("dense2", model.dense2, matrix),
    ]:
        for part, value in [("kernel", kernel(layer)), ("bias", layer.bias)]:
            array = value.detach().contiguous().numpy().astype("<f2")
            quantization = {"dtype": "float16", "original_dtype": "float32"}
            entries.append({"name": f"{name}/{part}", "shape": list(array.shape), "dtype": "float32", "quantization": quantization})
            parts.append(array.tobytes())
    conv = lambda name, filters, **more: {
        "class_name": "Conv2D",
        "config": {"name": name, "filters": filters, "kernel_size": [5, 5], "strides": [2, 2], "padding": "same", "activation": "relu", **more},
    }
    dense = lambda name, units, activation: {"class_name": "Dense", "config": {"name": name, "units": units, "activation": activation}}
    layers = [
        conv("conv1", 8, batch_input_shape=[None, 28, 28, 1]), conv("conv2", 16),
        {"class_name": "Flatten", "config": {"name": "flatten"}}, dense("dense1", 48, "relu"), dense("dense2", 10, "linear"),
    ]
    topology = {"class_name": "Sequential", "config": {"name": "teacher", "layers": layers}}
    manifest = [{"paths": ["weights.bin"], "weights": entries}]
    model_json = {"format": "layers-model", "modelTopology": topology, "weightsManifest": manifest}
    (HERE / "model.json").write_text(json.dumps(model_json, indent=1) + "\n")
    (HERE / "weights.bin").write_bytes(b"".join(parts))


def main():
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    torch.manual_seed(1)
    (images, labels), test = digits("train"), digits("test")
    model = Teacher()
    steps = epochs * math.ceil(len(images) / BATCH)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(1, epochs + 1):
        for rows in torch.randperm(len(images)).split(BATCH):
            loss = F.cross_entropy(model(moved(images[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch}: loss {loss.item():.4f}, test accuracy {accuracy(model, *test):.4f}", flush=True)
    write(model)


main()
