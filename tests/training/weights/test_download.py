from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from tests.training.conftest import WarmOf
from tests.training.weights.weights_server import serve_weights
from training.errors import ConfigError, StorageError, WeightsError
from training.weights.download import download, read_timeout

CONTENT = np.random.default_rng(0).bytes(200_000)
NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
DOWNLOAD = """
import sys
from pathlib import Path
from training.errors import WeightsError
from training.{framework}.weights import fetch
from training.weights.download import download
try:
    print("\\npath:", download(sys.argv[1], Path(sys.argv[2]), fetch))
except WeightsError as exc:
    print("\\nerror:", exc)  # after the progress bar of Keras, which ends no line
"""


def copy(_: str, path: Path) -> None:
    path.write_bytes(CONTENT)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_the_frameworks_download_a_file_once_and_keep_it_only_if_it_is_whole(
    framework: str, warm: WarmOf, tmp_path: Path
) -> None:
    def outcome() -> str:
        code = DOWNLOAD.format(framework=framework)
        done = warm(framework).start(code, url, tmp_path / "cache", no_proxy="127.0.0.1").end()
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    with serve_weights(CONTENT) as server:
        url = server.url + NAME
        server.cut = [70_000]
        cut, left = outcome(), list((tmp_path / "cache").iterdir())
        whole, again = outcome(), outcome()
        requests = server.requests
    (tmp_path / "cache" / NAME).write_bytes(CONTENT[:1000])
    unreachable = outcome()

    assert cut.startswith("error: ")
    assert left == [], "no part of a file"
    assert whole == again == f"path: {tmp_path / 'cache' / NAME}"
    assert requests == 2
    assert unreachable.startswith("error: The weights can't be downloaded (")
    assert url in unreachable


def test_a_wrong_hash_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    def fetch(_: str, path: Path) -> None:
        path.write_bytes(CONTENT[:-1] + b"!")

    with pytest.raises(WeightsError, match=rf"starts with {NAME[4:12]}\. Received: [0-9a-f]{{64}}"):
        download(f"https://example.com/{NAME}", tmp_path, fetch)

    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT[:1000])

    path = download(f"https://example.com/{NAME}", tmp_path, copy)

    assert path.read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("url", ["http://127.0.0.1/net.pth", "file:///net-01234567.pth"])
def test_what_cannot_be_checked_is_not_downloaded(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sha256"):
        download(url, tmp_path, copy)


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match="can't be written"):
        download(f"https://example.com/{NAME}", tmp_path / "file", copy)


def test_a_silent_server_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, read_timeout(0.1):
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(TimeoutError):
            urlopen(url)

    assert socket.getdefaulttimeout() is None
