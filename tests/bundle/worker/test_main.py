"""The request loop of a model's process, over a socket, with a fake model."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bundle.format.manifest import Input
from bundle.imaging.decode import ImageLimits
from bundle.runtimes import Model, Outputs
from bundle.worker.__main__ import RequestLoop
from bundle.worker.wire import Array, Wire, WireClosed
from tests.bundles import input_record
from tests.service.images import encode

TIMEOUT_S = 60.0
SIZE = 8
GEOMETRY = Input.model_validate(input_record(SIZE))


class FakeModel:
    """A model with two streams; the value of the first pixel is what it does, and its logits."""

    streams = 2
    FAILS, RETURNS_NAN, MEETS, WAITS, RELEASES, ON_ALL_CORES = 1, 2, 3, 4, 5, 6

    def __init__(self) -> None:
        self._both = threading.Barrier(2)
        self._released = threading.Event()

    def run(
        self,
        pixels: npt.NDArray[np.uint8],
        class_index: npt.NDArray[np.int64] | None = None,
        *,
        embeddings: bool = False,
        on_stream: bool = False,
    ) -> Outputs:
        """Heat maps have the class as their value, and embeddings the pixel."""
        if not on_stream:
            return Outputs(np.full((len(pixels), 3), self.ON_ALL_CORES, np.float32))
        value = int(pixels.flat[0])
        if value == self.FAILS:
            raise MemoryError("no memory")
        if value == self.MEETS:
            self._both.wait(TIMEOUT_S)
        if value == self.WAITS and not self._released.wait(TIMEOUT_S):
            raise TimeoutError("the other request never ran")
        if value == self.RELEASES:
            self._released.set()
        logits = pixels[:, 0, 0, :].astype(np.float32)
        if value == self.RETURNS_NAN:
            logits += np.nan
        heatmaps = None
        if class_index is not None:
            heatmaps = np.full((len(pixels), 2, 2), class_index[:, None, None], np.float32)
        return Outputs(logits, heatmaps, logits[:, :2] if embeddings else None)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """The parent's end."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        model = cast("Model", FakeModel())
        loop = RequestLoop(Wire(theirs), model, GEOMETRY, ImageLimits(max_side=100), threads=2)
        with pytest.raises(WireClosed):
            loop.run()

    serving = threading.Thread(target=serve)
    serving.start()
    yield Wire(ours)
    ours.close()
    serving.join(TIMEOUT_S)
    assert not serving.is_alive(), "it ends with its parent"
    theirs.close()


def ask(wire: Wire, *images: list[Array], exclusive: bool = False) -> list[list[Any]]:
    """The value of the logits, or the code of the error, of each image of requests sent at once."""
    for number, batch in enumerate(images):
        wire.send({"method": "classify", "exclusive": exclusive, "id": number}, batch)
    found: dict[int, list[Any]] = {}
    for _ in images:
        header, arrays = wire.receive()
        rows = iter(arrays[0][:, 0] if arrays else ())
        found[header["id"]] = (
            [header["error"]]
            if "error" in header
            else [record.get("error") or next(rows) for record in header["images"]]
        )
    return [found[number] for number in range(len(images))]


def pixels(value: int) -> Array:
    return np.full((SIZE, SIZE, 3), value, np.uint8)


def file(value: int, **changes: Any) -> Array:
    size = changes.pop("size", (SIZE, SIZE))
    return np.frombuffer(encode(Image.new("RGB", size, (value,) * 3), "PNG", **changes), np.uint8)


def test_a_request_that_is_done_first_is_answered_first(wire: Wire) -> None:
    found = ask(wire, [pixels(FakeModel.WAITS)], [pixels(FakeModel.RELEASES)], [pixels(10)])

    assert found == [[FakeModel.WAITS], [FakeModel.RELEASES], [10]]


def test_as_many_passes_run_at_once_as_there_are_streams(wire: Wire) -> None:
    found = ask(wire, *[[pixels(FakeModel.MEETS)]] * 4)  # each needs another one in flight

    assert found == [[FakeModel.MEETS]] * 4


def test_files_are_decoded_and_those_that_can_not_be_are_errors_in_their_places(wire: Wire) -> None:
    broken = file(12)[:40]
    batch = [file(10), broken, pixels(11), file(12, size=(101, 8)), file(13)]

    assert ask(wire, batch) == [[10, "unreadable_image", 11, "image_too_large", 13]]
    assert ask(wire, [broken]) == [["unreadable_image"]]


def test_an_image_on_its_own_gets_all_cores(wire: Wire) -> None:
    assert ask(wire, [file(10)], exclusive=True) == [[FakeModel.ON_ALL_CORES]]


def test_a_request_that_fails_gets_the_error_and_its_neighbours_do_not(wire: Wire) -> None:
    values = (10, FakeModel.FAILS, 11, FakeModel.RETURNS_NAN, 12)
    found = ask(wire, *([pixels(value)] for value in values))

    failed = "runtime_unavailable"
    assert found == [[10], [failed], [11], [failed], [12]]


def test_an_image_gets_the_extras_that_it_asks_for_and_its_neighbours_none(wire: Wire) -> None:
    batch = [pixels(10), file(11)[:40], pixels(12), pixels(13), pixels(14)]
    extras = [[1, 2, True], [2, 7, False], [3, None, True], [4, 0, True]]

    wire.send({"method": "classify", "exclusive": False, "extras": extras, "id": 0}, batch)
    header, (logits, heatmaps, embeddings) = wire.receive()

    assert [record.get("error") for record in header["images"]] == [
        *(None, "unreadable_image", None, None, None)
    ]
    assert logits[:, 0].tolist() == [10, 12, 13, 14]
    assert heatmaps[:, 0, 0].tolist() == [7, 0]
    assert embeddings.tolist() == [[13, 13], [14, 14]]


def test_no_extras_of_readable_images_add_no_arrays(wire: Wire) -> None:
    extras = [[1, 2, True]]

    wire.send(
        {"method": "classify", "exclusive": False, "extras": extras, "id": 0},
        [pixels(10), file(11)[:40]],
    )

    assert [array.shape for array in wire.receive()[1]] == [(1, 3)]
