"""State dicts: read without running anything of the file, unwrapped, under torchvision's names."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.errors import ImportFailed

if TYPE_CHECKING:
    from torch import Tensor

# The averaged weights of a checkpoint are the better ones, and those that timm loads.
WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model", "net")
_AVERAGED = WRAPPERS[:3]
# A first part of the names that as much of the weights has is the attribute that held the network.
_SHARE = 0.9
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_HOW_TO_SAVE = (
    "Save the weights, torch.save(model.state_dict(), FILE), or the network as TorchScript, "
    "torch.jit.trace(model.eval(), example).save(FILE)."
)


@dataclass(frozen=True)
class Weights:
    """A state dict, and what else the file says."""

    state: dict[str, Tensor]
    labels: list[str] | None
    notes: list[str]


class _Inert(dict):  # type: ignore[type-arg]
    """Stands for an object of a class that is not loaded: nothing of it is kept or run."""

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return dict.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def __setstate__(self, _: object) -> None:
        """Forget the attributes."""


def read_pickle(path: Path) -> Weights:
    """The state dict in a file of torch.save; only tensors and plain values are unpickled.

    Raises:
        ImportFailed: It is not readable, or holds no state dict.
    """
    import torch  # noqa: PLC0415 - heavy, and for this process only

    inert = _unknown_classes(path)
    stubs: list[Any] = [(type(name, (_Inert,), {}), name) for name in inert]
    try:
        with torch.serialization.safe_globals(stubs), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, TypeError, AttributeError,
            IndexError, pickle.UnpicklingError) as exc:  # fmt: skip
        raise _unreadable(path, inert, exc) from exc
    return _unwrapped(found, path, inert)


def _unknown_classes(path: Path) -> list[str]:
    import torch  # noqa: PLC0415

    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError):
        return []  # older pickles: they are read without


def _unreadable(path: Path, inert: list[str], exc: Exception) -> ImportFailed:
    blocked = re.search(r"GLOBAL (\S+)", str(exc))
    names = [blocked[1]] if blocked else inert
    if names:
        return ImportFailed(
            f"The file holds pickled Python objects ({names[0]}), and opening them runs code of "
            f"whoever wrote the file. Expected weights alone. {_HOW_TO_SAVE} "
            f"Received: {path.name!r}"
        )
    return ImportFailed(
        "The file can't be read as weights of PyTorch: damaged, cut off or not of torch.save. "
        f"Copy or download it again. Received: {path.name!r}"
    )


def read_safetensors(path: Path) -> Weights:
    """The tensors of a .safetensors file: a JSON header, and raw values.

    Raises:
        ImportFailed: The header does not fit the file.
    """
    import torch  # noqa: PLC0415 - heavy, and for this process only

    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    state = {}
    try:
        header = json.loads(data[8:start])
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            low, high = entry["data_offsets"]
            dtype = getattr(torch, _DTYPES[entry["dtype"]])
            part = bytearray(data[start + low : start + high])
            flat = torch.frombuffer(part, dtype=dtype) if part else torch.empty(0, dtype=dtype)
            state[name] = flat.reshape(entry["shape"])
    except (ValueError, KeyError, TypeError, RuntimeError) as exc:
        raise ImportFailed(
            "The .safetensors file is damaged or cut off: its header does not fit its length. Copy "
            f"or download it again. Received: {path.name!r}"
        ) from exc
    return Weights(state, None, [])


def _unwrapped(found: Any, path: Path, inert: list[str]) -> Weights:
    if isinstance(found, _Inert):
        raise ImportFailed(
            f"The file holds a whole model, pickled with its class ({type(found).__name__}), and "
            f"opening it would run code of whoever wrote it. Expected weights alone. {_HOW_TO_SAVE}"
            f" Received: {path.name!r}"
        )
    if not isinstance(found, dict):
        raise ImportFailed(
            f"The file holds a {type(found).__name__}, no weights. {_HOW_TO_SAVE} "
            f"Received: {path.name!r}"
        )
    labels, notes = _labels(found), []
    inside = [name for name in WRAPPERS if _is_state(found.get(name))]
    if not _is_state(found) and inside:
        if inside[0] in _AVERAGED and len(inside) > 1:
            notes.append(f"took the averaged weights {inside[0]!r} rather than {inside[1]!r}")
        found = found[inside[0]]
    if _is_state(found):
        return Weights({str(k): v for k, v in found.items() if _is_tensor(v)}, labels, notes)
    whole = next((type(v).__name__ for v in found.values() if isinstance(v, _Inert)), None)
    if {"param_groups", "state"} <= found.keys():
        what = "the state of an optimizer, no weights"
    elif whole and len(inert) > 3:
        what = f"a whole model, pickled with its class ({whole}), whose code would have to run"
    else:
        what = f"a dictionary with {', '.join(map(repr, list(found)[:4])) or 'nothing in it'}"
    raise ImportFailed(
        f"The file holds {what}. Expected a state dict, plain or under "
        f"{', '.join(WRAPPERS[3:6])}. {_HOW_TO_SAVE} Received: {path.name!r}"
    )


def _is_tensor(value: Any) -> bool:
    import torch  # noqa: PLC0415

    return isinstance(value, torch.Tensor)


def _is_state(found: Any) -> bool:
    """Whether it is a dictionary of tensors by name, perhaps with a few plain values."""
    if not isinstance(found, dict) or isinstance(found, _Inert) or not found:
        return False
    values = list(found.values())
    return sum(map(_is_tensor, values)) > len(values) / 2 and all(isinstance(k, str) for k in found)


def _labels(found: dict[Any, Any]) -> list[str] | None:
    """Class names that scripts usually keep next to the weights."""
    indices = found.get("class_to_idx")
    if isinstance(indices, dict) and sorted(indices.values()) == list(range(len(indices))):
        return sorted(map(str, indices), key=lambda name: indices[name])
    for key in ("classes", "class_names", "labels"):
        names = found.get(key)
        if isinstance(names, list | tuple) and names and all(isinstance(n, str) for n in names):
            return list(names)
    return None


def without_wrappers(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The state dict, and without what DDP, torch.compile, Lightning and EMA put before names."""
    while True:
        yield state
        sizes: dict[str, int] = {}
        for name, value in state.items():
            first = name.partition(".")[0] if "." in name else ""
            sizes[first] = sizes.get(first, 0) + value.numel()
        first = max(sizes, key=lambda each: sizes[each])
        if not first or sizes[first] < _SHARE * sum(sizes.values()):
            return
        prefix = f"{first}."
        state = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}


_RESNET = (
    (r"resnet\.embedder\.embedder\.convolution\.", "conv1."),
    (r"resnet\.embedder\.embedder\.normalization\.", "bn1."),
    (r"classifier\.1\.", "fc."),
)


def from_huggingface_resnet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of `ResNetForImageClassification` under torchvision's names."""

    def block(found: re.Match[str]) -> str:
        stage, number, rest = int(found[1]) + 1, found[2], found[3]
        if rest.startswith("shortcut."):
            part = rest.replace("shortcut.convolution", "downsample.0")
            part = part.replace("shortcut.normalization", "downsample.1")
        else:
            part = re.sub(
                r"layer\.(\d)\.(convolution|normalization)",
                lambda m: f"{'conv' if m[2] == 'convolution' else 'bn'}{int(m[1]) + 1}",
                rest,
            )
        return f"layer{stage}.{number}.{part}"

    renamed = {}
    for name, value in state.items():
        new = re.sub(r"^resnet\.encoder\.stages\.(\d)\.layers\.(\d+)\.(.*)$", block, name)
        for pattern, replacement in _RESNET:
            new = re.sub(f"^{pattern}", replacement, new)
        renamed[new] = value
    return renamed
