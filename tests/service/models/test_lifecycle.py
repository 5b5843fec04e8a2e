"""Loading, refusing and restarting models, and the shutdown, with real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bundles import make_torch_bundle
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, assert_ended, serving
from tests.service.images import coloured


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def flip_a_byte(bundle: Path) -> None:
    data = bytearray((bundle / "model.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.pt").write_bytes(data)


def remove_a_file(bundle: Path) -> None:
    (bundle / "model.pt").unlink()


def add_a_file(bundle: Path) -> None:
    (bundle / "extra.py").write_text("print('hello')")


def rename_in_manifest(new: str) -> Callable[[Path], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][new] = manifest["files"].pop("model.pt")
        manifest["artifacts"][0]["path"] = new

    return lambda bundle: edit_manifest(bundle, change)


def wrong_golden_answer(bundle: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["golden"]["samples"][0]["top"][0]["score"] -= 0.05

    edit_manifest(bundle, change)


def other_name(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update(name="another"))


def no_json(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("{")


DAMAGES = {
    "flipped": (flip_a_byte, "integrity_failed", "sha256"),
    "missing": (remove_a_file, "integrity_failed", "missing"),
    "extra": (add_a_file, "integrity_failed", "not listed"),
    "absolute": (rename_in_manifest("/etc/passwd"), "manifest_invalid", "relative"),
    "parent": (rename_in_manifest("../1/model.pt"), "manifest_invalid", ".."),
    "golden": (wrong_golden_answer, "golden_mismatch", "golden"),
    "renamed": (other_name, "manifest_invalid", "another"),
    "nojson": (no_json, "manifest_invalid", "JSON"),
}


def test_broken_bundles_are_refused_with_the_reason_and_the_rest_serves(
    torch_bundle_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(torch_bundle_root / "tiny-torch", tmp_path / "good")
    edit_manifest(tmp_path / "good" / "1", lambda manifest: manifest.update(name="good"))
    for name, (damage, _, _) in DAMAGES.items():
        bundle = tmp_path / name / "1"
        shutil.copytree(torch_bundle_root / "tiny-torch" / "1", bundle)
        if name not in ("renamed", "nojson"):
            edit_manifest(bundle, partial(dict.update, name=name))
        damage(bundle)

    with serving(models_dir=tmp_path, runtime_threads=1) as server:
        ready = server.client.get("/readyz").json()
        refused = {entry["name"]: entry for entry in ready["refused"]}
        assert set(refused) == set(DAMAGES)
        for name, (_, code, text) in DAMAGES.items():
            assert refused[name]["code"] == code, refused[name]
            assert text in refused[name]["reason"], refused[name]
        states = {
            model["name"]: model["state"] for model in server.client.get("/models").json()["models"]
        }
        assert states == {**dict.fromkeys(DAMAGES, "refused"), "good": "ready"}
        assert server.predict(coloured()).json()["model"]["name"] == "good"
        answer = server.predict(coloured(), model="flipped")
        assert_problem(answer, 503, "model_refused")
        assert "sha256" in answer.json()["detail"]


def test_where_every_model_is_refused_a_request_without_a_name_is_told_why(
    torch_bundle_root: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(torch_bundle_root / "tiny-torch" / "1", tmp_path / "tiny-torch" / "1")
    flip_a_byte(bundle)

    with serving(models_dir=tmp_path, ready=False) as server:
        server.wait(
            lambda: server.client.get("/models").json()["models"][0]["state"] == "refused",
            "refused",
            60,
        )
        answer = server.predict(coloured())
        not_ready = server.client.get("/readyz").json()

    assert_problem(answer, 503, "model_refused")
    assert "sha256" in answer.json()["detail"]
    assert "Every model is refused. tiny-torch/1: " in not_ready["detail"]


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


@contextmanager
def paused(server: Server) -> Iterator[int]:
    """The process of the only model, which hangs."""
    (pid,) = server.worker_pids().values()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_a_process_that_hangs_is_killed_and_replaced(torch_bundle_root: Path) -> None:
    with serving(models_dir=torch_bundle_root, inference_timeout_s=2) as server:
        with paused(server) as pid:
            assert_problem(server.predict(coloured()), 503, "model_unavailable")
            server.wait(lambda: [*server.worker_pids().values()] not in ([], [pid]), "restarted")
        server.wait_ready()
        assert server.predict(coloured()).status_code == 200


def test_images_that_wait_for_a_bundle_are_not_given_to_the_one_that_replaces_it(
    torch_bundle_root: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(torch_bundle_root, tmp_path / "models")
    other = make_torch_bundle(tmp_path / "other", labels=("red", "blue", "green"), size=24)
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
    torch_bundle_root: Path,
) -> None:
    with (
        serving(models_dir=torch_bundle_root, queue_size=3, max_batch=1) as server,
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
    torch_bundle_root: Path,
) -> None:
    with serving(models_dir=torch_bundle_root, queue_size=3) as server:

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


def ask_and_stay(server: Server, image: bytes | None = None) -> socket.socket:
    """A request whose response is not awaited."""
    connection = socket.create_connection(("127.0.0.1", server.port))
    image = coloured() if image is None else image
    head = f"host: x\r\ncontent-type: image/png\r\ncontent-length: {len(image)}\r\n\r\n"
    connection.sendall(f"POST /predict HTTP/1.1\r\n{head}".encode() + image)
    return connection


def test_shutdown_waits_for_requests_in_flight(torch_bundle_root: Path) -> None:
    with serving(models_dir=torch_bundle_root) as server, ThreadPoolExecutor(1) as pool:
        with paused(server):
            answer = pool.submit(server.predict, coloured())
            server.wait_in_flight(1)
            server.process.send_signal(signal.SIGTERM)
            server.wait_closed()

        assert answer.result().status_code == 200
        assert server.process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_loses_no_request_and_starts_no_other_process(
    torch_bundle_root: Path, number: signal.Signals
) -> None:
    with (
        serving(models_dir=torch_bundle_root, drain_delay_s=600) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        # Its decoders are running.
        server.predict(coloured())
        before = server.tree()
        with paused(server):
            in_flight = pool.submit(server.predict, coloured())
            server.wait_in_flight(2)
            os.killpg(server.process.pid, number)
            server.wait_logged("draining")
        later = server.predict(coloured(), top_k=1).status_code
        after = server.tree()

        assert (in_flight.result().status_code, later) == (200, 200)
        assert after == before
        # Ends the delay.
        server.process.send_signal(number)
        assert server.process.wait(60) == 0
        assert_ended(before)
        assert "starting another" not in server.log()


def test_a_signal_to_the_whole_group_while_models_load_is_no_death_of_their_processes(
    both_root: Path,
) -> None:
    with serving(models_dir=both_root, ready=False, drain_delay_s=600) as server:
        server.wait(lambda: len(server.worker_pids()) == 2, "loading", 60)
        before = server.worker_pids()
        os.killpg(server.process.pid, signal.SIGTERM)
        for name in ("tiny-torch", "tiny-keras"):
            server.wait_logged(f"model {name}/1 is ready")

        assert server.worker_pids() == before
        # Ends the delay.
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert "WARNING" not in server.log()


def test_shutdown_while_models_load_leaves_no_process(both_root: Path) -> None:
    with serving(models_dir=both_root, ready=False) as server:
        server.wait(lambda: len(server.worker_pids()) == 2, "loading", 60)

        assert server.stop() == 0


def test_the_newest_version_answers_unless_another_is_named(
    torch_bundle_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(torch_bundle_root, tmp_path, dirs_exist_ok=True)
    shutil.copytree(tmp_path / "tiny-torch" / "1", tmp_path / "tiny-torch" / "10")
    edit_manifest(tmp_path / "tiny-torch" / "10", lambda manifest: manifest.update(version=10))
    # Its manifest says 1.
    shutil.copytree(tmp_path / "tiny-torch" / "1", tmp_path / "tiny-torch" / "11")
    with serving(models_dir=tmp_path, runtime_threads=1) as server:
        versions = {
            version: server.predict(coloured(), **({"version": version} if version else {})).json()
            for version in (None, 1, 10, 11)
        }

    assert [versions[version]["model"]["version"] for version in (None, 1, 10)] == [10, 1, 10]
    assert versions[11]["code"] == "model_refused"


def test_shutdown_finishes_what_it_has_and_leaves_no_process(torch_bundle_root: Path) -> None:
    with serving(models_dir=torch_bundle_root, drain_delay_s=600) as server:
        server.process.send_signal(signal.SIGTERM)
        server.wait(lambda: server.client.get("/readyz").status_code == 503, "draining", 60)
        assert_problem(server.client.get("/readyz"), 503, "draining")
        still_served = server.predict(coloured()).status_code
        processes = server.tree()
        # Ends the delay.
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(60)

    assert still_served == 200
    assert code == 0
    assert_ended(processes)


def test_the_drain_delay_ends_by_itself(tmp_path: Path) -> None:
    with serving(models_dir=tmp_path, ready=False, drain_delay_s=0.1) as server:
        server.wait(lambda: server.client.get("/healthz").status_code == 200, "alive")
        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(60) == 0
        assert "draining" in server.log()


def test_a_second_signal_ends_the_delay_and_no_request(torch_bundle_root: Path) -> None:
    delay_s = 4
    with (
        serving(models_dir=torch_bundle_root, drain_delay_s=delay_s) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        with paused(server):
            in_flight = pool.submit(server.predict, coloured())
            server.wait_in_flight(1)
            server.process.send_signal(signal.SIGINT)
            server.wait_logged("draining")
            server.process.send_signal(signal.SIGINT)
            server.wait_closed()
            # The end of the delay, which must not count as a third signal, is no event to wait for.
            time.sleep(delay_s)

        assert in_flight.result().status_code == 200
        assert server.process.wait(60) == 0


@pytest.mark.parametrize(
    ("drain_timeout_s", "numbers"),
    [(1, [signal.SIGTERM]), (600, [signal.SIGINT, signal.SIGINT])],
    ids=["timeout", "second signal"],
)
def test_requests_that_are_dropped_at_the_end_are_told_so(
    torch_bundle_root: Path, drain_timeout_s: int, numbers: list[signal.Signals]
) -> None:
    with (
        serving(models_dir=torch_bundle_root, drain_timeout_s=drain_timeout_s) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        processes = server.tree()
        with paused(server), socket.create_connection(("127.0.0.1", server.port)) as reads_nothing:
            large = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n"
            reads_nothing.sendall(large * 20)
            in_flight = pool.submit(server.predict, coloured())
            server.wait_in_flight(1)
            server.process.send_signal(numbers[0])
            for number in numbers[1:]:
                server.wait_closed()
                server.process.send_signal(number)
            assert_problem(in_flight.result(), 503, "draining")
            assert server.process.wait(60) == 0
        assert_ended(processes)
        assert "Traceback" not in server.log()
        assert "POST /predict 503" in server.log()


def test_a_killed_service_leaves_no_process(torch_bundle_root: Path) -> None:
    with serving(models_dir=torch_bundle_root) as server:
        processes = server.tree()[1:]
        server.process.kill()
        server.process.wait()

        assert_ended(processes)


def test_an_unknown_default_model_keeps_the_service_unready(torch_bundle_root: Path) -> None:
    with serving(models_dir=torch_bundle_root, default_model="resnet50", ready=False) as server:
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
        assert server.client.get("/models").json() == {"default": None, "models": []}
        assert server.predict(coloured()).json()["code"] == "unknown_model"
