"""The vector before the classifier, over HTTP with the tiny networks."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from tests.service.conftest import Server
from tests.service.images import coloured
from tests.tiny_networks import LABELS

MODELS = ["tiny-torch", "tiny-keras"]


def embed(server: Server, data: bytes, **query: Any) -> httpx.Response:
    response = server.client.post("/embed", params=query, files={"file": ("a", data)})
    assert response.status_code == 200, response.text
    return response


def vector(response: httpx.Response) -> npt.NDArray[np.float64]:
    found = response.json()
    assert len(found["embedding"]) == found["dimension"] == len(LABELS)
    return np.array(found["embedding"])


@pytest.mark.parametrize("model", MODELS)
def test_it_is_what_the_last_layer_gets(server: Server, model: str) -> None:
    raw, scaled = (
        embed(server, coloured("red"), model=model, normalise=normalise)
        for normalise in ("false", "true")
    )

    # Of the tiny network: how much each colour exceeds the mean of the others.
    red, green, blue = (value / 255 for value in (220, 40, 30))
    expected = {"red": red - (green + blue) / 2, "green": 0, "blue": 0}
    np.testing.assert_allclose(vector(raw), [expected[each] for each in LABELS], atol=1e-5)
    assert not raw.json()["normalised"]
    assert scaled.json()["normalised"]
    np.testing.assert_allclose(vector(scaled), [each == "red" for each in LABELS], atol=1e-6)
    predicted = server.predict(coloured("red"), model=model).json()
    for field in ("model", "image", "seen"):
        assert raw.json()[field] == predicted[field]


def test_it_is_normalised_unless_the_client_says_otherwise(server: Server) -> None:
    found = embed(server, coloured("green")).json()

    assert found["normalised"]
    assert np.linalg.norm(found["embedding"]) == pytest.approx(1)
