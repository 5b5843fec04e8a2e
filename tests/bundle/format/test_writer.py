from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bundle.errors import ManifestInvalid
from bundle.format.manifest import read_manifest
from bundle.format.repository import default_model, list_bundles, verify_files
from bundle.format.writer import BundleWriter
from tests.bundles import manifest_fields
from tests.tiny_networks import LABELS

GOLDEN = [{"file": "golden.png", "top": [{"index": 0, "label": "blue", "score": 0.5}]}]
FIELDS = manifest_fields("torch", LABELS, 32, GOLDEN)


def fill(writer: BundleWriter) -> None:
    (writer.directory / "model.pt").write_bytes(b"model")
    (writer.directory / "golden.png").write_bytes(b"image")


def stop_midway(writer: BundleWriter) -> None:
    fill(writer)
    raise RuntimeError("stop")


def write(root: Path, fields: dict[str, Any] = FIELDS, version: int | None = None) -> Path:
    with BundleWriter(root, "tiny", version) as writer:
        fill(writer)
        return writer.commit(fields)


def test_versions_count_up_and_each_bundle_verifies(tmp_path: Path) -> None:
    paths = [write(tmp_path), write(tmp_path), write(tmp_path, version=7), write(tmp_path)]

    assert [path.name for path in paths] == ["1", "2", "7", "8"]
    for path in paths:
        manifest = read_manifest(path)
        verify_files(path, manifest)
        assert (manifest.name, str(manifest.version)) == ("tiny", path.name)


def test_the_first_model_of_a_repository_is_its_default(tmp_path: Path) -> None:
    write(tmp_path)
    with BundleWriter(tmp_path, "a-later-one") as writer:
        fill(writer)
        writer.commit(FIELDS)

    assert default_model(tmp_path) == "tiny"


def test_a_manifest_object_can_be_written_again(tmp_path: Path) -> None:
    first = read_manifest(write(tmp_path))

    with BundleWriter(tmp_path, "tiny") as writer:
        fill(writer)
        second = read_manifest(writer.commit(first))

    assert second == first.model_copy(update={"version": 2, "created": second.created})
    assert first.created < second.created <= datetime.now(UTC)


def test_nothing_remains_after_an_exception_or_wrong_fields(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), BundleWriter(tmp_path, "tiny") as writer:
        stop_midway(writer)
    with pytest.raises(ManifestInvalid, match="labels"):
        write(tmp_path, {key: value for key, value in FIELDS.items() if key != "labels"})
    with pytest.raises(ManifestInvalid, match="JSON"):
        write(tmp_path, FIELDS | {"description": float("nan")})

    assert list((tmp_path / "tiny").iterdir()) == []


def test_an_existing_version_is_never_overwritten(tmp_path: Path) -> None:
    write(tmp_path, version=1)
    with pytest.raises(FileExistsError):
        write(tmp_path, version=1)

    with BundleWriter(tmp_path, "tiny", 2) as late:
        fill(late)
        write(tmp_path, version=2)
        with pytest.raises(FileExistsError):
            late.commit(FIELDS)


def test_two_writers_at_once_get_two_versions(tmp_path: Path) -> None:
    with BundleWriter(tmp_path, "tiny") as first, BundleWriter(tmp_path, "tiny") as second:
        fill(first)
        fill(second)
        assert {first.commit(FIELDS).name, second.commit(FIELDS).name} == {"1", "2"}


def test_a_killed_writer_leaves_nothing_visible_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys; from bundle.format.writer import BundleWriter\n"
        "with BundleWriter(pathlib.Path(sys.argv[1]), 'tiny') as writer:\n"
        "    (writer.directory / 'model.pt').write_bytes(b'half')\n"
        "    print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with BundleWriter(tmp_path, "tiny"):
            assert len(list((tmp_path / "tiny").iterdir())) == 2  # a living writer keeps its folder
        process.send_signal(signal.SIGKILL)
    assert list_bundles(tmp_path) == []

    write(tmp_path)

    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["1"]


@pytest.mark.parametrize("name", ["", "../tiny", "Tiny", "a/b", "-a", "a" * 65])
def test_a_wrong_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ManifestInvalid):
        BundleWriter(tmp_path, name)
