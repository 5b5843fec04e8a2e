"""Both backends train the same networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import FRAMEWORKS, WarmOf, Whole

MEASURE = """
import json, sys
from training.config import make_config
from bundle.normalisation import TORCHVISION
from training.{framework}.networks import build_network, count_parameters, feature_map
found = {{}}
for arch, size in json.loads(sys.argv[1]):
    config = make_config(framework={framework!r}, arch=arch, image_size=size)
    network = build_network(config, 10, TORCHVISION)
    found[f"{{arch}}@{{size}}"] = [count_parameters(network), feature_map(network, size)]
print(json.dumps(found))
"""
CIFAR = [f"{kind}{depth}" for depth in (20, 32, 44, 56) for kind in ("resnet", "plain")]
MEASURED = [*((arch, 32) for arch in CIFAR), ("resnet20", 33), ("resnet18", 32), ("resnet34", 32)]
MEASURED += [("resnet20x2", 32), ("resnet18", 224), ("resnet50", 65)]


def printed(warm: WarmOf, framework: str, code: str, *arguments: str | Path) -> str:
    """What the program prints: one process never holds both frameworks."""
    done = warm(framework).start(code, *arguments).end()
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def measured(warm: WarmOf) -> dict[str, dict[str, tuple[int, list[int]]]]:
    """Parameters and size of the feature map, by framework and `arch@image_size`."""
    return {
        framework: json.loads(
            printed(warm, framework, MEASURE.format(framework=framework), json.dumps(MEASURED))
        )
        for framework in FRAMEWORKS
    }


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_networks_have_the_parameters_of_the_paper(
    framework: str, measured: dict[str, Any]
) -> None:
    """He et al. 2016, table 6: 0.27, 0.46, 0.66 and 0.85 million; identity shortcuts have none."""
    counts = {name: count for name, (count, _) in measured[framework].items()}

    residual = [counts[f"resnet{depth}@32"] for depth in (20, 32, 44, 56)]
    assert [round(count / 1e6, 2) for count in residual] == [0.27, 0.46, 0.66, 0.85]
    assert residual == [counts[f"plain{depth}@32"] for depth in (20, 32, 44, 56)]
    assert residual[0] == 269_722
    # Every convolution of twice the width has four times the weights, except the first.
    assert counts["resnet20x2@32"] == 1_073_962


def test_both_frameworks_have_the_same_networks(measured: dict[str, Any]) -> None:
    # keras.applications gives the convolutions biases, which batch normalisation cancels.
    biases = 26_560
    measured["keras"]["resnet50@65"][0] -= biases

    assert measured["torch"] == measured["keras"]
    assert measured["torch"]["resnet18@224"] == [11_689_512 - 990 * 513, [7, 7, 512]]
    assert measured["torch"]["resnet18@32"][1] == [4, 4, 512]
    assert measured["torch"]["resnet20@33"][1] == [9, 9, 64]
    assert measured["torch"]["resnet50@65"][1] == [3, 3, 2048]


LOGITS_OF_TORCH = """
import sys
import numpy as np, torch
from training.config import make_config
from bundle.normalisation import TORCHVISION
from training.torch.networks import build_network
torch.manual_seed(0)
network = build_network(make_config(arch="resnet18", image_size=96), 10, TORCHVISION).eval()
pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
with torch.no_grad():
    logits = network(torch.from_numpy(pixels)).numpy()
own = ("mean", "scale")
state = {k: v.numpy() for k, v in network.state_dict().items() if "num_batches" not in k}
np.savez(sys.argv[1], pixels, logits, *(v for k, v in state.items() if k not in own))
"""
LOGITS_OF_KERAS = """
import re, sys
import numpy as np
from training.config import make_config
from bundle.normalisation import TORCHVISION
from training.keras.networks import build_network
with np.load(sys.argv[1]) as arrays:
    pixels, logits, *weights = (arrays[name] for name in arrays.files)
config = make_config(framework="keras", arch="resnet18", image_size=96)
network = build_network(config, 10, TORCHVISION)
def order(layer):
    number = re.findall(r"(?<=_)\\d+$", layer.name) or [0]
    return int(number[0]), "batch" in layer.name
made = [layer for layer in network.layers if "conv2d" in layer.name or "batch" in layer.name]
for layer in [*sorted(made, key=order), network.get_layer("classifier")]:
    for variable in layer.weights:
        value = weights.pop(0)
        variable.assign(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T)
print(float(np.abs(network(pixels, training=False)[1] - logits).max()), len(weights))
"""


def test_with_the_same_weights_both_frameworks_compute_the_same(
    warm: WarmOf, tmp_path: Path
) -> None:
    """Keras has no resnet18; torchvision's is the original, strides and padding included."""
    printed(warm, "torch", LOGITS_OF_TORCH, tmp_path / "logits.npz")
    difference, left = printed(warm, "keras", LOGITS_OF_KERAS, tmp_path / "logits.npz").split()

    assert float(difference) < 1e-3
    assert int(left) == 0


STEP = """
import json
import numpy as np
from training.config import make_config
from training.{framework}.trainer import Trainer
config = make_config(framework={framework!r}, optimizer={optimizer!r}, threads=1)
generator = np.random.default_rng(0)
trainer = Trainer(config, 4, np.full(3, 128, "f4"), np.full(3, 64, "f4"))
pixels = generator.integers(0, 256, (32, 16, 16, 3), dtype=np.uint8)
targets = np.eye(4, dtype="f4")[generator.integers(0, 4, 32)]
losses = [trainer.train_step(pixels, targets, 0.3)[0] for _ in range(12)]
print(json.dumps(losses))
"""


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_both_frameworks_overfit_one_batch(optimizer: str, warm: WarmOf) -> None:
    losses = {}
    for framework in FRAMEWORKS:
        code = STEP.format(framework=framework, optimizer=optimizer)
        losses[framework] = json.loads(printed(warm, framework, code))

    for values in losses.values():
        assert 1 < values[0] < 3
        assert values[-1] < 0.3 * values[0]


@pytest.mark.parametrize(("framework", "twins"), [("torch", "tensorflow"), ("keras", "torch")])
def test_what_trains_in_one_framework_never_loads_the_other(
    framework: str, twins: str, warm: WarmOf
) -> None:
    loaded = printed(warm, framework, "import sys; print(*sys.modules)").split()

    assert f"training.{framework}.trainer" in loaded
    assert twins not in loaded


START_UP = ("absl", "oneDNN", "cpu_feature_guard", "cuInit", "cudart_stub")


def test_no_start_up_line_of_a_framework_reaches_the_user(whole: Whole) -> None:
    assert [text for text in START_UP if text in whole.resumed.stderr] == []
