"""Versions that change while a real service answers."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bundles import make_quick_bundle
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, serving
from tests.service.images import coloured
from tests.service.models.disturb import edit_manifest
from tests.service.repository.test_refusals import flip_a_byte

# By version: the index of the best class says which one answered.
LABELS = {1: ("red", "green", "blue"), 2: ("blue", "red", "green"), 3: ("green", "blue", "red")}


class Store:
    """Bundles of each version, and a repository in which they appear."""

    def __init__(self, made: dict[int, Path], root: Path) -> None:
        self._made = made
        self.root = root

    def put(self, version: int, *, broken: bool = False) -> None:
        """A version appears in the repository, whole, as `BundleWriter` and `mv` let it."""
        copy = shutil.copytree(self._made[version], self.root / ".copy")
        if broken:
            flip_a_byte(copy)
        (self.root / "tiny-torch").mkdir(exist_ok=True)
        copy.rename(self.root / "tiny-torch" / str(version))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    found = {}
    for version, labels in LABELS.items():
        found[version] = make_quick_bundle(tmp_path_factory.mktemp("made"), labels=labels)
        edit_manifest(found[version], partial(dict.update, version=version))
    return found


@pytest.fixture
def store(made: dict[int, Path], tmp_path: Path) -> Store:
    return Store(made, tmp_path)


@contextmanager
def asking(server: Server) -> Iterator[list[tuple[int, int | None, int | None]]]:
    """Clients that ask all the time; the status, version and best index of each answer."""
    answers: list[tuple[int, int | None, int | None]] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=120) as client:
            while not stop.is_set():
                found = client.post("/predict", files={"file": coloured()})
                body = found.json() if found.status_code == 200 else {"model": {}}
                best = body.get("predictions", [{}])[0].get("index")
                answers.append((found.status_code, body["model"].get("version"), best))

    with ThreadPoolExecutor(4) as pool:
        askers = [pool.submit(ask) for _ in range(4)]
        try:
            yield answers
        finally:
            stop.set()
        for asker in askers:
            asker.result()


def states(server: Server) -> dict[int, str]:
    models = server.client.get("/models").json()["models"]
    return {model["version"]: model["state"] for model in models}


def test_versions_change_under_load_without_a_failed_or_wrong_answer(store: Store) -> None:
    store.put(1)
    with serving(models_dir=store.root, watch_s=0.1, runtime_threads=1) as server:
        old = set(server.worker_pids().values())
        best = server.predict(coloured()).json()["predictions"][0]["label"]
        with asking(server) as answers:
            server.wait(lambda: len(answers) > 20, "answering", 60)
            store.put(2)
            server.wait(lambda: states(server) == {2: "ready"}, "replaced", 60)
            store.put(3, broken=True)
            server.wait(lambda: states(server).get(3) == "refused", "refused", 60)
            count = len(answers)
            server.wait(lambda: len(answers) > count + 20, "answering", 60)
        server.wait(lambda: not old & set(server.worker_pids().values()), "ended", 60)
        assert len(server.worker_pids()) == 1
        assert server.client.get("/readyz").status_code == 200

    assert set(answers) == {(200, version, LABELS[version].index(best)) for version in (1, 2)}


def test_a_signal_asks_for_a_look_and_a_repaired_bundle_is_loaded(store: Store) -> None:
    store.put(1, broken=True)
    with serving(models_dir=store.root, watch_s=0, ready=False, runtime_threads=1) as server:
        server.wait(lambda: states(server) == {1: "refused"}, "refused", 60)
        shutil.rmtree(store.root / "tiny-torch" / "1")
        store.put(1)
        assert states(server) == {1: "refused"}

        server.process.send_signal(signal.SIGHUP)
        server.wait_ready()
        assert server.predict(coloured()).status_code == 200


def test_versions_that_are_loaded_together_answer_by_their_number(store: Store) -> None:
    for version in LABELS:
        store.put(version)
    with serving(models_dir=store.root, versions="latest:2", runtime_threads=1) as server:
        found = [server.predict(coloured(), version=version).json() for version in (2, 3)]
        newest = server.predict(coloured()).json()
        oldest = server.predict(coloured(), version=1)

    assert [each["model"]["version"] for each in [*found, newest]] == [2, 3, 3]
    assert_problem(oldest, 404, "unknown_version")
    assert "SERVICE_VERSIONS" in oldest.json()["detail"]


def test_a_session_keeps_its_version_while_a_canary_has_a_share(store: Store) -> None:
    for version in (1, 2):
        store.put(version)
    (store.root / "serving.toml").write_text(
        "[tiny-torch.traffic]\nstable = 1\ncanary = 2\ncanary_share = 0.5\n"
    )
    with serving(models_dir=store.root, runtime_threads=1) as server:

        def answered(session: str | None = None, **query: Any) -> int:
            headers = {} if session is None else {"X-Session-Id": session}
            found = server.client.post(
                "/predict", params=query, headers=headers, files={"file": coloured()}
            )
            return int(found.json()["model"]["version"])

        sessions = [str(number) for number in range(20)]
        first = [answered(session) for session in sessions]
        again = [answered(session) for session in sessions]
        named = [answered(version=name) for name in ("stable", "canary", 1)]
        listed = server.client.get("/models").json()["traffic"]
        wrong = server.predict(coloured(), version="beta")

    assert first == again
    assert set(first) == {1, 2}
    assert named == [1, 2, 1]
    assert listed == {"tiny-torch": {"stable": 1, "canary": 2, "canary_share": 0.5}}
    assert_problem(wrong, 422, "invalid_parameter")
