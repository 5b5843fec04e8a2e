"""Frames over a socket pair: a blocking end, and one on an event loop."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from bundle.worker.wire import FrameConnection, Wire, WireClosed

IMAGES = [np.full((2, 3), number, np.uint8) for number in range(3)]


def run(
    test: Callable[[FrameConnection, Wire, socket.socket], Awaitable[None]], max_bytes: int = 1000
) -> None:
    """`test` with one end on the event loop, and the other as a wire and as the socket itself."""

    async def connected() -> None:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_unix_connection(
            lambda: FrameConnection(max_bytes), sock=ours
        )
        try:
            with theirs:
                await asyncio.wait_for(test(connection, Wire(theirs), theirs), 20)
        finally:
            transport.close()

    asyncio.run(connected())


def test_arrays_arrive_as_they_were() -> None:
    async def test(connection: FrameConnection, wire: Wire, _: socket.socket) -> None:
        connection.post({"method": "infer"}, [np.stack(IMAGES), np.arange(3)])
        header, (stacked, numbers) = await asyncio.to_thread(wire.receive)
        assert header == {"method": "infer", "id": 1}
        assert stacked.dtype == np.uint8
        assert np.array_equal(stacked, np.stack(IMAGES))
        assert np.array_equal(numbers, np.arange(3))

    run(test)


def test_frames_in_one_piece_or_several_and_in_any_order_are_the_responses_to_their_posts() -> None:
    async def test(connection: FrameConnection, _: Wire, theirs: socket.socket) -> None:
        responses = [connection.post({}) for _ in range(3)]
        left, right = socket.socketpair()
        with left, right:  # to have the bytes of the frames
            for number, identity in enumerate((2, 3, 1)):
                Wire(left).send({"id": identity}, [IMAGES[number]])
            frames = right.recv(10_000)
        cut = len(frames) // 2  # inside the second frame
        theirs.sendall(frames[:cut])
        await asyncio.wait([responses[1]])
        assert not responses[0].done()
        theirs.sendall(frames[cut:])
        for number, response in zip((2, 0, 1), responses, strict=True):
            header, (image,) = await response
            assert header == {}
            assert np.array_equal(image, IMAGES[number])

    run(test)


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"BW1\n\x00\x00\x00\x02[]", b"BW1\n\xff\xff\xff\xff"]
)
def test_what_is_no_frame_ends_the_connection_and_fails_pending_receives(sent: bytes) -> None:
    async def test(connection: FrameConnection, _: Wire, theirs: socket.socket) -> None:
        responses = [connection.post({}), connection.post({})]
        theirs.sendall(sent)
        for response in responses:
            with pytest.raises(WireClosed):
                await response
        assert connection.closed
        with pytest.raises(WireClosed):
            await connection.post({})

    run(test)


def test_a_frame_that_is_too_large_is_refused_by_its_head() -> None:
    async def test(connection: FrameConnection, wire: Wire, _: socket.socket) -> None:
        response = connection.post({})
        wire.send({"id": 1}, [np.zeros(2000, np.uint8)])
        with pytest.raises(WireClosed, match="the limit is 1000"):
            await response

    run(test)


def test_the_end_of_the_other_side_is_noticed() -> None:
    async def test(connection: FrameConnection, _: Wire, theirs: socket.socket) -> None:
        response = connection.post({})
        theirs.shutdown(socket.SHUT_RDWR)
        with pytest.raises(WireClosed):
            await response

    run(test)


@pytest.mark.parametrize(
    "header",
    [
        b'{"arrays": [["uint8", [0, 1099511627776, 1099511627776]]]}',
        b'{"arrays": [["uint8", [0' + 99 * b", 1" + b"]]]}",
        b"[" * 20_000,
        b'{"arrays": [], "detail": "\\ud800"}',
    ],
)
def test_a_header_that_nothing_can_be_made_of_ends_the_connection(header: bytes) -> None:
    async def test(connection: FrameConnection, _: Wire, theirs: socket.socket) -> None:
        responses = [connection.post({}), connection.post({})]
        theirs.sendall(b"BW1\n" + len(header).to_bytes(4, "big") + header)
        for response in responses:
            with pytest.raises(WireClosed):
                await response

    run(test)


@pytest.mark.parametrize("identity", [1, 3, None, "2", [2]])
def test_a_frame_that_was_not_requested_ends_the_connection(identity: object) -> None:
    async def test(connection: FrameConnection, wire: Wire, _: socket.socket) -> None:
        first, second = connection.post({}), connection.post({})
        wire.send({"number": 1, "id": 1})
        assert (await first)[0] == {"number": 1}
        wire.send({"id": identity})
        with pytest.raises(WireClosed):
            await second

    run(test)


def test_a_response_that_is_no_longer_awaited_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(connection: FrameConnection, _: Wire, __: socket.socket) -> None:
        connection.post({})
        connection.close()
        gc.collect()

    run(test)
    assert not caplog.records
