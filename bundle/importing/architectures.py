"""Which network of torchvision a state dict belongs to, by the names and shapes of its tensors.

Candidates are built without memory for their weights; only the last layer may differ, in classes.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bundle.errors import ImportFailed
from bundle.importing.torch_weights import without_wrappers

if TYPE_CHECKING:
    from torch import Tensor, nn

# What a name begins with: what the names of the architectures begin with.
_FAMILIES = {
    "layer1.0.conv1.": ("resnet", "resnext", "wide_resnet"),
    "conv_proj.": ("vit",),
    "trunk_output.": ("regnet",),
    "features.denseblock1.": ("densenet",),
    "features.0.0.": ("convnext", "efficientnet", "mobilenet", "swin"),
    "features.0.": ("alexnet", "vgg", "squeezenet"),
    "features.2.": ("alexnet", "vgg", "squeezenet"),
    "Conv2d_1a_3x3.": ("inception",),
    "inception3a.": ("googlenet",),
    "stage2.": ("shufflenet",),
    "layers.0.": ("mnasnet",),
    "stem.0.0.": ("maxvit",),
}
_AUXILIARY = ("googlenet", "inception_v3")
_CLASSES = 1000  # of the candidates
_DETECTORS = ("rpn.", "roi_heads.", "bbox", "box_head", "anchor", "class_embed.", "dfl.")

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Network:
    """A network of torchvision with the weights of the file."""

    name: str
    module: nn.Module
    image_size: int | None  # where the weights determine it
    notes: list[str] = field(default_factory=list)


def find_network(state: dict[str, Tensor], arch: str | None) -> Network:
    """The network that the weights are of.

    Args:
        state: The weights; the last layer has any number of classes.
        arch: Its name in torchvision, which is then the only candidate; None: found.

    Raises:
        ImportFailed: They are of none, or not of that one.
    """
    import torchvision  # noqa: PLC0415 - heavy, and for this process only

    known = torchvision.models.list_models(module=torchvision.models)
    if arch is not None and arch not in known:
        raise ImportFailed(
            "The architecture is unknown. Expected --arch with the name of a classifier of "
            f"torchvision, as resnet50, convnext_tiny or vit_b_16. Received: {arch!r}"
        )
    if any(part in name for name in state for part in _DETECTORS):
        raise ImportFailed(
            "The weights are of a detection model, and only image classifiers are served. Expected "
            f"one output for each class. Received: {', '.join(sorted(state)[:3])}, ..."
        )
    closest: tuple[int, str] = (-1, "")
    for inner in without_wrappers(state):
        given = {n: tuple(v.shape) for n, v in inner.items() if "num_batches_tracked" not in n}
        for name, options in _candidates(given, [arch] if arch else known):
            own = _shapes(_build(name, _CLASSES, options))
            renamed, difference = _compare(own, given)
            if not difference:
                outside = [n for n in state if not n.endswith(tuple(inner))]
                notes = [f"left out, not of the network: {', '.join(outside[:5])}"] * bool(outside)
                return _loaded(name, options, inner, renamed, notes)
            same = len(own.items() & given.items())
            closest = max(closest, (same, f"{name} ({difference})"))
    raise ImportFailed(_no_network(state, arch, *closest))


def _candidates(given: Shapes, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    if len(names) > 1:
        first = {prefix for key in given for prefix in _FAMILIES if key.startswith(prefix)}
        starts = tuple(start for prefix in first for start in _FAMILIES[prefix])
        names = [name for name in names if name.startswith(starts)] if starts else []
    for name in names:
        if name.startswith("vit") and (size := _vit_size(given)):
            yield name, {"image_size": size}
        elif name in _AUXILIARY:
            yield name, {"init_weights": False}
            yield name, {"init_weights": False, "aux_logits": False}
        else:
            yield name, {}


def _vit_size(given: Shapes) -> int | None:
    """The image size that the number of position embeddings of a vision transformer means."""
    positions, patch = given.get("encoder.pos_embedding"), given.get("conv_proj.weight")
    if not positions or len(positions) != 3 or not patch:
        return None
    return math.isqrt(positions[1] - 1) * patch[-1]


def _build(name: str, classes: int, options: dict[str, Any]) -> nn.Module:
    """The network with all parameters on the meta device, which has no memory."""
    import torch  # noqa: PLC0415
    import torchvision  # noqa: PLC0415
    from torch.overrides import TorchFunctionMode  # noqa: PLC0415

    class ParametersOnMeta(TorchFunctionMode):
        """`torch.device("meta")` would also take the numbers that RegNet computes its widths of."""

        def __torch_function__(
            self, func: Any, _types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if func in (torch.empty, torch.zeros, torch.ones):
                kwargs["device"] = "meta"
            return func(*args, **kwargs)

    with ParametersOnMeta():
        found: nn.Module = torchvision.models.get_model(
            name, weights=None, num_classes=classes, **options
        )
    return found


def _shapes(module: nn.Module) -> Shapes:
    return {
        name: tuple(value.shape)
        for name, value in module.state_dict().items()
        if "num_batches_tracked" not in name
    }


def _compare(own: Shapes, given: Shapes) -> tuple[dict[str, str], str]:
    """New names of the given tensors, and the first difference; empty: they fit."""
    heads = [name for name, shape in own.items() if shape[:1] == (_CLASSES,)]
    renamed = _renamed_head(own, given, heads)
    given = {renamed.get(name, name): shape for name, shape in given.items()}
    for name, shape in own.items():
        if name not in given:
            return {}, f"{name} is missing"
        found = given[name]
        if found != shape and not (name in heads and found[1:] == shape[1:]):
            return {}, f"{name} is {list(found)}, not {list(shape)}"
    if extra := sorted(given.keys() - own.keys()):
        return {}, f"{extra[0]} is too much"
    if len({given[name][0] for name in heads}) > 1:
        return {}, "its last layers differ in classes"
    return renamed, ""


def _renamed_head(own: Shapes, given: Shapes, heads: list[str]) -> dict[str, str]:
    """A last layer that was replaced by one in another place: `fc.1.weight` is `fc.weight`."""
    missing = [name for name in heads if name not in given]
    extra = [name for name in given if name not in own]
    if len(missing) != 2 or len(extra) != 2:
        return {}
    found = {}
    for name in missing:
        first, _, last = name.partition(".")[0], "", name.rpartition(".")[2]
        match = [e for e in extra if e.startswith(f"{first}.") and e.endswith(f".{last}")]
        if len(match) != 1 or len(given[match[0]]) != len(own[name]):
            return {}
        found[match[0]] = name
    return found


def _loaded(
    name: str,
    options: dict[str, Any],
    state: dict[str, Tensor],
    renamed: dict[str, str],
    notes: list[str],
) -> Network:
    state = {renamed.get(key, key): value for key, value in state.items()}
    own = _shapes(_build(name, _CLASSES, options))
    head = next(key for key, shape in own.items() if shape[:1] == (_CLASSES,))
    module = _build(name, state[head].shape[0], options)
    state = {key: v.float() if v.is_floating_point() else v for key, v in state.items()}
    # Of the versions of some layers, which MNASNet insists on.
    ordered = OrderedDict(state)
    ordered._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(ordered, strict=False, assign=True)
    if name.startswith(("resnet50", "resnet101", "resnet152", "resnext", "wide")):
        notes = [*notes, f"{name} of torchvision is v1.5: its 3x3 convolutions have the strides"]
    return Network(name, module.eval(), options.get("image_size"), notes)


def usual_pixels(name: str) -> dict[str, Any]:
    """Size, resize and interpolation of torchvision's evaluation of its weights."""
    import torchvision  # noqa: PLC0415

    found = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    size = found.crop_size[0]
    # Weights of 224 pixels were retrained with a resize of 232; most people have 256.
    resize = 256 if size == 224 else found.resize_size[0]
    return {"size": size, "resize": resize, "interpolation": found.interpolation.value}


def usual_normalisation(name: str) -> tuple[str, str]:
    """What is assumed of the input of these weights, and why."""
    if name in _AUXILIARY:
        return "-1..1", f"as of all weights of {name}"
    return "imagenet", "as of nearly all weights of PyTorch"


def _no_network(state: dict[str, Tensor], arch: str | None, same: int, closest: str) -> str:
    first = ", ".join(sorted(state)[:3])
    if arch:
        return (
            f"The weights do not fit --arch {arch}: {closest.partition(' (')[2][:-1]}. Expected "
            "those of that network, or no --arch, which finds it. "
            f"Received: {len(state)} tensors: {first}, ..."
        )
    near = f"; the closest is {closest}" if same > len(state) / 4 else ""
    return (
        f"No classifier of torchvision has these weights{near}. Expected one of them; export "
        "another network from its own program, as TorchScript (torch.jit.trace), .pt2 or ONNX, "
        f"and import that. Received: {len(state)} tensors: {first}, ..."
    )
