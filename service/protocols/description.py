"""What the Open Inference Protocol says about the server and its models."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.errors import ModelUnavailable
from service.models.model import ServedModel
from service.monitoring.metrics import Metrics
from service.protocols import calls
from service.protocols.inference import IMAGE, OUTPUTS, PIXELS
from service.repository.registry import Registry

SERVER, SERVER_VERSION = "resnet-service", "1"
EXTENSIONS = ["classification", "binary_tensor_data", "model_configuration", "statistics"]
# Stages of the metrics under the names of the statistics extension.
STATISTICS = {"decode": "compute_input", "queue": "queue", "inference": "compute_infer"}


async def server(request: Request) -> Response:  # noqa: ARG001 - the signature of an endpoint
    """Name, version and extensions of the server."""
    return calls.answer(
        {"name": SERVER, "version": SERVER_VERSION, "extensions": EXTENSIONS},
    )


async def live(request: Request) -> Response:  # noqa: ARG001 - the signature of an endpoint
    """Whether the process responds."""
    return calls.answer({"live": True})


async def ready(request: Request) -> Response:
    """Whether requests can be served, as /readyz says."""
    request.app.state.registry.check_ready()
    return calls.answer({"ready": True})


async def model_ready(request: Request) -> Response:
    """Whether one version serves."""
    model = calls.find(request)
    model.target()
    if model.state != "ready":
        raise ModelUnavailable(f"The model {model.name} is {model.state}. Wait until it is ready.")
    return calls.answer({"name": model.name, "ready": True})


async def metadata(request: Request) -> Response:
    """Inputs and outputs of one version."""
    model = calls.find(request)
    registry: Registry = request.app.state.registry
    manifest = model.target().manifest
    size = manifest.input
    return calls.answer(
        {
            "name": model.name,
            "versions": [str(each.version) for each in registry.all() if each.name == model.name],
            "platform": _platform(model),
            "inputs": [
                {"name": IMAGE, "datatype": "BYTES", "shape": [-1, 1]},
                {"name": PIXELS, "datatype": "UINT8", "shape": [-1, size.height, size.width, 3]},
            ],
            "outputs": [
                {"name": name, "datatype": "FP32", "shape": [-1, len(manifest.labels)]}
                for name in OUTPUTS
            ],
        }
    )


async def config(request: Request) -> Response:
    """One version as Triton's model configuration; a request has one of the inputs."""
    model = calls.find(request)
    manifest = model.target().manifest
    size = manifest.input
    inputs: list[dict[str, Any]] = [
        {"name": IMAGE, "data_type": "TYPE_STRING", "format": "FORMAT_NONE", "dims": [1]},
        {
            "name": PIXELS,
            "data_type": "TYPE_UINT8",
            "format": "FORMAT_NHWC",
            "dims": [size.height, size.width, 3],
        },
    ]
    return calls.answer(
        {
            "name": model.name,
            "platform": _platform(model),
            "backend": manifest.framework.name,
            "max_batch_size": model.settings.batch_files,
            "input": [{**each, "optional": True} for each in inputs],
            "output": [
                {"name": name, "data_type": "TYPE_FP32", "dims": [len(manifest.labels)]}
                for name in OUTPUTS
            ],
            "dynamic_batching": {},
        }
    )


async def statistics(request: Request) -> Response:
    """Images, forward passes and the time of each stage: of one model, or of all."""
    registry: Registry = request.app.state.registry
    models = [calls.find(request)] if "name" in request.path_params else registry.all()
    metrics: Metrics = request.app.state.metrics
    return calls.answer({"model_stats": [_statistics(model, metrics) for model in models]})


def _platform(model: ServedModel) -> str:
    """Framework and format of the artifact that runs, such as `tensorflow_savedmodel`."""
    manifest, info = model.target()[1:]
    artifact = manifest.artifact(info["artifact_id"]) or manifest.source
    return f"{manifest.framework.name}_{artifact.format}"


def _statistics(model: ServedModel, metrics: Metrics) -> dict[str, Any]:
    sizes = model.queue.batch_sizes
    stages = metrics.stage_totals(model)
    return {
        "name": model.name,
        "version": str(model.version),
        "inference_count": sum(size * count for size, count in sizes.items()),
        "execution_count": sizes.total(),
        "inference_stats": {
            "success": _duration(
                stages.get("queue", (0, 0))[0], sum(s for _, s in stages.values())
            ),
            **{name: _duration(*stages.get(stage, (0, 0.0))) for stage, name in STATISTICS.items()},
        },
    }


def _duration(count: float, seconds: float) -> dict[str, int]:
    return {"count": int(count), "ns": round(seconds * 1e9)}
