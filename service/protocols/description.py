"""What the Open Inference Protocol says about the server and its models, as its documents."""

from __future__ import annotations

from typing import Any

from service.api.responses import check_ready
from service.errors import ModelUnavailable
from service.models.model import ServedModel
from service.monitoring.metrics import Metrics
from service.protocols.inference import IMAGE, OUTPUTS, PIXELS
from service.protocols.work import Call, find
from service.repository.registry import Registry

Document = dict[str, Any]

SERVER, SERVER_VERSION = "resnet-service", "1"
EXTENSIONS = ["classification", "binary_tensor_data", "model_configuration", "statistics"]
# Stages of the metrics under the names of the statistics extension.
STATISTICS = {"decode": "compute_input", "queue": "queue", "inference": "compute_infer"}


def server(call: Call) -> Document:  # noqa: ARG001 - the signature of a description
    """Name, version and extensions of the server."""
    return {"name": SERVER, "version": SERVER_VERSION, "extensions": EXTENSIONS}


def live(call: Call) -> Document:  # noqa: ARG001 - the signature of a description
    """Whether the process responds."""
    return {"live": True}


def ready(call: Call) -> Document:
    """Whether requests can be served, as /readyz says."""
    check_ready(call.state)
    return {"ready": True}


def model_ready(call: Call) -> Document:
    """Whether one version serves."""
    model = find(call)
    model.target()
    if model.state != "ready":
        raise ModelUnavailable(f"The model {model.name} is {model.state}. Wait until it is ready.")
    return {"name": model.name, "ready": True}


def metadata(call: Call) -> Document:
    """Inputs and outputs of one version."""
    model = find(call)
    registry: Registry = call.state.registry
    manifest = model.target().manifest
    size = manifest.input
    return {
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


def config(call: Call) -> Document:
    """One version as Triton's model configuration; a request has one of the inputs."""
    model = find(call)
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
    return {
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


def statistics(call: Call) -> Document:
    """Images, forward passes and the time of each stage: of one model, or of all."""
    registry: Registry = call.state.registry
    models = registry.all() if call.name is None else [find(call)]
    metrics: Metrics = call.state.metrics
    return {"model_stats": [_statistics(model, metrics) for model in models]}


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
