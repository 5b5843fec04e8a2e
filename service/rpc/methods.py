"""The methods of inference.GRPCInferenceService: each from a message to a message or its fields."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from starlette.datastructures import State

from bundle.format.manifest import NAME_PATTERN
from service.errors import (
    Draining,
    InvalidParameter,
    ModelRefused,
    ModelUnavailable,
    NotReady,
)
from service.protocols import description, repository, work
from service.protocols.inference import check_outputs, results
from service.protocols.work import Call
from service.rpc import messages

Fields = dict[str, Any]


class Incoming(NamedTuple):
    """A message, and what came with it."""

    state: State  # of the application
    known: dict[str, Any]  # of the call, for its log line
    message: Any
    metadata: Mapping[str, str]
    timeout_s: float | None  # what is left; None: the client sets no deadline

    def of(self, name: str = "", version: str = "") -> Call:
        """What it asks for; an empty name is the default model."""
        header = self.state.settings.session_header.lower()
        session = self.metadata.get(header) if self.state.registry.traffic else None
        return Call(self.state, self.known, name or None, version or None, session, self.timeout_s)


Method = Callable[[Incoming], Awaitable[Any]]


async def server_live(incoming: Incoming) -> Fields:
    """Whether the process responds."""
    return description.live(incoming.of())


async def server_ready(incoming: Incoming) -> Fields:
    """Whether requests can be served."""
    try:
        return description.ready(incoming.of())
    except (NotReady, Draining):
        return {"ready": False}


async def model_ready(incoming: Incoming) -> Fields:
    """Whether one version serves."""
    try:
        description.model_ready(incoming.of(incoming.message.name, incoming.message.version))
    except (ModelUnavailable, ModelRefused):
        return {"ready": False}
    return {"ready": True}


async def server_metadata(incoming: Incoming) -> Fields:
    """Name, version and extensions of the server."""
    return description.server(incoming.of())


async def model_metadata(incoming: Incoming) -> Fields:
    """Inputs and outputs of one version."""
    return description.metadata(incoming.of(incoming.message.name, incoming.message.version))


async def model_config(incoming: Incoming) -> Fields:
    """One version as Triton's model configuration."""
    asked = incoming.of(incoming.message.name, incoming.message.version)
    return {"config": description.config(asked)}


async def model_statistics(incoming: Incoming) -> Fields:
    """What one model has done, or all."""
    return description.statistics(incoming.of(incoming.message.name, incoming.message.version))


async def model_infer(incoming: Incoming) -> Any:
    """Classify the images of a request."""
    message = incoming.message
    async with work.admitted(incoming.of(message.model_name, message.model_version)) as (target, _):
        document = messages.document(message)
        check_outputs(document)
        images = messages.images(target, document.inputs[0], message)
        found = await work.classify(incoming.state, incoming.known, target, images)
    return messages.response(target, message.id, results(target, document, found))


async def repository_index(incoming: Incoming) -> Fields:
    """The versions that are loaded, being loaded or refused."""
    authorise(incoming)
    entries = repository.entries(incoming.state.registry)
    only_ready = incoming.message.ready
    return {"models": [each for each in entries if each["state"] == "READY" or not only_ready]}


async def repository_load(incoming: Incoming) -> Fields:
    """Look at the repository now, and load a model; responds when it serves."""
    authorise(incoming)
    await incoming.state.lifecycle.load(_model_name(incoming))
    return {}


async def repository_unload(incoming: Incoming) -> Fields:
    """Unload a model; responds when its processes have ended."""
    authorise(incoming)
    await incoming.state.lifecycle.unload(_model_name(incoming))
    return {}


def authorise(incoming: Incoming) -> None:
    """Check the key in the metadata, which has the names of HTTP's headers.

    Raises:
        Unauthorized: there is none, or another one.
    """
    repository.check_key(incoming.state.keys, incoming.metadata)


def _model_name(incoming: Incoming) -> str:
    name: str = incoming.message.model_name
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidParameter(
            f"model_name: expected a name that matches {NAME_PATTERN}. Received: {name[:100]!r}"
        )
    return name


METHODS: dict[str, Method] = {
    "ServerLive": server_live,
    "ServerReady": server_ready,
    "ModelReady": model_ready,
    "ServerMetadata": server_metadata,
    "ModelMetadata": model_metadata,
    "ModelConfig": model_config,
    "ModelStatistics": model_statistics,
    "ModelInfer": model_infer,
}
# Where there is a key.
ADMIN_METHODS: dict[str, Method] = {
    "RepositoryIndex": repository_index,
    "RepositoryModelLoad": repository_load,
    "RepositoryModelUnload": repository_unload,
}
# They need no key, and tell nothing of the models.
OPEN = ("ServerLive", "ServerReady")
PROBES = (*OPEN, "ModelReady")
