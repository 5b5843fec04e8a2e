"""`?crop=whole`: a picture that the network's own crop would cut."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from PIL import Image

from bundle.format.manifest import read_manifest
from bundle.imaging.decode import read_input
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, serving
from tests.service.images import coloured, encode
from tests.service.shipped import MODELS, SAMPLES


@pytest.fixture(scope="module")
def shipped() -> Iterator[Server]:
    with serving(models_dir=MODELS, cache_mb=8) as server:
        yield server


def beside_a_wide_wall() -> bytes:
    """A cup at the left edge of a grey picture, outside of the middle that the crop keeps."""
    with Image.open(SAMPLES / "coffee.jpg") as cup:
        picture = Image.new("RGB", (2 * cup.width, cup.height), (128, 128, 128))
        picture.paste(cup, (0, 0))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95)
    return file.getvalue()


def test_the_whole_picture_is_seen_and_classified(shipped: Server) -> None:
    data = beside_a_wide_wall()
    cropped, whole = (shipped.predict(data, **query).json() for query in ({}, {"crop": "whole"}))

    assert cropped["predictions"] != whole["predictions"]
    seen = whole["seen"]
    assert (seen["left"], seen["top"], seen["crop"]) == (0, 0, "whole")
    assert (seen["width"], seen["height"]) == (seen["image_width"], seen["image_height"])
    assert cropped["seen"]["crop"] == "center"
    again = shipped.predict(data, crop="center")
    assert again.json()["predictions"] == cropped["predictions"]


def test_what_is_classified_is_the_picture_stretched_to_the_input(shipped: Server) -> None:
    data = beside_a_wide_wall()
    manifest = read_manifest(MODELS / "imagenet-resnet50" / "1")
    stretched = encode(Image.fromarray(read_input(data, manifest.whole_input).pixels))

    found = [shipped.predict(each, crop="whole").json() for each in (data, stretched)]

    assert found[0]["predictions"] == found[1]["predictions"]


def test_a_batch_is_seen_whole_too(shipped: Server) -> None:
    files = [("files", beside_a_wide_wall())] * 2
    results = shipped.client.post("/predict/batch?crop=whole", files=files).json()["results"]

    assert [each["seen"]["crop"] for each in results] == ["whole", "whole"]


def test_the_record_says_how_well_whole_pictures_do(shipped: Server) -> None:
    record = shipped.client.get("/models/imagenet-resnet50").json()["whole"]

    assert record["samples"] == 500
    assert 0.6 < record["accuracy"] <= 1
    assert 0.6 < record["accuracy_of_crop"] <= 1


def test_without_a_measurement_it_is_refused(quick_root: object) -> None:
    with serving(models_dir=quick_root) as server:
        refused = server.predict(coloured(), crop="whole")
        unknown = server.predict(coloured(), crop="square")

    assert_problem(refused, 422, "no_whole_picture")
    assert_problem(unknown, 422, "invalid_parameter")
