"""Small PyTorch files of every kind, and the logits that their networks give.

`python -m tests.bundle.importing.make_torch FOLDER` writes `NAME` and `NAME.npy` of each: logits of
`pixels(SIZE)` under the ImageNet normalisation.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from tests.bundle.importing.pixels import IMAGENET, pixels, scaled

SIZE = 64
LABELS = ["ant", "bee", "cat"]


def randomised(network: nn.Module) -> nn.Module:
    """The network with statistics as after some training, so that its outputs vary."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def build(name: str, classes: int = 3) -> nn.Module:
    return randomised(torchvision.models.get_model(name, weights=None, num_classes=classes))


def huggingface_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a torchvision ResNet under the names of `ResNetForImageClassification`."""

    def block(found: re.Match[str]) -> str:
        start = f"resnet.encoder.stages.{int(found[1]) - 1}.layers.{found[2]}."
        if found[3] == "downsample":
            return start + f"shortcut.{('convolution', 'normalization')[int(found[4])]}."
        kind = "convolution" if found[3] == "conv" else "normalization"
        return start + f"layer.{int(found[4]) - 1}.{kind}."

    renamed = {}
    for name, value in state.items():
        new = re.sub(r"^layer(\d)\.(\d+)\.(conv|bn|downsample)\.?(\d)\.", block, name)
        new = re.sub(r"^conv1\.", "resnet.embedder.embedder.convolution.", new)
        new = re.sub(r"^bn1\.", "resnet.embedder.embedder.normalization.", new)
        renamed[re.sub(r"^fc\.", "classifier.1.", new)] = value
    return renamed


def save_safetensors(state: dict[str, Tensor], path: Path) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    names = {torch.float32: "F32", torch.int64: "I64"}
    for name, value in state.items():
        raw = value.numpy().tobytes()
        header[name] = {
            "dtype": names[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


class OneImage(nn.Module):
    """A network whose trace takes one image only, and returns a dictionary."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.network(x).reshape(1, 3), "features": x}


@torch.no_grad()
def main(folder: Path) -> None:
    torch.manual_seed(0)
    x = torch.from_numpy(scaled(pixels(SIZE), *IMAGENET).transpose(0, 3, 1, 2).copy())

    def expect(name: str, network: nn.Module) -> None:
        np.save(folder / f"{name}.npy", network(x).numpy())

    shuffle = build("shufflenet_v2_x0_5")
    state = shuffle.state_dict()
    torch.save(state, folder / "plain.bin")
    for name in ("legacy", "lightning.ckpt", "weights.safetensors", "traced.pt"):
        expect(name, shuffle)
    for name in ("one_image.pt", "program.pt2", "archive.mar"):
        expect(name, shuffle)
    torch.save(
        {"model_state_dict": {f"module.{k}": v for k, v in state.items()}, "classes": LABELS},
        folder / "legacy",
        _use_new_zipfile_serialization=False,
    )
    lightning = {f"model.{name}": value for name, value in state.items()}
    lightning["loss.weight"] = torch.ones(3)
    torch.save(
        {"state_dict": lightning, "hyper_parameters": argparse.Namespace(rate=0.1), "epoch": 3},
        folder / "lightning.ckpt",
    )
    save_safetensors(state, folder / "weights.safetensors")
    traced = torch.jit.trace(shuffle, x[:1])  # type: ignore[no-untyped-call]
    traced.save(str(folder / "traced.pt"))
    one = torch.jit.trace(OneImage(shuffle), x[:1], strict=False)  # type: ignore[no-untyped-call]
    one.save(str(folder / "one_image.pt"))
    torch.export.save(torch.export.export(shuffle, (x[:1],)), folder / "program.pt2")
    with zipfile.ZipFile(folder / "archive.mar", "w") as archive:
        archive.write(folder / "traced.pt", "serialized.pt")
        archive.writestr(
            "MAR-INF/MANIFEST.json", json.dumps({"model": {"serializedFile": "serialized.pt"}})
        )
        names = {str(index): [f"n{index}", label] for index, label in enumerate(LABELS)}
        archive.writestr("index_to_name.json", json.dumps(names))

    regnet, averaged = build("regnet_y_400mf"), build("regnet_y_400mf")
    torch.save(
        {"state_dict": regnet.state_dict(), "state_dict_ema": averaged.state_dict()},
        folder / "averaged.pth",
    )
    expect("averaged.pth", averaged)

    replaced: Any = build("mobilenet_v2", 9)
    replaced.classifier = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Linear(1280, 3)))
    torch.save(replaced.eval().state_dict(), folder / "replaced_head.pth")
    expect("replaced_head.pth", replaced)

    resnet: Any = build("resnet50")
    for stage in (resnet.layer2, resnet.layer3, resnet.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    expect("hf", resnet)
    (folder / "hf").mkdir()
    save_safetensors(huggingface_names(resnet.state_dict()), folder / "hf" / "model.safetensors")
    config = {
        "architectures": ["ResNetForImageClassification"],
        "layer_type": "bottleneck",
        "depths": [3, 4, 6, 3],
        "downsample_in_bottleneck": True,
        "id2label": dict(enumerate(LABELS)),
    }
    (folder / "hf" / "config.json").write_text(json.dumps(config))
    processor = {
        "size": {"shortest_edge": SIZE},
        "crop_pct": 0.875,
        "resample": 3,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (folder / "hf" / "preprocessor_config.json").write_text(json.dumps(processor))

    torch.save(torch.optim.Adam(shuffle.parameters()).state_dict(), folder / "optimizer.pt")
    torch.save(shuffle, folder / "whole.pt")
    (folder / "truncated.pt").write_bytes((folder / "traced.pt").read_bytes()[:50_000])
    detector = {f"backbone.body.{name}": value for name, value in state.items()}
    detector["rpn.head.cls_logits.weight"] = torch.zeros(3, 256, 1, 1)
    torch.save(detector, folder / "detector.pth")
    regression = torch.jit.trace(build("squeezenet1_1", 1), x[:1])  # type: ignore[no-untyped-call]
    regression.save(str(folder / "regression.pt"))
    torch.save(build("squeezenet1_1", 7).state_dict(), folder / "seven.pth")
    segmenter = torch.jit.trace(nn.Conv2d(3, 5, 1), x[:1])  # type: ignore[no-untyped-call]
    segmenter.save(str(folder / "segmenter.pt"))


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main(Path(sys.argv[1]))
