"""Where the network looked, as numbers and as a picture, over HTTP with the tiny networks."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from service.analysis.requests import prefers
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server
from tests.tiny_networks import LABELS

COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}
MODELS = ["tiny-torch", "tiny-keras"]


def picture(
    corner: tuple[int, int], colour: str = "red", size: tuple[int, int] = (120, 120)
) -> Image.Image:
    """A grey picture with a coloured patch in a corner: its row 0 or 1, its column 0 or 1."""
    image = Image.new("RGB", size, (128, 128, 128))
    side = min(size) // 3
    place = corner[1] * (size[0] - side), corner[0] * (size[1] - side)
    image.paste(COLOURS[colour], (*place, place[0] + side, place[1] + side))
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def explain(server: Server, data: bytes, accept: str = "*/*", **query: Any) -> httpx.Response:
    return server.client.post("/explain", params=query, content=data, headers={"accept": accept})


def values(response: httpx.Response) -> npt.NDArray[np.float64]:
    assert response.status_code == 200, response.text
    found = response.json()["heatmap"]
    grid = np.array(found["values"])
    assert grid.shape == (found["height"], found["width"])
    return grid


def place_of_maximum(response: httpx.Response) -> tuple[float, float]:
    """Row and column of the maximum in the upright image, as fractions of its sides."""
    grid, seen = values(response), response.json()["seen"]
    row, column = np.argwhere(grid == grid.max()).mean(axis=0)
    down = seen["top"] + (row + 0.5) / grid.shape[0] * seen["height"]
    across = seen["left"] + (column + 0.5) / grid.shape[1] * seen["width"]
    return down / seen["image_height"], across / seen["image_width"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_the_maximum_is_in_the_corner_of_the_object(
    server: Server, model: str, corner: tuple[int, int]
) -> None:
    response = explain(server, encoded(picture(corner)), model=model)

    assert response.json()["label"] == "red"
    assert np.abs(np.subtract(place_of_maximum(response), corner)).max() < 1 / 3
    grid = values(response)
    assert (grid.min(), grid.max()) == (0, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_place_is_in_the_upright_image(server: Server, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    # The patch of the stored picture is top left.
    data = encoded(picture((0, 0), size=(130, 120)), exif=exif)
    upright = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1)}

    response = explain(server, data)

    expected = upright.get(orientation, (1, 0))
    assert np.abs(np.subtract(place_of_maximum(response), expected)).max() < 1 / 3
    size = (130, 120) if orientation < 5 else (120, 130)
    seen = response.json()["seen"]
    assert (seen["image_width"], seen["image_height"]) == size


def test_a_class_is_named_by_label_index_or_rank(server: Server) -> None:
    data = encoded(picture((0, 1), "green"))

    best = explain(server, data).json()
    by_label = explain(server, data, label="blue").json()
    by_index = explain(server, data, index=LABELS.index("blue")).json()
    by_rank = [explain(server, data, rank=rank).json() for rank in (1, 2, 3)]

    assert (best["label"], best["index"]) == ("green", LABELS.index("green"))
    assert by_rank[0]["heatmap"] == best["heatmap"]
    assert by_label["label"] == "blue"
    assert by_index["heatmap"] == by_label["heatmap"] != best["heatmap"]
    ranked = {each["label"]: each["score"] for each in best["predictions"]}
    assert [each["label"] for each in by_rank] == list(ranked)
    assert [each["score"] for each in by_rank] == pytest.approx(list(ranked.values()))
    assert by_label["score"] == pytest.approx(ranked["blue"])


def test_it_predicts_what_predict_does(server: Server) -> None:
    data = encoded(picture((0, 1), "green"))

    predicted, explained = server.predict(data).json(), explain(server, data).json()

    for field in ("predictions", "model", "image", "seen"):
        assert explained[field] == predicted[field]
    # The mean of the map of the tiny network is the logit of the class.
    heatmap = explained["heatmap"]
    span = heatmap["maximum"] - heatmap["minimum"]
    mean = heatmap["minimum"] + np.mean(heatmap["values"]) * span
    odds = [each["score"] for each in explained["predictions"]]
    assert mean > 0
    assert odds[0] > odds[1]


def test_the_runtimes_have_the_same_map(server: Server) -> None:
    data = encoded(picture((1, 0), "blue"))

    torch, keras = (explain(server, data, model=model) for model in MODELS)

    assert np.abs(values(torch) - values(keras)).max() < 1e-2


@pytest.mark.parametrize(
    ("query", "code", "part"),
    [
        ({"label": "purple"}, "invalid_parameter", "no such class"),
        ({"index": 3}, "invalid_parameter", "0 to 2"),
        ({"rank": 4}, "invalid_parameter", "1 to 3"),
        ({"rank": 0}, "invalid_parameter", "rank"),
        ({"rank": 1, "index": 0}, "invalid_parameter", "more than one"),
        ({"top_k": 1}, "unknown_parameter", "top_k"),
    ],
)
def test_a_class_that_is_not_there_is_refused(
    server: Server, query: dict[str, Any], code: str, part: str
) -> None:
    response = explain(server, encoded(picture((0, 0))), **query)

    assert_problem(response, 422, code)
    assert part in response.json()["detail"]


def test_a_file_that_is_no_image_is_refused(server: Server) -> None:
    assert_problem(explain(server, b"text"), 415, "unsupported_image_type")
    assert_problem(explain(server, b"text", "image/png", index=1), 415, "unsupported_image_type")


def opened(response: httpx.Response) -> npt.NDArray[np.int64]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["server-timing"].startswith("decode;dur=")
    return np.asarray(Image.open(BytesIO(response.content)).convert("RGB")).astype(int)


def test_the_picture_is_upright_yellow_at_the_object_and_dim_outside_of_the_crop(
    server: Server,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise: 300 x 200 as it is seen
    upright = picture((0, 1), size=(300, 200))
    upright.paste((128, 128, 128), (200, 0, 300, 200))
    upright.paste(COLOURS["red"], (180, 10, 230, 60))
    data = encoded(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)

    drawn = opened(explain(server, data, "image/png"))

    assert drawn.shape == (200, 300, 3)
    # The crop is 200 x 200: dim to its sides, and grey there.
    outside = drawn[:, [10, 290]]
    assert outside.max() < 60
    assert np.ptp(outside, axis=2).max() == 0
    assert drawn[100, 55:245].mean(axis=1).min() > 60
    red, green, blue = drawn[35, 205]
    assert min(red, green) > 130 > blue, "the upper end of viridis"
    assert drawn[180, 100, 2] > drawn[180, 100, 1], "the lower end"


@pytest.mark.parametrize(("size", "shown"), [((2600, 1300), (1024, 512)), ((40, 30), (40, 30))])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_picture_has_at_most_1024_pixels_on_a_side(
    server: Server, kind: str, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    data = encoded(picture((0, 0), size=size), kind)

    drawn = opened(explain(server, data, "image/png"))

    assert drawn.shape == (shown[1], shown[0], 3)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("image/png", True),
        ("image/*", True),
        ("image/png, application/json;q=0.5", True),
        ("text/html;q=0.9, image/png ; q=0.8 , */*;q=0.1", True),
        ("image/png;q=0.5, application/json", False),
        ("application/*, image/png;q=0.9", False),
        ("*/*", False),
        ("", False),
        ("image/webp", False),
    ],
)
def test_png_is_sent_to_those_that_prefer_it(accept: str, expected: bool) -> None:
    assert prefers(accept, "image/png", "application/json") == expected
