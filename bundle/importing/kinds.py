"""What a file or folder is, told by its content; its name is never looked at.

No framework is needed for it, and nothing of the file is run.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.errors import ImportFailed

EXPECTED = (
    "Expected a PyTorch state dict, a .safetensors file, TorchScript, a torch.export .pt2, a Keras "
    "model (.keras or .h5), a SavedModel folder, ONNX, a Hugging Face folder or a TorchServe .mar."
)
# Of the pickles of torch.save before its files were zip archives.
_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAD_BYTES = 4096
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Source:
    """What is imported."""

    kind: str  # as the manifest records it
    path: Path  # the file or folder that a child opens
    config: dict[str, Any] | None = None  # of a Hugging Face folder
    processor: dict[str, Any] | None = None  # its record of preprocessing
    names: dict[str, Any] | None = None  # class names by index, of a TorchServe archive


def identify(path: Path, scratch: Path) -> Source:
    """Tell what `path` is; the model of a TorchServe archive is unpacked into `scratch`.

    Raises:
        ImportFailed: It is nothing that can be imported, or can't be read.
    """
    try:
        return _folder(path) if path.is_dir() else _file(path, scratch)
    except FileNotFoundError as exc:
        raise ImportFailed(
            "There is no such file or folder. Expected the path of a model. "
            f"Received: {str(path)!r}"
        ) from exc
    except OSError as exc:
        raise ImportFailed(
            f"The model can't be read ({exc.strerror}). {EXPECTED} Received: {str(path)!r}"
        ) from exc


def _folder(path: Path) -> Source:
    if (path / "saved_model.pb").is_file():
        return Source("savedmodel", path)
    weights = next((path / name for name in _WEIGHTS if (path / name).is_file()), None)
    if (path / "config.json").is_file() and weights:
        processor = path / "preprocessor_config.json"
        return Source(
            "huggingface",
            weights,
            config=_json(path / "config.json"),
            processor=_json(processor) if processor.is_file() else None,
        )
    found = sorted(entry.name for entry in path.iterdir())[:5]
    raise ImportFailed(
        "The folder is neither a SavedModel (saved_model.pb) nor a Hugging Face model (config.json "
        f"and {' or '.join(_WEIGHTS)}). Name the file of the model instead. "
        f"Received: {str(path)!r} with {', '.join(found) or 'nothing in it'}"
    )


def _file(path: Path, scratch: Path) -> Source:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(b"PK\x03\x04"):
        return _archive(path, scratch)
    if head.startswith(_TORCH_MAGIC) or head[:1] == b"\x80":
        return Source("state_dict", path)
    if head.startswith(_HDF5):
        return Source("keras_h5", path)
    if _is_safetensors(head, path.stat().st_size):
        return Source("safetensors", path)
    if _is_onnx(head):
        return Source("onnx", path)
    raise ImportFailed(f"{_why_not(head)} {EXPECTED} Received: {str(path)!r}")


def _archive(path: Path, scratch: Path) -> Source:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "MAR-INF/MANIFEST.json" in names:
                return _torchserve(archive, path, scratch)
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as exc:
        raise ImportFailed(
            f"The file begins like a zip archive and is damaged or cut off ({exc}). Copy or "
            f"download it again. Received: {str(path)!r}"
        ) from exc
    inner = {name.partition("/")[2] for name in names}
    if {"config.json", "model.weights.h5"} <= set(names):
        return Source("keras", path)
    if any(name.startswith("models/") and name.endswith(".json") for name in inner):
        return Source("pt2", path)
    if "serialized_exported_program.json" in names:
        return Source("pt2", path)
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return Source("torchscript", path)
    if "data.pkl" in inner:
        return Source("state_dict", path)
    raise ImportFailed(
        f"The file is a zip archive of another kind. {EXPECTED} Received: {str(path)!r} with "
        f"{', '.join(names[:3]) or 'nothing in it'}"
    )


def _torchserve(archive: zipfile.ZipFile, path: Path, scratch: Path) -> Source:
    """The serialized file of a model archive; its Python files are not looked at."""
    manifest = json.loads(archive.read("MAR-INF/MANIFEST.json"))
    serialized = manifest.get("model", {}).get("serializedFile")
    if not isinstance(serialized, str) or serialized not in archive.namelist():
        raise ImportFailed(
            "The TorchServe archive has no file of weights (serializedFile). Expected one made "
            f"with --serialized-file. Received: {str(path)!r}"
        )
    target = scratch / "serialized"
    with archive.open(serialized) as packed, target.open("wb") as unpacked:
        while block := packed.read(2**20):
            unpacked.write(block)
    names = None
    if "index_to_name.json" in archive.namelist():
        names = json.loads(archive.read("index_to_name.json"))
    found = _file(target, scratch)
    return Source(found.kind, found.path, names=names if isinstance(names, dict) else None)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise ImportFailed(
            f"A file is not valid JSON: {exc}. Download it again. Received: {str(path)!r}"
        ) from exc
    return found if isinstance(found, dict) else {}


def _is_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and 2 <= length <= size - 8


def _is_onnx(head: bytes) -> bool:
    """Whether the first fields are those of a ModelProto: ir_version, then names or the graph."""
    # Field 1 (ir_version), a varint below 128; then producer (2), its version (3), domain (4),
    # model_version (5), doc_string (6), the graph (7) or opset_import (8).
    return (
        head[:1] == b"\x08" and head[1:2] < b"\x80" and head[2:3] in b"\x12\x1a\x22\x28\x32\x3a\x42"
    )


def _why_not(head: bytes) -> str:
    if not head:
        return "The file is empty."
    if head.startswith(b"version https://git-lfs"):
        return "The file is a pointer of Git LFS, not the model: run `git lfs pull` first."
    if head[4:8] == b"TFL3":
        return "TFLite files can't be imported; the model that it was made from can."
    if head.lstrip()[:1] == b"<":
        return "The file is an HTML or XML page, perhaps of a download that asked to log in."
    try:
        head[:1024].decode()
    except UnicodeDecodeError:
        return "The file is of no known kind."
    return "The file is text."
