"""Loading and restarting models, with real processes."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.bundles import make_quick_bundle
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, serving
from tests.service.images import coloured
from tests.service.models.disturb import ask_and_stay, edit_manifest, paused


def test_no_request_is_lost_when_a_model_process_is_killed(server: Server) -> None:
    before = server.worker_pids()
    torch_worker = next(key for key in before if "tiny-torch" in key)
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=120) as client:
            while not stop.is_set():
                statuses.append(client.post("/predict", files={"file": coloured()}).status_code)

    with ThreadPoolExecutor(4) as pool:
        askers = [pool.submit(ask) for _ in range(4)]
        try:
            server.wait(lambda: len(statuses) > 4, "answering", 60)
            os.kill(before[torch_worker], signal.SIGKILL)
            server.wait(
                lambda: server.worker_pids().get(torch_worker, 0) not in (0, before[torch_worker]),
                "restarted",
            )
            server.wait_ready()
            answered = len(statuses)
            server.wait(lambda: len(statuses) > answered + 4, "answering", 60)
        finally:
            # Before the pool waits for them.
            stop.set()
        for asker in askers:
            asker.result()

    after = server.worker_pids()
    assert set(statuses) == {200}
    assert {key for key in before if after[key] != before[key]} == {torch_worker}


def test_a_process_that_dies_idle_is_replaced(server: Server) -> None:
    before = server.worker_pids()
    torch_worker = next(key for key in before if "tiny-torch" in key)

    os.kill(before[torch_worker], signal.SIGKILL)
    server.wait(
        lambda: server.worker_pids().get(torch_worker, 0) not in (0, before[torch_worker]),
        "restarted",
    )
    server.wait_ready()

    assert server.predict(coloured(), model="tiny-torch").status_code == 200


def test_a_process_that_hangs_is_killed_and_replaced(torch_bundle_root: Path) -> None:
    # In PyTorch, which starts too late for the image; the next process in OpenVINO would answer it.
    with serving(models_dir=torch_bundle_root, inference_timeout_s=2) as server:
        with paused(server) as pid:
            assert_problem(server.predict(coloured()), 503, "model_unavailable")
            server.wait(lambda: [*server.worker_pids().values()] not in ([], [pid]), "restarted")
        server.wait_ready()
        assert server.predict(coloured()).status_code == 200


def test_images_that_wait_for_a_bundle_are_not_given_to_the_one_that_replaces_it(
    quick_root: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(quick_root, tmp_path / "models")
    other = make_quick_bundle(tmp_path / "other", labels=("red", "blue", "green"), size=24)
    with serving(models_dir=root, max_batch=4) as server, ThreadPoolExecutor(12) as pool:
        server.predict(coloured())
        with paused(server) as pid:
            waiting = [pool.submit(server.predict, coloured()) for _ in range(11)]
            # The first one's batch runs, a full one is prefetched.
            server.wait(lambda: server.metric("resnet_batch_images_count") == 3, "in flight", 60)
            shutil.rmtree(root / "tiny-torch" / "1")
            shutil.copytree(other, root / "tiny-torch" / "1")
            os.kill(pid, signal.SIGKILL)
        for answer in waiting:
            assert_problem(answer.result(), 503, "model_unavailable")
            assert "replaced" in answer.result().json()["detail"]
        server.wait(
            lambda: server.client.get("/models/tiny-torch").json()["input"]["height"] == 24,
            "replaced",
        )
        now = server.predict(coloured())

    assert now.json()["predictions"][0]["label"] == "red"


def test_a_full_queue_refuses_at_once_and_clients_that_leave_make_room(
    quick_root: Path,
) -> None:
    with (
        serving(models_dir=quick_root, queue_size=3, max_batch=1) as server,
        ThreadPoolExecutor(4) as pool,
    ):
        with paused(server):
            first = pool.submit(server.predict, coloured())
            server.wait_in_flight(1)
            # Three more may wait, the first of them prefetched by the process.
            leaving = [ask_and_stay(server) for _ in range(3)]
            server.wait_queued(3)
            refused = server.predict(coloured())
            for connection in leaving:
                connection.close()
            server.wait_queued(0)
            later = [pool.submit(server.predict, coloured()) for _ in range(2)]
            server.wait_queued(2)

        assert_problem(refused, 429, "queue_full")
        assert [first.result().status_code, *(answer.result().status_code for answer in later)] == [
            200
        ] * 3


def test_a_batch_that_could_never_wait_in_whole_is_refused_for_good(
    quick_root: Path,
) -> None:
    with serving(models_dir=quick_root, queue_size=3) as server:

        def ask(count: int) -> httpx.Response:
            files = [("files", (f"{number}.png", coloured())) for number in range(count)]
            return server.client.post("/predict/batch", files=files)

        assert ask(3).status_code == 200
        refused = ask(4)
        assert_problem(refused, 400, "malformed_request")
        assert "at most 3" in refused.json()["detail"]
        paths = server.client.get("/openapi.json").json()["paths"]
        form = paths["/predict/batch"]["post"]["requestBody"]["content"]["multipart/form-data"][
            "schema"
        ]
        assert form["properties"]["files"]["maxItems"] == 3


def test_the_newest_version_answers_unless_another_is_named(
    quick_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(quick_root, tmp_path, dirs_exist_ok=True)
    shutil.copytree(tmp_path / "tiny-torch" / "1", tmp_path / "tiny-torch" / "10")
    edit_manifest(tmp_path / "tiny-torch" / "10", lambda manifest: manifest.update(version=10))
    # Its manifest says 1.
    shutil.copytree(tmp_path / "tiny-torch" / "1", tmp_path / "tiny-torch" / "11")
    with serving(models_dir=tmp_path, runtime_threads=1, versions="all") as server:
        versions = {
            version: server.predict(coloured(), **({"version": version} if version else {})).json()
            for version in (None, 1, 10, 11)
        }

    assert [versions[version]["model"]["version"] for version in (None, 1, 10)] == [10, 1, 10]
    assert versions[11]["code"] == "model_refused"


def test_an_unknown_default_model_keeps_the_service_unready(quick_root: Path) -> None:
    with serving(models_dir=quick_root, default_model="resnet50", ready=False) as server:
        server.wait(lambda: "does not exist" in server.client.get("/readyz").text, "not ready")
        answer = server.client.get("/readyz")

        assert_problem(answer, 503, "not_ready")
        assert "tiny-torch" in answer.json()["detail"]
        assert server.predict(coloured(), model="tiny-torch").status_code == 200


def test_an_empty_repository_starts_and_says_what_is_missing(tmp_path: Path) -> None:
    with serving(models_dir=tmp_path, ready=False) as server:
        server.wait(lambda: server.client.get("/healthz").status_code == 200, "alive")
        answer = server.client.get("/readyz")

        assert_problem(answer, 503, "not_ready")
        assert "manifest.json" in answer.json()["detail"]
        listed = server.client.get("/models").json()
        assert (listed["default"], listed["models"]) == (None, [])
        assert server.predict(coloured()).json()["code"] == "unknown_model"
