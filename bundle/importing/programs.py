"""Programs of PyTorch, TorchScript and torch.export: their input and output, found by running."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.errors import ImportFailed
from bundle.importing.child import Findings
from bundle.importing.options import Options
from bundle.runtimes import describe

if TYPE_CHECKING:
    from torch import Tensor

# Sides of square images that networks are made for, the usual ones first.
SIZES = (224, 256, 299, 384, 32, 64, 28, 96, 128, 160, 192, 240, 260, 288, 300, 320, 380, 448, 512)


@dataclass(frozen=True)
class Program:
    """A program that maps images to the outputs of a classifier."""

    module: Any  # TorchScript
    size: tuple[int, int] | None  # that the file states, or that is the only one that works
    layout: str
    pick: str | int | None  # the output that is taken, of several
    batch: int  # the only number of images; 0: any
    forward: Callable[[Tensor], Tensor]  # the program itself, image by image if need be


def read_torchscript(path: Path, options: Options, findings: Findings) -> Program:
    """Load a TorchScript archive.

    Raises:
        ImportFailed: It does not run on images.
    """
    import torch  # noqa: PLC0415 - heavy, and for this process only

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        module = torch.jit.load(str(path), map_location="cpu").eval().float()  # type: ignore[no-untyped-call]
        stated = _traced_shape(path)
    count = sum(parameter.numel() for parameter in module.parameters())
    findings.parameters = count or None  # a frozen module has constants
    return _tried(module, stated, options)


def read_pt2(path: Path, options: Options, findings: Findings) -> Program:
    """Load an archive of torch.export, and trace its program into TorchScript.

    Raises:
        ImportFailed: It holds pickled objects, or does not run on images.
    """
    import torch  # noqa: PLC0415

    _refuse_pickles(path)
    program = torch.export.load(path)
    findings.parameters = sum(each.numel() for each in program.parameters())
    images = [
        node.meta["val"]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
    ]
    if len(images) != 1 or images[0].ndim != 4:
        raise ImportFailed(
            "The program does not take one batch of images. Expected one input of four dimensions. "
            f"Received: {[list(map(str, each.shape)) for each in images]}"
        )
    shape = [side if isinstance(side, int) else None for side in images[0].shape]
    module = program.module()
    example = torch.zeros([side or 2 for side in shape])
    pick = _pick(module(example), shape[0] or 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(  # type: ignore[no-untyped-call]
            _one_output(module, pick), example, check_trace=False
        )
    return _tried(script, shape, options)


def _one_output(program: Any, pick: str | int | None) -> Any:
    """The program as a module that returns one of its outputs."""
    import torch  # noqa: PLC0415

    class One(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.program = program

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = _taken(self.program(x), pick)
            return found

    return One()


def _traced_shape(path: Path) -> list[int | None] | None:
    """The shape of the image that the program was traced with, where the archive has it."""
    import torch  # noqa: PLC0415

    try:
        module = torch.jit.load(str(path), map_location="cpu", _restore_shapes=True)  # type: ignore[no-untyped-call]
        sizes = list(module.graph.inputs())[1].type().sizes()
    except (RuntimeError, IndexError, AttributeError):
        return None
    # A trace takes any number of images, unless running it says otherwise.
    return [None, *sizes[1:]] if sizes and len(sizes) == 4 else None


def _tried(module: Any, stated: list[int | None] | None, options: Options) -> Program:
    """Find by running what the file does not state: layout, size, number of images."""
    import torch  # noqa: PLC0415

    error = ""
    for layout, size in _inputs(stated, options):
        fixed = stated[0] if stated else None
        for batch in (0, fixed or 1):
            if batch == 0 and fixed:
                continue
            shape = (3, *size) if layout == "NCHW" else (*size, 3)
            x = torch.linspace(-1, 1, 3 * size[0] * size[1]).reshape(1, *shape)
            try:
                one = module(x.expand(batch or 1, -1, -1, -1))
                two = module(x.expand(2, -1, -1, -1)) if batch == 0 else one
            except (RuntimeError, AssertionError, NotImplementedError) as exc:
                error = error or " ".join(describe(exc).split())
                continue
            pick = _pick(one, batch or 1)
            if batch == 0 and _taken(two, pick).shape[:1] != (2,):
                continue
            known = size if stated or size[0] != SIZES[0] else None
            return Program(module, known, layout, pick, batch, _forward(module, pick, batch))
    raise ImportFailed(
        "The program does not run on images of any usual size. Expected one input, float32 "
        "[N, 3, H, W]; give its size with --size, or --layout NHWC. "
        f"Received: {error[-250:]}"
    )


def _inputs(
    stated: list[int | None] | None, options: Options
) -> Iterator[tuple[str, tuple[int, int]]]:
    layouts = [options.layout] if options.layout else ["NCHW", "NHWC"]
    for layout in layouts:
        sides: list[int | None] = [None, None]
        if stated:
            if stated[1 if layout == "NCHW" else 3] not in (3, None):
                continue
            sides = stated[2:] if layout == "NCHW" else stated[1:3]
        if sides[0] and sides[1]:
            yield layout, (sides[0], sides[1])
        elif options.size:
            yield layout, options.size
        else:
            yield from ((layout, (side, side)) for side in SIZES)


def _pick(output: Any, images: int) -> str | int | None:
    """Which of several outputs is [images, classes]: `logits`, or the first that is."""
    import torch  # noqa: PLC0415

    if isinstance(output, torch.Tensor):
        return None
    entries: list[tuple[Any, Any]] = []
    if isinstance(output, dict):
        entries = sorted(output.items(), key=lambda entry: entry[0] != "logits")
    elif isinstance(output, list | tuple):
        entries = list(enumerate(output))
    for key, value in entries:
        if isinstance(value, torch.Tensor) and value.ndim == 2 and len(value) == images:
            return key  # type: ignore[no-any-return]
    shapes = [
        list(v.shape) if isinstance(v, torch.Tensor) else type(v).__name__ for _, v in entries
    ]
    raise ImportFailed(
        "The model is no image classifier: none of its outputs has one row for each image. "
        "Expected [N, classes]; detection and segmentation are not served. "
        f"Received: {shapes or type(output).__name__}"
    )


def _taken(output: Any, pick: str | int | None) -> Any:
    return output if pick is None else output[pick]


def _forward(module: Any, pick: str | int | None, batch: int) -> Callable[[Tensor], Tensor]:
    import torch  # noqa: PLC0415

    def run(x: Tensor) -> Tensor:
        if batch == 0:
            found: Tensor = _taken(module(x), pick)
            return found
        rows = [_taken(module(row.expand(batch, -1, -1, -1)), pick)[:1] for row in x[:, None]]
        return torch.cat(rows)

    return run


def _refuse_pickles(path: Path) -> None:
    """Refuse an archive of torch.export with anything that its loader would unpickle freely.

    Raises:
        ImportFailed: It has such a part.
    """
    import torch  # noqa: PLC0415

    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        unsafe = len(set(names)) != len(names)
        for name in names:
            last = name.rpartition("/")[2]
            unsafe |= last.startswith(("custom_obj", "opaque")) or name.endswith((".so", ".o"))
            if name.endswith("_config.json"):
                unsafe |= _has(json.loads(archive.read(name)), "use_pickle")
            if name.endswith(".pt"):
                try:
                    torch.load(io.BytesIO(archive.read(name)), weights_only=True)
                except (RuntimeError, EOFError, pickle.UnpicklingError):
                    unsafe = True
    if unsafe:
        raise ImportFailed(
            "The .pt2 archive holds pickled objects or machine code, which would run code of "
            "whoever wrote it. Expected a program with plain tensors. Export the model as ONNX, or "
            f"save its state dict. Received: {path.name!r}"
        )


def _has(found: Any, key: str) -> bool:
    """Whether a true value of `key` is anywhere in plain JSON."""
    if isinstance(found, dict):
        return bool(found.get(key)) or any(_has(value, key) for value in found.values())
    return isinstance(found, list) and any(_has(value, key) for value in found)
