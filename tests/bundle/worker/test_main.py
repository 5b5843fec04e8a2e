"""The request loop of a model's process, over a socket, with a fake model."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from bundle.runtimes import Model
from bundle.worker.__main__ import RequestLoop
from bundle.worker.wire import Wire, WireClosed

TIMEOUT_S = 60.0


class FakeModel:
    """A model with two streams; the value of the first pixel is what it does, and its logits."""

    streams = 2
    FAILS, RETURNS_NAN, MEETS, WAITS, RELEASES = 1, 2, 3, 4, 5

    def __init__(self) -> None:
        self._both = threading.Barrier(2)
        self._released = threading.Event()

    def infer_on_stream(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        value = int(pixels.flat[0])
        if value == self.FAILS:
            raise MemoryError("no memory")
        if value == self.MEETS:
            self._both.wait(TIMEOUT_S)
        if value == self.WAITS and not self._released.wait(TIMEOUT_S):
            raise TimeoutError("the other request never ran")
        if value == self.RELEASES:
            self._released.set()
        return np.full((1, 3), np.nan if value == self.RETURNS_NAN else value, np.float32)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """The parent's end."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with pytest.raises(WireClosed):
            RequestLoop(Wire(theirs), cast("Model", FakeModel())).run()

    serving = threading.Thread(target=serve)
    serving.start()
    yield Wire(ours)
    ours.close()
    serving.join(TIMEOUT_S)
    assert not serving.is_alive(), "it ends with its parent"
    theirs.close()


def ask(wire: Wire, *values: int) -> list[Any]:
    """The value of the logits, or the error, of images with `values` that are all sent first."""
    for value in values:
        wire.send({"method": "infer_on_stream"}, [np.full((1, 2, 2, 3), value, np.uint8)])
    found = []
    for _ in values:
        header, arrays = wire.receive(time.monotonic() + TIMEOUT_S)
        found.append(header.get("error") or arrays[0][0, 0])
    return found


def test_responses_come_in_the_order_of_the_requests(wire: Wire) -> None:
    values = [FakeModel.WAITS, FakeModel.RELEASES, 10, 11]  # the second one finishes first

    assert ask(wire, *values) == values


def test_as_many_requests_run_at_once_as_there_are_streams(wire: Wire) -> None:
    values = [FakeModel.MEETS] * 4  # each needs another one in flight

    assert ask(wire, *values) == values


def test_a_request_that_fails_gets_the_error_and_its_neighbours_do_not(wire: Wire) -> None:
    found = ask(wire, 10, FakeModel.FAILS, 11, FakeModel.RETURNS_NAN, 12)

    assert found == [10, "runtime_unavailable", 11, "runtime_unavailable", 12]
