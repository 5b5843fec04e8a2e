from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.errors import IntegrityFailed
from bundle.format.manifest import MANIFEST_FILE, read_manifest
from bundle.format.repository import list_bundles, list_ignored, verify_files


@pytest.fixture
def bundle(torch_bundle_root: Path, tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(torch_bundle_root / "tiny-torch" / "1", tmp_path / "tiny-torch" / "1")
    )


def flip_one_byte(bundle: Path) -> None:
    data = bytearray((bundle / "model.pt").read_bytes())
    data[100] ^= 1
    (bundle / "model.pt").write_bytes(data)


def link_to_outside(bundle: Path) -> None:
    outside = bundle.parent / "outside.pt"
    (bundle / "model.pt").rename(outside)
    (bundle / "model.pt").symlink_to(outside)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped-byte": flip_one_byte,
    "longer": lambda bundle: (bundle / "model.pt").write_bytes(
        (bundle / "model.pt").read_bytes() + b"x"
    ),
    "missing": lambda bundle: (bundle / "golden" / "red.png").unlink(),
    "extra": lambda bundle: (bundle / "golden" / "more.png").write_bytes(b""),
    "extra-hidden": lambda bundle: (bundle / ".hidden").write_bytes(b""),
    "link-to-outside": link_to_outside,
    "link-inside": lambda bundle: (bundle / "again").symlink_to("golden"),
    "pipe": lambda bundle: os.mkfifo(bundle / "pipe"),
    "folder-for-file": lambda bundle: (
        (bundle / "model.pt").unlink(),
        (bundle / "model.pt").mkdir(),
    ),
}


def test_an_untouched_bundle_passes_also_with_an_empty_folder(bundle: Path) -> None:
    (bundle / "assets").mkdir()

    verify_files(bundle, read_manifest(bundle))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_bundle_is_refused(bundle: Path, damage: str) -> None:
    DAMAGE[damage](bundle)

    with pytest.raises(IntegrityFailed):
        verify_files(bundle, read_manifest(bundle))


def test_bundles_are_listed_by_name_and_version_as_a_number(tmp_path: Path) -> None:
    for folder in (
        "b/10",
        "b/9",
        "a/1",
        ".writing-1-1/1",
        "Bad Name/1",
        "c/latest",
        "c/01",
        "a/.writing-2-9",
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / MANIFEST_FILE).write_text(json.dumps({}))
    (tmp_path / "d" / "1").mkdir(parents=True)

    assert [(ref.name, ref.version) for ref in list_bundles(tmp_path)] == [
        ("a", 1),
        ("b", 9),
        ("b", 10),
    ]
    assert [folder.path.relative_to(tmp_path).as_posix() for folder in list_ignored(tmp_path)] == [
        "Bad Name",
        "c/01",
        "c/latest",
        "d/1",
    ]
    assert list_bundles(tmp_path / "none") == []
