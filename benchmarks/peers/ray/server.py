"""Ray Serve: an HTTP proxy, and one replica per worker with its own batching.

Ray resolves 127.0.0.1 to the machine's address, and the internal port of a replica is open on every
interface whatever is set. Therefore it is started only if loopback is the only interface: see
`benchmarks.peers.running`.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.work import Classifier, Labels, Options, options


class Model:
    """The model of one replica process."""

    def __init__(self, options: Options) -> None:
        self._classifier = Classifier(options)
        self._batched.set_max_batch_size(options.batch)
        self._batched.set_batch_wait_timeout_s(options.wait_ms / 1000)

    @serve.batch()
    async def _batched(self, jpegs: list[bytes]) -> list[Labels]:
        # In a thread, so that requests are received while the model runs.
        return await asyncio.to_thread(self._classifier.predict, jpegs)

    async def __call__(self, request: Request) -> Labels:
        """Classify the JPEG in the body."""
        labels: Labels = await self._batched(await request.body())
        return labels


if __name__ == "__main__":
    chosen = options()
    ray.init(
        address="local",
        num_cpus=chosen.workers,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=tempfile.mkdtemp(prefix="ray-"),
    )
    serve.start(http_options={"host": "127.0.0.1", "port": chosen.port})
    model = serve.deployment(
        Model,
        num_replicas=chosen.workers,
        max_ongoing_requests=4 * chosen.batch,
        ray_actor_options={"num_cpus": 1},
    )
    serve.run(model.bind(chosen), route_prefix="/predict")
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    serve.shutdown()
    ray.shutdown()
