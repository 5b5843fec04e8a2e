"""A model that runs in the replicas of a deployment, in the place of a process on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import grpc
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from bundle.errors import WorkerDied
from bundle.worker.model_process import Pixels
from bundle.worker.process import Reason
from bundle.worker.responses import ClassifiedBatch, Extras, RuntimeInfo
from deploy.ray.host import Failed
from deploy.ray.options import Identity

# What a call raises whose replica, or node, has gone or does not answer.
LOST: Final = (RayError, RayServeException, grpc.RpcError, TimeoutError)
# Of a batch: a replica that has just been added may load the model first.
PATIENCE = 2.0
WAITING_S = 30.0

log = logging.getLogger("service")


class RemoteProcess:
    """Hands batches to a deployment of `ModelHost`; Serve chooses the replica.

    Like `ModelProcess` it is started once, and has ended when a batch was lost, with its process or
    with its replica. The others may run on: its successor finds them as they are.

    Args:
        handle: of the deployment.
        read: reads the identity of the bundle from its folder.
        gate: limits how many models that share replicas are loaded at once; None: the deployment
            is its own, and all replicas load it.
        waiting_s: until the log says what a model waits for.
    """

    def __init__(
        self,
        handle: DeploymentHandle[Any],
        read: Callable[[], Identity],
        gate: asyncio.Semaphore | None = None,
        waiting_s: float = WAITING_S,
    ) -> None:
        # Plain pickle: these are values of modules that every node has.
        self._handle = handle.options(
            request_serialization="pickle", response_serialization="pickle"
        )
        self._read, self._gate, self._waiting_s = read, gate, waiting_s
        self._info: RuntimeInfo | None = None
        self._ended = False
        self.reason: Reason | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and has lost no batch."""
        return self._info is not None and not self._ended

    @property
    def info(self) -> RuntimeInfo:
        """What runs the model; `RuntimeError` before `start`."""
        if self._info is None:
            raise RuntimeError("The model is not loaded.")
        return self._info

    async def start(self, timeout_s: float) -> RuntimeInfo:
        """Load the model in a replica, or in all there are.

        Raises:
            WorkerDied: there is no replica in time, or it has ended.
            BundleError: the bundle is refused.
        """
        self._identity = identity = await asyncio.to_thread(self._read)
        # Serve prefers the replicas that have it.
        routed = self._handle.options(multiplexed_model_id=str(identity))
        self._classify = routed.options(method_name="classify")
        load = routed.options(method_name="load")
        async with self._gate or contextlib.nullcontext():
            said = asyncio.get_running_loop().call_later(self._waiting_s, self._say_waiting)
            try:
                found = await self._ask(load, timeout_s, identity)
            finally:
                said.cancel()
        if self._gate is None:
            # What fails in some of them, they try again when they get a batch.
            try:
                others = self._handle.broadcast("load", identity)
                await others.results_async(timeout_s=timeout_s, return_exceptions=True)
            except LOST as exc:
                log.warning("%s is not loaded everywhere: %r", identity, exc)
        self._info = found
        return self._info

    async def classify(
        self,
        images: Sequence[bytes | Pixels],
        timeout_s: float,
        *,
        exclusive: bool,
        extras: Mapping[int, Extras] | None = None,
    ) -> ClassifiedBatch:
        """Run one batch, as `ModelProcess.classify` does, in one of the replicas."""
        found: ClassifiedBatch = await self._ask(
            self._classify,
            PATIENCE * timeout_s,
            *(self._identity, images, timeout_s, extras or {}, exclusive),
        )
        return found

    async def kill(self, grace_s: float = 0) -> str:  # noqa: ARG002 - as of a process
        """Hand over no more batches. The replicas keep the model: others may use it."""
        self._ended = True
        self.reason = self.reason or "killed"
        return ""

    def kill_now(self) -> None:
        """As `kill`, from any thread."""
        self._ended, self.reason = True, "replaced"

    def _say_waiting(self) -> None:
        log.warning(
            "%s is not loaded yet by a replica of %s; if the cluster has no cores or GPUs left for "
            "one, `serve status` says so",
            *(self._identity, self._handle.deployment_name),
        )

    async def _ask(self, method: DeploymentHandle[Any], timeout_s: float, *arguments: Any) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                found = await method.remote(*arguments)
        except LOST as exc:
            self._ended = True
            self.reason = "timeout" if isinstance(exc, TimeoutError) else "killed"
            raise WorkerDied(
                f"The replica that runs the model has ended or did not answer ({exc!r})."
            ) from exc
        if isinstance(found, Failed):
            if isinstance(found.error, WorkerDied):
                self._ended, self.reason = True, found.reason
            raise found.error
        return found
