from __future__ import annotations

import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat

from frontend.preview import preview
from frontend.samples import FOLDER, SAMPLES, Sample, make_samples

README = (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.name for sample in SAMPLES])
def test_each_sample_is_small_and_drawable(sample: Sample) -> None:
    data = sample.read()

    assert len(data) < 100_000
    assert preview(data) is not None
    assert sample.alt


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.name for sample in SAMPLES])
def test_each_sample_has_its_photographer_and_licence(sample: Sample) -> None:
    (line,) = (line for line in README.splitlines() if line.startswith(f"| `{sample.file}`"))

    _, _, photographer, licence, source, _ = (part.strip() for part in line.split("|"))
    assert photographer
    assert licence in ("CC0", "public domain", "CC BY 2.0")
    assert source


def test_the_script_draws_the_files_that_ship() -> None:
    drawn = make_samples.ship()
    shipped = Image.open(FOLDER / "ship.jpg")

    difference = ImageStat.Stat(
        ImageChops.difference(drawn, ImageOps.exif_transpose(shipped).convert("RGB"))
    )

    assert max(difference.mean) < 4
