from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat

from frontend.preview import preview
from frontend.samples import SAMPLES, Sample, make_samples


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.name for sample in SAMPLES])
def test_each_sample_is_small_and_drawable(sample: Sample) -> None:
    data = sample.read()

    assert len(data) < 100_000
    assert preview(data) is not None
    assert sample.alt


def test_the_script_draws_the_files_that_ship() -> None:
    drawn = make_samples.ship()
    shipped = Image.open(BytesIO(next(s for s in SAMPLES if s.file == "ship.jpg").read()))

    difference = ImageStat.Stat(
        ImageChops.difference(drawn, ImageOps.exif_transpose(shipped).convert("RGB"))
    )

    assert max(difference.mean) < 4
