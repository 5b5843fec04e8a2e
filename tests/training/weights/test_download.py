from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from tests.training.weights.weights_server import WeightsServer, serve_weights
from training.errors import ConfigError, StorageError, WeightsError
from training.weights.download import download, silence_limit

CONTENT = np.random.default_rng(0).bytes(200_000)
NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


@pytest.fixture
def server() -> Iterator[WeightsServer]:
    with serve_weights(CONTENT) as server:
        yield server


def test_a_file_is_fetched_once(server: WeightsServer, tmp_path: Path) -> None:
    paths = [download(server.url + NAME, tmp_path / "cache") for _ in range(2)]

    assert paths[0] == paths[1]
    assert paths[0].read_bytes() == CONTENT
    assert server.ranges == [None]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [NAME]


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_download_that_is_cut_is_an_error_and_goes_on_later(
    knows_ranges: bool, server: WeightsServer, tmp_path: Path
) -> None:
    server.knows_ranges = knows_ranges
    server.cut = [70_000]

    with pytest.raises(WeightsError, match=r"70,000 of 200,000 bytes.*goes on"):
        download(server.url + NAME, tmp_path)

    assert not (tmp_path / NAME).exists(), "no half file under the name of a whole one"
    assert download(server.url + NAME, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=70000-"]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_part_that_is_already_the_whole_is_taken(server: WeightsServer, tmp_path: Path) -> None:
    (tmp_path / f".{NAME}.part").write_bytes(CONTENT)

    assert download(server.url + NAME, tmp_path).read_bytes() == CONTENT


def test_a_wrong_hash_is_refused_and_nothing_stays(server: WeightsServer, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"!"

    with pytest.raises(WeightsError, match=rf"starts with {NAME[4:12]}\. Received: [0-9a-f]{{64}}"):
        download(server.url + NAME, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_fetched_again(
    server: WeightsServer, tmp_path: Path
) -> None:
    (tmp_path / NAME).write_bytes(CONTENT[:1000])

    assert download(server.url + NAME, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["http://127.0.0.1/net.pth", "file:///net-01234567.pth"])
def test_what_cannot_be_checked_is_not_fetched(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sha256"):
        download(url, tmp_path)


def test_no_connection_and_no_folder_are_errors_of_ours(tmp_path: Path) -> None:
    with serve_weights(CONTENT) as server:
        url = server.url + NAME

    with pytest.raises(WeightsError, match="The download failed"):
        download(url, tmp_path)

    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="can't be written"):
        download(url, tmp_path / "file")


def test_a_server_that_says_nothing_is_not_waited_for_by_the_downloads_of_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, silence_limit(0.1):
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(TimeoutError):  # an OSError, as a connection that is refused
            urlopen(url)

    assert socket.getdefaulttimeout() is None
