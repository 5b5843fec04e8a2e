from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.peers.registry import FOLDER, PEERS, Peer, pinned, top5

ROOT = Path(__file__).resolve().parents[2]
# What does the work; with another version it would be another measurement.
SHARED = ("torch", "numpy", "pillow")
SHARED_BY_IR = ("openvino", "simplejpeg")

every_peer = pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS.keys())


@every_peer
def test_every_peer_has_its_files(peer: Peer) -> None:
    for name in ("server.py", "requirements.in", "requirements.txt"):
        assert (peer.folder / name).is_file()


def test_every_folder_with_a_server_is_a_peer() -> None:
    assert {path.parent.name for path in FOLDER.glob("*/server.py")} == set(PEERS)


@every_peer
def test_a_peer_computes_with_the_versions_of_the_project(peer: Peer) -> None:
    project = ROOT / "requirements.lock"
    shared = SHARED + SHARED_BY_IR * peer.runs_ir

    assert {name: pinned(peer.lock, name) for name in shared} == {
        name: pinned(project, name) for name in shared
    }


@every_peer
def test_the_version_comes_from_the_lock(peer: Peer) -> None:
    assert re.fullmatch(r"\d+(\.\d+)+", peer.version)


@every_peer
def test_the_lock_names_no_index_and_no_folder(peer: Peer) -> None:
    text = peer.lock.read_text()

    assert "://" not in text
    assert str(ROOT) not in text


@every_peer
def test_the_command_names_the_port_and_the_files(peer: Peer, tmp_path: Path) -> None:
    command = peer.command(8123, tmp_path / "model.pt", tmp_path / "labels.json", threads=2)

    assert Path(command[0]) == peer.folder / "server.py"
    assert {
        "--port=8123",
        f"--model={tmp_path / 'model.pt'}",
        f"--labels={tmp_path / 'labels.json'}",
    } <= {*command}


@pytest.mark.parametrize(
    ("workers", "each"), [(None, 1), (1, 4), (2, 2)], ids=["default", "one", "two"]
)
def test_the_workers_share_the_threads(workers: int | None, each: int) -> None:
    command = PEERS["mosec"].command(
        8123, Path("model.pt"), Path("labels.json"), threads=4, workers=workers
    )

    assert {f"--workers={workers or 4}", f"--threads={each}"} <= {*command}


@every_peer
def test_the_request_has_the_image(peer: Peer) -> None:
    headers, body = peer.request(b"\xff\xd8 image")

    assert b"\xff\xd8 image" in body
    assert headers["Content-Type"].startswith("multipart/" if peer.form_field else "image/")


@pytest.mark.parametrize(
    "body",
    [b'[{"label": "cat", "score": 1}]', b'[[{"label": "cat", "score": 1}]]'],
    ids=["labels", "a batch of one"],
)
def test_a_response_is_parsed_alone_and_as_a_batch_of_one(body: bytes) -> None:
    assert top5(body) == [{"label": "cat", "score": 1}]


def test_a_package_that_the_lock_lacks_is_an_error(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text("torch==1.0\ntorchvision==2.0\n")

    with pytest.raises(ValueError, match="Expected vision"):
        pinned(lock, "vision")
