"""How the processes of a real service are confined, as the kernel and the service say."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from bundle.sandbox import IN_FORCE, MEASURES
from tests.service.conftest import Server, serving

FIELDS = {"no_new_privileges": ("NoNewPrivs", "1"), "network": ("Seccomp", "2")}


def children(server: Server) -> list[psutil.Process]:
    """The processes of models and decoders."""
    modules = {"bundle.worker", "service.decoding"}
    return [process for process in server.tree() if modules & set(process.cmdline())]


def status(process: psutil.Process) -> dict[str, str]:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("model", ["tiny-torch", "tiny-keras"])
def test_a_model_says_what_confines_it_and_the_kernel_agrees(server: Server, model: str) -> None:
    report = server.client.get(f"/models/{model}").json()["isolation"]
    metrics = server.client.get("/metrics").text

    assert set(report) == set(MEASURES)
    for measure, how in report.items():
        assert how == IN_FORCE or how.startswith("not in force: ")
        labels = f'{{measure="{measure}",model="{model}",version="1"}}'
        assert f"resnet_model_isolation{labels} {float(how == IN_FORCE)}" in metrics
    for process in children(server):
        for measure, (field, value) in FIELDS.items():
            assert (status(process)[field] == value) is (report[measure] == IN_FORCE)
        if report["memory"] == IN_FORCE and "bundle.worker" in process.cmdline():
            assert process.rlimit(psutil.RLIMIT_DATA)[0] == 8192 * 2**20


def test_the_start_says_it_once(server: Server) -> None:
    lines = [line for line in server.log().splitlines() if "models and decoders are" in line]

    assert len(lines) == 1
    assert "are confined" in lines[0]


def test_processes_do_not_get_the_secrets_of_the_service_and_off_confines_nothing(
    quick_root: Path,
) -> None:
    key = "a key of the operators"
    with serving(models_dir=quick_root, sandbox="off", admin_key=key) as server:
        server.wait_logged("models and decoders are not confined: SERVICE_SANDBOX is off")
        record = server.client.get("/models/tiny-torch").json()
        found = children(server)

        assert record["isolation"] == {}
        assert len(found) == 2
        for process in found:
            assert (status(process)["Seccomp"], status(process)["NoNewPrivs"]) == ("0", "0")
            assert not [name for name in process.environ() if name.startswith("SERVICE_")]
            assert key not in json.dumps(process.cmdline())


def test_temporary_files_of_a_process_are_deleted_with_it(
    quick_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    with serving(models_dir=quick_root):
        (folder,) = tmp_path.glob("resnet-service-*")

    assert not folder.exists()
