"""Weights in PyTorch: torchvision's for ImageNet, a state dict in a file, a TorchScript bundle.

Its twin is `training/keras/weights.py`.
The backbone and the classifier of an `Initial` are state dicts, under the names of
`training/torch/networks.py`.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from bundle.format.labels import imagenet_labels
from bundle.format.manifest import Manifest
from bundle.format.repository import file_digest
from bundle.normalisation import TORCHVISION, Normalisation
from training.config import TrainConfig
from training.errors import WeightsError
from training.weights.initial import Initial
from training.weights.published import Pixels, Published

# The keys of the state dict in checkpoints of timm and of torchvision's reference scripts.
WRAPPERS = ("state_dict", "model")
HEADS = ("fc.", "classifier.")  # the last linear layer: torchvision's name, ours
# Of batch normalisation: older files have none, and nothing here reads it.
COUNTER = "num_batches_tracked"


def imagenet(config: TrainConfig, with_classifier: bool) -> Initial:
    """The newest ImageNet weights of torchvision, downloaded and verified by torch.hub once.

    Raises:
        WeightsError: they can't be downloaded, or the file downloaded or cached has another hash.
    """
    weights = torchvision.models.get_model_weights(config.arch).DEFAULT
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    # torch.hub verifies only what it downloads.
    if cached.is_file() and not is_published(config.arch, cached):
        raise WeightsError(
            f"A file in the cache of torch.hub has another sha256 than its name promises. Delete "
            f"it; the same command downloads it again. Received: {str(cached)!r}"
        )
    try:
        state = weights.get_state_dict(
            progress=True, check_hash=True, weights_only=True, map_location="cpu"
        )
    except (OSError, RuntimeError) as exc:  # torch.hub: no connection, a wrong hash
        raise WeightsError(
            f"The weights {weights} can't be downloaded from {weights.url} ({exc}). Expected "
            f"internet access. Without it, bring {Path(weights.url).name} from elsewhere: --init "
            "FILE, or --weights FILE of `pretrained`."
        ) from exc
    initial = _split(state, config, Path(weights.url).name)
    return Initial(
        initial.backbone,
        initial.classifier if with_classifier else None,
        tuple(imagenet_labels()[0]),
        initial.normalisation,
        {"from": "imagenet", "weights": f"torchvision {weights}", "url": weights.url},
    )


def published(arch: str) -> Published:
    """The metadata of torchvision's newest ImageNet weights."""
    weights = torchvision.models.get_model_weights(arch).DEFAULT
    transforms = weights.transforms()
    return Published(
        accuracy=weights.meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100,
        source=f"torchvision {torchvision.__version__}, {weights}",
        pixels=Pixels(
            transforms.resize_size[0], transforms.crop_size[0], transforms.interpolation.value
        ),
    )


def is_published(arch: str, path: Path) -> bool:
    """Whether the file has the newest weights of torchvision, whose name contains its sha256."""
    url = torchvision.models.get_model_weights(arch).DEFAULT.url
    digits = Path(url).stem.rpartition("-")[2]
    return file_digest(path.resolve())[1].startswith(digits)


def fetch(url: str, path: Path) -> None:
    """Download `url` to `path` by torch.hub, with a progress bar."""
    torch.hub.download_url_to_file(url, str(path))


def from_file(config: TrainConfig, path: Path) -> Initial:
    """The state dict in `path` (.pth, .pt), of torchvision or of our networks.

    Nothing but tensors is unpickled.

    Raises:
        WeightsError: it is not a state dict of tensors, or not one of this network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as exc:
        raise WeightsError(
            f"The file can't be read as weights of PyTorch: {str(exc).splitlines()[0]:.200}. "
            f"Expected a state dict of tensors, as torch.save(model.state_dict(), ...) writes it. "
            f"Received: {str(path)!r}"
        ) from exc
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        raise WeightsError(
            f"The file holds no state dict of tensors but a {type(state).__name__}. Save "
            f"model.state_dict(). Received: {str(path)!r}"
        )
    return _split(state, config, str(path))


def from_bundle(config: TrainConfig, directory: Path, manifest: Manifest) -> Initial:
    """The weights of the TorchScript artifact of a bundle whose files have been verified."""
    with warnings.catch_warnings():
        # TorchScript is deprecated upstream (torch 2.9) but is the format of a bundle.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.load` is deprecated")
        network = torch.jit.load(str(directory / manifest.source.path), map_location="cpu")  # type: ignore[no-untyped-call]
    return _split(network.state_dict(), config, str(directory))


def load_weights(network: nn.Module, initial: Initial) -> None:
    """Load the weights into `network`; weights that `initial` lacks stay as they are.

    Raises:
        WeightsError: the weights are those of another network, for example one with another stem.
    """
    if initial.backbone is None:
        return
    given = initial.backbone | (initial.classifier or {})
    own = {
        name: value for name, value in network.state_dict().items() if name not in ("mean", "scale")
    }
    if not initial.classifier:
        own = {name: value for name, value in own.items() if not name.startswith("classifier.")}
    shapes = [
        {name: tuple(value.shape) for name, value in state.items() if not name.endswith(COUNTER)}
        for state in (own, given)
    ]
    if different := sorted(set(shapes[0].items()) ^ set(shapes[1].items())):
        name = different[0][0]
        raise WeightsError(
            f"The weights do not fit the network: {name} is {_shape(shapes[1], name)} in the "
            f"weights and {_shape(shapes[0], name)} in the network. Expected weights of the same "
            f"architecture, for the same kind of images. Received: {initial.record}"
        )
    network.load_state_dict(given, strict=False)


def _shape(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return str(list(shapes[name])) if name in shapes else "missing"


def _split(state: dict[str, Any], config: TrainConfig, source: str) -> Initial:
    """Backbone, classifier and normalisation of a state dict of torchvision's names or ours."""
    # DistributedDataParallel adds the prefix.
    state = {name.removeprefix("module."): value for name, value in state.items()}
    head = next((head for head in HEADS if head + "weight" in state), None)
    if head is None:
        raise WeightsError(
            f"The weights have no linear layer under the names {' or '.join(HEADS)}. Expected a "
            f"state dict of {config.arch}. Received: {source!r} with "
            f"{', '.join(sorted(state)[:3])}, ..."
        )
    own = {"mean", "scale"} <= state.keys()
    normalisation = TORCHVISION if config.family == "imagenet" else None
    if own:
        mean, std = state.pop("mean").flatten(), 1 / state.pop("scale").flatten()
        normalisation = Normalisation(tuple(mean.tolist()), tuple(std.tolist()))
    classifier = {
        "classifier." + n.removeprefix(head): v for n, v in state.items() if n.startswith(head)
    }
    backbone = {name: value for name, value in state.items() if not name.startswith(head)}
    return Initial(backbone, classifier, normalisation=normalisation)
