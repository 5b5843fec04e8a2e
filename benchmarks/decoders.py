"""JPEG decoders, from bytes to the input of a model: time of each, and what decoding at a fraction costs in accuracy.

    .venv/bin/python -m benchmarks.decoders                                     # the times
    .venv/bin/python -m benchmarks.decoders --data FOLDER --model models/NAME   # and the accuracy, on FOLDER/test

Interleaved rounds in one process on one core, medians; photos are synthetic and of the sizes that cameras and the web
have. For the accuracy, test images are enlarged, saved as JPEG and read back whole and reduced: both go through the
bundle's artifact.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.photos import photo
from bundle.format.manifest import Input, ShorterSide, read_manifest
from bundle.imaging import turbo
from bundle.imaging.decode import decode_image, read_input
from bundle.imaging.geometry import prepare
from bundle.worker.blocking import RuntimeProcess
from training.data.load import input_geometry

SIZES = {"500 x 375": (500, 375), "12 megapixels": (4000, 3000)}
ROUNDS = 7
ENLARGED = 512  # pixels of the side to which a test image is enlarged
console = Console(highlight=False)

Decoder = Callable[[bytes, Input], npt.NDArray[np.uint8]]


def pillow(data: bytes, geometry: Input) -> npt.NDArray[np.uint8]:
    """Pillow, the whole picture."""
    return prepare(np.array(Image.open(io.BytesIO(data)).convert("RGB")), geometry)


def pillow_draft(data: bytes, geometry: Input) -> npt.NDArray[np.uint8]:
    """Pillow's draft mode, with the same gap as ours."""
    image = Image.open(io.BytesIO(data))
    side = turbo.GAP * geometry.resize.size if isinstance(geometry.resize, ShorterSide) else 0
    image.draft("RGB", (side, side))
    return prepare(np.array(image), geometry)


def torchvision_io(data: bytes, geometry: Input) -> npt.NDArray[np.uint8]:
    """torchvision.io, the whole picture."""
    import torch  # noqa: PLC0415 - seconds to import
    from torchvision.io import decode_jpeg  # noqa: PLC0415

    pixels = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return prepare(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()), geometry)


def whole(data: bytes, geometry: Input) -> npt.NDArray[np.uint8]:
    """The service's decoder with its checks, the whole picture."""
    return prepare(decode_image(data).pixels, geometry)


def served(data: bytes, geometry: Input) -> npt.NDArray[np.uint8]:
    """The service's decoder with its checks, reduced where that is enough."""
    return read_input(data, geometry).pixels


DECODERS: dict[str, Decoder] = {
    "Pillow": pillow,
    "Pillow, draft mode": pillow_draft,
    "torchvision.io": torchvision_io,
    "service, whole": whole,
    "service": served,
}


def main(
    data: Annotated[Path | None, typer.Option(help="A folder with test/<class>/ images.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="A bundle folder, models/NAME/VERSION.")
    ] = None,
    images: Annotated[int, typer.Option(help="Test images of each class for the accuracy.")] = 100,
) -> None:
    """Print the times, and with --data and --model the accuracy."""
    times()
    if data is not None and model is not None:
        accuracy(data, model, images)


def times() -> None:
    """Median processor time per picture, and the ratio to Pillow in the same rounds."""
    geometry = input_geometry(256)
    for name, size in SIZES.items():
        picture = photo(*size)
        repeats = max(1, 2_000_000 // (size[0] * size[1]))
        seconds: dict[str, list[float]] = {decoder: [] for decoder in DECODERS}
        for _ in track(range(ROUNDS), name, console=console, transient=True):
            for decoder, decode in DECODERS.items():
                started = time.process_time()
                for _ in range(repeats):
                    decode(picture, geometry)
                seconds[decoder].append((time.process_time() - started) / repeats)
        base = statistics.median(seconds["Pillow"])
        table = Table(
            f"{name}, {len(picture) / 1000:.0f} kB, to 256 x 256", "ms", "spread", "x Pillow"
        )
        for decoder, values in seconds.items():
            middle = statistics.median(values)
            spread = f"{min(values) * 1000:.2f} to {max(values) * 1000:.2f}"
            table.add_row(decoder, f"{middle * 1000:.2f}", spread, f"{base / middle:.2f}")
        console.print(table)


def accuracy(data: Path, model: Path, per_class: int) -> None:
    """Top-1 accuracy of enlarged test images, read whole and read reduced, and how often the answers agree."""
    manifest = read_manifest(model)
    labels = []
    read: dict[str, list[npt.NDArray[np.uint8]]] = {"whole": [], "reduced": []}
    reductions: set[str] = set()
    files = [(i, file) for i, name in enumerate(manifest.labels) for file in sorted((data / "test" / name).iterdir())[:per_class]]  # fmt: skip
    for label, file in track(files, "Reading", console=console, transient=True):
        enlarged = (
            Image.open(file).convert("RGB").resize((ENLARGED, ENLARGED), Image.Resampling.BICUBIC)
        )
        content = io.BytesIO()
        enlarged.save(content, "JPEG", quality=90)
        image = read_input(content.getvalue(), manifest.input)
        reductions.update(image.info.operations)
        read["reduced"].append(image.pixels)
        read["whole"].append(whole(content.getvalue(), manifest.input))
        labels.append(label)
    with RuntimeProcess(model) as runtime:
        runtime.start(300)
        best = {
            way: np.concatenate(
                [
                    runtime.infer(np.stack(pixels[i : i + 100]), 300).argmax(1)
                    for i in range(0, len(pixels), 100)
                ]
            )
            for way, pixels in read.items()
        }
    right = {way: float((answers == labels).mean()) for way, answers in best.items()}
    console.print(
        f"{len(labels)} test images enlarged to {ENLARGED} pixels ({', '.join(sorted(reductions))}): accuracy "
        f"{right['whole']:.2%} whole, {right['reduced']:.2%} reduced; the same answer for "
        f"{float((best['whole'] == best['reduced']).mean()):.2%}"
    )


if __name__ == "__main__":
    typer.run(main)
