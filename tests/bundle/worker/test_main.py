"""How the process of a model answers, over a socket, with a model that only pretends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bundle.worker.__main__ import RequestLoop
from bundle.worker.wire import Wire, WireClosed

SLOW_S = 0.3


class Pretended:
    """A model with two streams; the value of the first pixel is what it does, and what it answers."""

    runtime = runtime_version = device = "none"
    streams = 2
    FAILS, IS_SLOW, ANSWERS_NAN = 1, 2, 3

    def infer_on_stream(self, pixels: np.ndarray) -> np.ndarray:
        value = int(pixels.flat[0])
        if value == self.FAILS:
            raise MemoryError("no memory")
        if value == self.IS_SLOW:
            time.sleep(SLOW_S)
        return np.full((1, 3), np.nan if value == self.ANSWERS_NAN else value, np.float32)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """The parent's end."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with pytest.raises(WireClosed):
            RequestLoop(Wire(theirs), Pretended()).run()  # type: ignore[arg-type]

    serving = threading.Thread(target=serve)
    serving.start()
    yield Wire(ours)
    ours.close()
    serving.join(5)
    assert not serving.is_alive(), "it ends with its parent"
    theirs.close()


def ask(wire: Wire, *values: int) -> list[Any]:
    """What comes back for pictures of these values, sent without waiting: the logits' value, or the error."""
    for value in values:
        wire.send({"method": "infer_on_stream"}, [np.full((1, 2, 2, 3), value, np.uint8)])
    found = []
    for _ in values:
        header, arrays = wire.receive(time.monotonic() + 10)
        found.append(header.get("error") or arrays[0][0, 0])
    return found


def test_answers_come_in_the_order_of_the_questions(wire: Wire) -> None:
    assert ask(wire, Pretended.IS_SLOW, 10, 11, Pretended.IS_SLOW, 12) == [2, 10, 11, 2, 12]


def test_as_many_are_worked_on_at_once_as_there_are_streams(wire: Wire) -> None:
    started = time.perf_counter()
    ask(wire, *[Pretended.IS_SLOW] * 4)

    assert 2 * SLOW_S <= time.perf_counter() - started < 4 * SLOW_S


def test_a_question_that_fails_is_answered_with_the_error_and_its_neighbours_are_not(
    wire: Wire,
) -> None:
    answers = ask(wire, 10, Pretended.FAILS, 11, Pretended.ANSWERS_NAN, 12)

    assert answers == [10, "runtime_unavailable", 11, "runtime_unavailable", 12]
