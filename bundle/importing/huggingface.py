"""What a Hugging Face folder says besides its weights: labels, geometry, normalisation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bundle.errors import ImportFailed
from bundle.importing.kinds import Source
from bundle.importing.options import Options, distinct
from bundle.importing.options import completed as with_said

# Pillow's numbers of the filters.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_RESNETS = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
}


def completed(source: Source, options: Options) -> Options:
    """The options with what `config.json` and `preprocessor_config.json` say.

    Raises:
        ImportFailed: The architecture is not one that is read.
    """
    config = source.config or {}
    said: dict[str, object] = {"arch": _arch(config)}
    processor = source.processor or {}
    size = processor.get("size")
    crop_share = processor.get("crop_pct") or 0.875
    if isinstance(size, dict) and "shortest_edge" in size:
        side = int(size["shortest_edge"])
        crop = processor.get("crop_size")
        if isinstance(crop, dict):  # resize to `size`, then crop
            said |= {"size": (crop["height"], crop["width"]), "resize": side}
        else:
            resize = int(side / crop_share) if side < 384 else side
            said |= {"size": (side, side), "resize": resize}
    elif isinstance(size, dict) and {"height", "width"} <= size.keys():
        said |= {"size": (size["height"], size["width"])}
    elif isinstance(size, int):
        said |= {"size": (size, size), "resize": int(size / crop_share)}
    if processor.get("resample") in _FILTERS:
        said["interpolation"] = _FILTERS[processor["resample"]]
    mean, std = processor.get("image_mean"), processor.get("image_std")
    if processor.get("do_normalize") is False:
        said["normalise"] = "0..1"
    elif mean and std:
        said["normalise"] = "/".join(",".join(f"{v:g}" for v in part) for part in (mean, std))
    if options.size or options.resize or options.stretch:
        said.pop("size", None)
        said.pop("resize", None)
    found = with_said(options, **said)
    return replace(found, stretch=True) if "resize" not in said and "size" in said else found


def _arch(config: dict[str, Any]) -> str:
    name = (config.get("architectures") or ["none"])[0]
    if name != "ResNetForImageClassification":
        raise ImportFailed(
            "The architecture of the Hugging Face folder is not read. Expected "
            "ResNetForImageClassification; export another one as ONNX (optimum-cli export onnx), "
            f"and import that file. Received: {name}"
        )
    layout = (str(config.get("layer_type")), tuple(config.get("depths") or ()))
    if layout not in _RESNETS or config.get("downsample_in_first_stage"):
        raise ImportFailed(
            "The ResNet has another layout than those of torchvision. Expected depths and "
            f"layer_type of ResNet-18 to ResNet-152. Received: {layout[0]} {list(layout[1])}"
        )
    return _RESNETS[layout] + ("-v1" if config.get("downsample_in_bottleneck") else "")


def assumed(source: Source) -> list[str]:
    """What is assumed because the folder lacks `preprocessor_config.json`: said by the child."""
    return [] if source.processor else ["there is no preprocessor_config.json in the folder"]


def labels(config: dict[str, Any]) -> list[str]:
    """The labels of `id2label`; one that occurs twice, as in ImageNet, gets its index."""
    return by_index(config.get("id2label") or {})


def by_index(names: dict[str, Any]) -> list[str]:
    """The labels of a mapping from index to a name, or to a list that ends with one.

    Raises:
        ImportFailed: The indices are not 0, 1, 2, ...
    """
    try:
        found = {int(index): name for index, name in names.items()}
    except ValueError:
        found = {}
    if not found or sorted(found) != list(range(len(found))):
        raise ImportFailed(
            "The file's names of the classes are not numbered 0, 1, 2, ... Give them with "
            f"--labels. Received: {', '.join(list(names)[:5]) or 'none'}"
        )
    texts = [
        str(found[i][-1] if isinstance(found[i], list) and found[i] else found[i])
        for i in range(len(found))
    ]
    return distinct(
        [f"{text} ({index})" if text in texts[:index] else text for index, text in enumerate(texts)]
    )
