from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from bundle.format.manifest import Crop, Input, ShorterSide
from bundle.imaging.folder import read_images

GEOMETRY = Input(
    height=8,
    width=8,
    color_mode="RGB",
    dtype="uint8",
    layout="NHWC",
    resize=ShorterSide(rule="shorter_side", size=8, interpolation="bilinear"),
    crop=Crop(rule="center", height=8, width=8),
)


def write(folder: Path, count: int) -> list[Path]:
    files = [folder / f"{number}.png" for number in range(count)]
    for number, file in enumerate(files):
        Image.new("RGB", (20, 10), (number, 0, 0)).save(file)
    return files


def test_images_are_in_the_order_of_their_files(tmp_path: Path) -> None:
    files = write(tmp_path, 40)

    pixels, unreadable = read_images(files, GEOMETRY)

    assert pixels.shape == (40, 8, 8, 3)
    assert pixels.dtype == np.uint8
    assert pixels[:, 0, 0, 0].tolist() == list(range(40))
    assert unreadable == {}


def test_unreadable_files_are_left_out_with_their_reasons(tmp_path: Path) -> None:
    files = write(tmp_path, 4)
    files[1].write_bytes(b"no image")
    files[2].unlink()

    pixels, unreadable = read_images(files, GEOMETRY)

    assert pixels[:, 0, 0, 0].tolist() == [0, 3]
    assert list(unreadable) == files[1:3]
    assert "No such file" in unreadable[files[2]]


def test_no_readable_file_gives_an_empty_array(tmp_path: Path) -> None:
    pixels, unreadable = read_images([tmp_path / "missing.png"], GEOMETRY)

    assert pixels.shape == (0, 8, 8, 3)
    assert len(unreadable) == 1


def test_progress_sees_each_file(tmp_path: Path) -> None:
    files = write(tmp_path, 3)
    seen: list[Path] = []

    def progress(total: Sequence[Path]) -> Iterator[Path]:
        assert len(total) == 3
        for file in total:
            yield file
            seen.append(file)

    read_images(files, GEOMETRY, progress)

    assert seen == files
