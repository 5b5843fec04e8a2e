"""The service on Ray Serve: `serve deploy deploy/ray/serve.yaml`.

    client ─HTTP─ proxy or HAProxy ─ Service (the whole application) ─batches─ ModelHost ─ process

`Service` runs the FastAPI application as it is on one machine, with its queues, limits, decoders
and metrics. Only what runs a batch is elsewhere: a replica of the model's deployment, which has its
process. A model without a deployment of its own runs in `Others`.
"""

# Without postponed annotations: Serve takes the class of the arguments from that of `build`.

import asyncio
import functools
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from bundle.errors import BundleError
from bundle.format.manifest import read_manifest
from bundle.format.repository import BundleRef, list_bundles
from bundle.machine import tune_malloc
from deploy.ray.host import ModelHost
from deploy.ray.options import OTHERS, Args, Identity
from deploy.ray.remote import RemoteProcess
from service.app import create_app
from service.models.model import ServedModel
from service.monitoring import tracing
from service.monitoring.logs import configure_logging
from service.settings import Settings

POLL_S = 0.05
# Of a replica: the queues of the application refuse what is too much long before.
MAX_REQUESTS = 10_000
# Batches that a replica takes from all web processes together; the next ones wait in those.
MAX_BATCHES = 32
# Models that share replicas and are loaded at once.
MIN_LOADS = 2


@serve.ingress()
class Service:
    """The application in a replica of Serve.

    Args:
        args: of the application.
        hosts: the deployments that run models, by name of the model.
    """

    def __init__(self, args: Args, hosts: dict[str, DeploymentHandle[Any]]) -> None:
        self._args, self._hosts = args, hosts
        # At the start there may be hundreds of models to load.
        self._gate = asyncio.Semaphore(max(MIN_LOADS, args.others.max_replicas))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve on the event loop that the application then runs on."""
        settings = self._args.settings()
        configure_logging(settings)
        tune_malloc()
        self._app = create_app(settings, tracing.from_environment(os.environ), self._new_model)
        return self._app

    async def check_health(self) -> None:
        """Called by Serve: the first time before any request, so that it waits for the models."""
        registry = self._app.state.registry
        while any(model.state == "loading" for model in registry.first):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)

    def _new_model(
        self, ref: BundleRef, settings: Settings, changed: Callable[[], None]
    ) -> ServedModel:
        own = self._hosts.get(ref.name)
        handle = self._hosts[OTHERS] if own is None else own
        scale = self._args.scale(None if own is None else ref.name)

        def new_process(_folder: Path, _pinned: Settings, _number: int) -> RemoteProcess:
            # Not the settings that a restart is pinned to: all instances share what is loaded.
            read = functools.partial(Identity.read, ref, settings, scale)
            return RemoteProcess(handle, read, self._gate if own is None else None)

        # Each hands over its own batches, so that all replicas can be busy.
        instances = max(settings.instances, 1 if own is None else scale.max_replicas)
        spread = settings.model_copy(update={"instances": instances})
        return ServedModel(ref, spread, new_process, changed=changed)


def build(args: Args) -> Application:
    """The application for Serve: the web processes, and the deployments of the models."""
    settings = args.settings()
    hosts = {name: _hosting(args, name) for name in sorted(own_models(args))} | {
        OTHERS: _hosting(args, None)
    }
    deployment = serve.deployment(
        Service,
        name="Service",
        num_replicas=args.ingress_replicas,
        max_replicas_per_node=1,
        max_ongoing_requests=MAX_REQUESTS,
        graceful_shutdown_timeout_s=settings.drain_timeout_s,
        ray_actor_options={"num_cpus": args.ingress_cpus},
    )
    application: Application = deployment.bind(args, hosts)
    return application


def _hosting(args: Args, name: str | None) -> Application:
    scale = args.scale(name)
    deployment = serve.deployment(
        ModelHost,
        name=name or OTHERS,
        max_ongoing_requests=MAX_BATCHES,
        autoscaling_config=scale.autoscaling,
        ray_actor_options=scale.resources,
    )
    application: Application = deployment.bind(args, name)
    return application


def own_models(args: Args) -> set[str]:
    """The models that get a deployment: those that are named, or all that have a manifest.

    The service refuses the others, and a replica would hold cores for nothing.
    """
    if args.models is not None:
        return set(args.models)
    found = set()
    for ref in list_bundles(args.settings().models_folder):
        with suppress(BundleError):
            found.add(read_manifest(ref.path).name)
    return found
