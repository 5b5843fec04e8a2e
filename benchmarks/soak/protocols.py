"""Clients of the Open Inference Protocol in a soak run, over HTTP and over gRPC."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from benchmarks.soak.clients import Soak
from benchmarks.soak.repository import SOAKED

INTERVAL_S = 0.1
TIMEOUT_S = 120.0
FULL = ("429", "StatusCode.RESOURCE_EXHAUSTED")


def ask_over_http(soak: Soak) -> int:
    """Ask until the end, and compare each answer; returns their number."""
    client = tritonclient.http.InferenceServerClient(
        soak.service.address, connection_timeout=TIMEOUT_S, network_timeout=TIMEOUT_S
    )
    return _ask(soak, tritonclient.http, client, "X-API-Key", {})


def ask_over_grpc(soak: Soak) -> int:
    """The same over gRPC."""
    client = tritonclient.grpc.InferenceServerClient(soak.grpc_address)
    return _ask(soak, tritonclient.grpc, client, "x-api-key", {"client_timeout": TIMEOUT_S})


def _ask(soak: Soak, module: Any, client: Any, header: str, options: dict[str, float]) -> int:
    name = module.__name__.rpartition(".")[2]
    draw = np.random.default_rng(0)
    best = module.InferRequestedOutput("scores", class_count=1)
    answered = 0
    while not soak.stop.wait(INTERVAL_S):
        number = int(draw.integers(len(soak.images)))
        tensor = module.InferInput("image", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([soak.images[number]], dtype=object))
        try:
            result = client.infer(
                SOAKED, [tensor], outputs=[best], headers={header: soak.key}, **options
            )
        except InferenceServerException as exc:
            soak.seen[f"OIP over {name}: {exc.status()}"] += 1
            if exc.status() not in FULL:
                soak.wrong.append(f"OIP over {name}: {exc}")
            time.sleep(INTERVAL_S)
            continue
        response = result.get_response()
        version = response["model_version"] if name == "http" else response.model_version
        score, _, label = result.as_numpy("scores")[0, 0].decode().split(":")
        soak.compare(int(version), number, label, float(score))
        soak.seen[f"OIP over {name}: answered"] += 1
        answered += 1
    client.close()
    return answered
