"""Around every call: its id, limits, deadline and failures, one log line and its metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from starlette.datastructures import State

from bundle.errors import BundleError, ImageError
from service.access.key import CURRENT, Key
from service.access.keys import Keys
from service.api.middleware import identity_of, log_request
from service.api.problems import CLIENT_CLOSED_REQUEST
from service.errors import (
    DeadlineExceeded,
    Draining,
    Failure,
    InternalError,
    MalformedRequest,
    RequestTimeout,
    RequestTooLarge,
    ServiceError,
)
from service.monitoring.metrics import GRPC
from service.monitoring.tracing import Tracer
from service.rpc import statuses, wire
from service.rpc.methods import ADMIN_METHODS, OPEN, PROBES, Incoming, Method

# Messages of each method that arrive at once: gRPC keeps what has arrived of them in memory, and
# does not say how much that is.
MAX_ARRIVING = 16
# A call that is cancelled so shortly before its deadline has reached it on the client's clock.
CLOCKS_S = 0.05
# Calls that were sent before the end are accepted within this time, one after the other.
LATE_S = 0.5
IDENTITY = "x-request-id"
DRAINING = "The service is shutting down. Send the request to another instance."
OK = 200

# grpc.aio.ServicerContext, which has no types.
Context = Any

log = logging.getLogger("service")


class Calls:
    """Makes the handlers of methods, and knows the calls that are not answered.

    Args:
        state: Of the application.
        max_bytes: Of a message.
    """

    def __init__(self, state: State, max_bytes: int) -> None:
        self._state = state
        self._max_bytes = max_bytes
        self._running: set[asyncio.Task[Any]] = set()
        self._draining = self._ended = False
        # Calls since `end` has looked.
        self._begun = 0

    def handler(self, path: str, method: Method, request: Any, response: Any) -> Any:
        """The handler of one method.

        It takes a stream of messages, of which a client sends one: so it decides when to read it.

        Args:
            path: With the name of the service.
            method: From a message to a response, or to the fields of one.
            request: Class of the message.
            response: Class of the response.
        """
        arriving = asyncio.Semaphore(MAX_ARRIVING)

        async def answer(_: object, context: Context) -> bytes:
            async def found(metadata: dict[str, str], known: dict[str, Any]) -> bytes:
                key = None if path.endswith(OPEN) else self._admitted(metadata, method, known)
                with self._state.budget.reserve() as reservation:
                    data = await self._read(context, arriving)
                    known["bytes_in"] = len(data)
                    if key is not None:
                        key.receive(len(data), of=len(data))
                    reservation.take(len(data))
                    wire.check(data, request.DESCRIPTOR, self._state.settings)
                    message = _parsed(data, request)
                    # What is left of it is in the message.
                    del data
                    left_s = _time_left(context)
                    given = await method(Incoming(self._state, known, message, metadata, left_s))
                if isinstance(given, dict):
                    given = ParseDict(given, response(), ignore_unknown_fields=True)
                encoded: bytes = given.SerializeToString()
                return encoded

            return await self._around(path, context, found)

        return grpc.stream_unary_rpc_method_handler(answer)

    def _admitted(
        self, metadata: dict[str, str], method: Method, known: dict[str, Any]
    ) -> Key | None:
        """The client of a call, where calls need a key; its message is not read yet.

        Raises:
            Unauthorized, UnknownKey: as `Keys.check`.
            Forbidden, RateLimited: as `Key.admit`.
        """
        keys: Keys = self._state.keys
        if not keys.are_needed:
            return None
        key = keys.check(metadata.get("authorization"), metadata.get("x-api-key"))
        known["key"] = key.name
        key.admit(0, admin=method in ADMIN_METHODS.values())
        CURRENT.set(key)
        return key

    async def end(self, timeout_s: float) -> None:
        """Wait for the calls that run; those that still run after that get the problem `draining`.

        gRPC accepts one call after the other, and cancels those that wait for that when it stops.
        So calls are served for a moment more, and then get the problem, until none comes.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.sleep(LATE_S)
                self._draining = True
                while self._running or self._begun:
                    self._begun = 0
                    await asyncio.sleep(LATE_S)
        self._draining = self._ended = True
        for task in self._running:
            task.cancel()

    async def _around(
        self,
        path: str,
        context: Context,
        found: Callable[[dict[str, str], dict[str, Any]], Awaitable[bytes]],
    ) -> bytes:
        """What `found` returns for the metadata of a call; its failure becomes the call's."""
        metadata = {
            name: value
            for name, value in context.invocation_metadata() or ()
            if isinstance(value, str)
        }
        identity = identity_of(metadata.get(IDENTITY, ""))
        known: dict[str, Any] = {"request_id": identity}
        started = time.perf_counter()
        response, status = b"", CLIENT_CLOSED_REQUEST
        error: Failure | None = None
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler runs in a task
        self._running.add(task)
        self._begun += 1
        try:
            if self._draining:
                raise Draining(DRAINING)
            response = await found(metadata, known)
            status = OK
        except (ServiceError, BundleError, ImageError) as exc:
            error = exc
        except asyncio.CancelledError:
            # By the client or its deadline, or by `end`.
            left_s = _time_left(context)
            if self._ended:
                error = Draining(DRAINING)
            else:
                if left_s is not None and left_s < CLOCKS_S:
                    error = DeadlineExceeded("The deadline of the call has passed.")
                raise
        except Exception:
            log.exception("request %s failed", identity, extra={"request_id": identity})
            error = InternalError(
                "The service failed on this request. "
                f"Its log has the cause under the request id {identity}."
            )
        finally:
            self._running.discard(task)
            if error is not None:
                status = statuses.http_status(error)
                self._state.metrics.problem(error.code)
                known["problem"] = error.code
            ended = time.perf_counter()
            tracer: Tracer | None = self._state.tracer
            if tracer is not None and not path.endswith(PROBES):
                times = started, ended
                known["trace_id"] = tracer.call(path, metadata, known, status, *times)
            self._finished(path, context, status, ended - started, known)
        if error is not None:
            # It raises.
            await context.abort(
                statuses.status(error),
                str(error)[: statuses.MAX_TEXT],
                (*statuses.trailers(error), (IDENTITY, identity)),
            )
        context.set_trailing_metadata(((IDENTITY, identity),))
        return response

    def _finished(
        self, path: str, context: Context, status: int, seconds: float, known: dict[str, Any]
    ) -> None:
        level = logging.DEBUG if path.endswith(PROBES) else logging.INFO
        if self._state.settings.log_client:
            known["client"] = _address(context.peer())
        log_request(level, path, GRPC, path, status, seconds, known)
        self._state.metrics.request(GRPC, path, status, seconds, known)

    async def _read(self, context: Context, arriving: asyncio.Semaphore) -> bytes:
        """The message of a call.

        Raises:
            RequestTimeout: it does not arrive in time.
            RequestTooLarge: it is too large; gRPC has refused it.
        """
        limit_s = self._state.settings.request_timeout_s
        try:
            async with asyncio.timeout(limit_s), arriving:
                data = await context.read()
        except TimeoutError as exc:
            raise RequestTimeout(
                f"The message did not arrive in full within {limit_s:g} s. Send it again."
            ) from exc
        if data is grpc.aio.EOF:
            raise RequestTooLarge(
                f"The call has no message, or one that is too large. Expected one of at most "
                f"{self._max_bytes} bytes."
            )
        assert isinstance(data, bytes)  # noqa: S101 - there is no deserializer
        return data


def _parsed(data: bytes, kind: Any) -> Any:
    """A message of this class.

    Raises:
        MalformedRequest: it is none.
    """
    try:
        return kind.FromString(data)
    except DecodeError as exc:
        raise MalformedRequest(
            f"The message can't be read. Expected an encoded {kind.DESCRIPTOR.full_name}. "
            f"Received: {len(data)} bytes: {exc}"
        ) from exc


def _time_left(context: Context) -> float | None:
    """Seconds until the deadline; None: the client sets none."""
    left_s = context.time_remaining()
    # 0 is no time limit elsewhere.
    return None if left_s is None else max(left_s, 1e-3)


def _address(peer: str) -> str:
    """The address of `ipv4:127.0.0.1:50051` or `ipv6:%5B::1%5D:50051`."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")
