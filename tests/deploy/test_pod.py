"""The service with the environment of the manifest's pod, asked as the kubelet asks."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import yaml

from deploy.manifests import FOLDER
from service.settings import PREFIX
from tests.deploy.rendered import environment
from tests.service.conftest import free_port, serving
from tests.service.images import coloured

# What a test on one machine has to set itself.
OWN = {"HOST", "PORT", "MODELS_DIR", "ADMIN_HOST", "ADMIN_PORT"}


def test_the_probes_mean_what_they_are_used_for(quick_root: Path) -> None:
    manifest = yaml.safe_load((FOLDER / "service-deployment.yaml").read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    settings = {
        name.removeprefix(PREFIX): value
        for name, value in environment(container).items()
        if name.startswith(PREFIX)
    }
    path = {
        name: container[f"{name}Probe"]["httpGet"]["path"]
        for name in ("startup", "liveness", "readiness")
    }
    assert settings.keys() >= {"DRAIN_DELAY_S", "DRAIN_TIMEOUT_S", *OWN}
    given: dict[str, Any] = {
        name.lower(): value for name, value in settings.items() if name not in OWN
    }

    with serving(
        models_dir=quick_root, runtime_threads=1, admin_port=free_port(), **given
    ) as server:

        def status(probe: str) -> int:
            return server.client.get(path[probe]).status_code

        assert [status(probe) for probe in path] == [200, 200, 200]

        server.process.send_signal(signal.SIGTERM)
        server.wait(lambda: status("readiness") == 503, "draining")
        # Not ready, so without new clients; alive, so not killed; and who still comes is answered.
        assert [status("startup"), status("liveness")] == [200, 200]
        assert server.predict(coloured()).status_code == 200

        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


def test_a_pod_without_models_is_alive_and_not_ready(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()

    with serving(models_dir=tmp_path / "models", ready=False) as server:
        server.wait(lambda: server.client.get("/healthz").status_code == 200, "alive")
        assert server.client.get("/readyz").status_code == 503
