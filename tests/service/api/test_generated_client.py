"""A client that `openapi-python-client` generates from the description calls the service."""

from __future__ import annotations

import base64
import importlib
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.service.conftest import Server
from tests.service.images import coloured

PACKAGE = "generated_client"


@pytest.fixture(scope="module")
def generated(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Any]]:
    """Imports a module of the client by its name; any warning of the generator fails it."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_bytes(server.client.get("/openapi.json").content)
    (folder / "config.yml").write_text("post_hooks: []\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"]
    paths = ["--path", "openapi.json", "--config", "config.yml", "--output-path", PACKAGE]
    done = subprocess.run(
        [*command, *paths, "--meta", "none"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"{PACKAGE}.{name}")
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def client(server: Server, generated: Callable[[str], Any]) -> Iterator[Any]:
    opened = generated("client").Client(base_url=server.url, raise_on_unexpected_status=True)
    with opened as client:
        yield client


@pytest.mark.parametrize("way", ["form", "raw", "JSON"])
def test_it_classifies_an_image(generated: Callable[[str], Any], client: Any, way: str) -> None:
    models, file_type = generated("models"), generated("types").File
    photo = coloured("green")
    body = {
        "form": lambda: models.PredictFilesBody(file=file_type(io.BytesIO(photo), "photo.png")),
        "raw": lambda: file_type(io.BytesIO(photo)),
        "JSON": lambda: models.PredictJsonBody(image=base64.b64encode(photo).decode()),
    }[way]()

    found = generated("api.predict.predict").sync(
        client=client, body=body, model="tiny-keras", top_k=2
    )

    assert found.predictions[0].label == "green"
    assert len(found.predictions) == 2
    assert found.model.name == "tiny-keras"
    assert found.image.width == 48


def test_it_classifies_a_batch_of_which_one_image_is_bad(
    generated: Callable[[str], Any], client: Any
) -> None:
    models, file_type = generated("models"), generated("types").File
    files = [file_type(io.BytesIO(data), "a.png") for data in (coloured("red"), b"text")]

    found = generated("api.predict.predict_batch").sync(
        client=client, body=models.PredictBatchBody(files=files)
    )

    assert found.results[0].predictions[0].label == "red"
    assert found.results[1].error.code == "unsupported_image_type"


def test_it_reads_problems(generated: Callable[[str], Any], client: Any) -> None:
    body = generated("types").File(io.BytesIO(coloured()))

    answer = generated("api.predict.predict").sync_detailed(
        client=client, body=body, model="nobody"
    )

    assert answer.status_code == 404
    assert answer.parsed.code == "unknown_model"


def test_it_reads_models_health_and_metrics(generated: Callable[[str], Any], client: Any) -> None:
    def sync(name: str, *arguments: str) -> Any:
        return generated(f"api.{name}").sync(*arguments, client=client)

    assert sync("models.models").default == "tiny-torch"
    assert sync("models.model_record", "tiny-torch").labels == ["blue", "green", "red"]
    assert sync("health.healthz").status == "alive"
    assert {model.name for model in sync("health.readyz").models} == {"tiny-torch", "tiny-keras"}
    assert "http_requests_total" in sync("health.metrics")
