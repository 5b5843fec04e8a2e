from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bundle.errors import IntegrityFailed, ManifestInvalid
from bundle.format.manifest import MANIFEST_FILE, read_manifest
from bundle.format.repository import (
    BundleRef,
    IgnoredFolder,
    list_bundles,
    scan,
    verify_files,
)


@pytest.fixture
def bundle(torch_bundle_root: Path, tmp_path: Path) -> Path:
    """`models/tiny-torch/1` below `tmp_path`."""
    source, target = (
        root / "tiny-torch" / "1" for root in (torch_bundle_root, tmp_path / "models")
    )
    return Path(shutil.copytree(source, target))


@contextmanager
def unprivileged() -> Iterator[None]:
    """Access files as an ordinary user: root may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def repository() -> Iterator[Path]:
    """An empty folder whose parents every user may read, unlike those of `tmp_path`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def flip_one_byte(bundle: Path) -> None:
    data = bytearray((bundle / "model.pt").read_bytes())
    data[100] ^= 1
    (bundle / "model.pt").write_bytes(data)


def link_to_outside(bundle: Path) -> None:
    outside = bundle.parents[2] / "outside.pt"
    (bundle / "model.pt").rename(outside)
    (bundle / "model.pt").symlink_to(outside)


def replace_with_folder(bundle: Path) -> None:
    (bundle / "model.pt").unlink()
    (bundle / "model.pt").mkdir()


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
    "folder-for-file": replace_with_folder,
}


def test_an_untouched_bundle_passes_also_with_an_empty_folder(bundle: Path) -> None:
    (bundle / "assets").mkdir()

    verify_files(bundle, read_manifest(bundle))


def test_a_repository_of_links_passes(bundle: Path) -> None:
    """As a store of files by their content makes it: every file is a link, and the folder too."""
    root = bundle.parent.parent
    store = root / ".store"
    store.mkdir()
    for number, file in enumerate(sorted(p for p in bundle.rglob("*") if p.is_file())):
        file.rename(store / str(number))
        file.symlink_to(store / str(number))
    bundle.rename(store / "bundle")
    bundle.symlink_to("../.store/bundle")
    (root.parent / "linked").symlink_to(root)

    for repository in (root, root.parent / "linked"):
        (ref,), _ = scan(repository)
        verify_files(ref.path, read_manifest(ref.path))


def test_a_bundle_outside_of_the_repository_is_refused(bundle: Path) -> None:
    outside = bundle.parents[2] / "outside"
    bundle.rename(outside)
    bundle.symlink_to(outside)

    with pytest.raises(IntegrityFailed, match="out of the model repository"):
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
    assert [folder.path.relative_to(tmp_path).as_posix() for folder in scan(tmp_path)[1]] == [
        "Bad Name",
        "c/01",
        "c/latest",
        "d/1",
    ]
    assert list_bundles(tmp_path / "none") == []


def test_an_unreadable_version_is_a_bundle_that_is_refused(repository: Path) -> None:
    (repository / "a" / "1").mkdir(parents=True)
    (repository / "a" / "2").mkdir()
    (repository / "a" / "2" / MANIFEST_FILE).write_text("{}")
    (repository / "a" / "2").chmod(0)

    with unprivileged():
        bundles, ignored = scan(repository)
        with pytest.raises(ManifestInvalid, match="Permission denied"):
            read_manifest(bundles[0].path)

    assert bundles == [BundleRef("a", 2, repository / "a" / "2")]
    assert [folder.path.name for folder in ignored] == ["1"]


def test_an_unreadable_model_is_ignored_and_the_others_are_found(repository: Path) -> None:
    for name in ("a", "b"):
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "1" / MANIFEST_FILE).write_text("{}")
    (repository / "a").chmod(0)

    with unprivileged():
        bundles, ignored = scan(repository)

    assert [ref.name for ref in bundles] == ["b"]
    assert ignored == [IgnoredFolder(repository / "a", "cannot be read: Permission denied")]


def test_a_folder_that_may_be_listed_but_not_entered_is_refused(
    repository: Path, torch_bundle_root: Path
) -> None:
    manifest = read_manifest(torch_bundle_root / "tiny-torch" / "1")
    (repository / "a" / "1").mkdir(parents=True)
    (repository / "a" / "1" / "model.pt").write_bytes(b"model")
    (repository / "a" / "1").chmod(0o444)

    with unprivileged():
        ((ref,), _) = scan(repository)
        with pytest.raises(ManifestInvalid, match="Permission denied"):
            read_manifest(ref.path)
        with pytest.raises(IntegrityFailed, match="Permission denied"):
            verify_files(ref.path, manifest)


def test_links_in_a_loop_are_refused_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1").symlink_to("1")
    (tmp_path / "b").symlink_to("b")
    (tmp_path / "c" / "1").mkdir(parents=True)
    (tmp_path / "c" / "1" / MANIFEST_FILE).symlink_to(MANIFEST_FILE)

    bundles, ignored = scan(tmp_path)

    assert [(ref.name, ref.version) for ref in bundles] == [("a", 1), ("c", 1)]
    assert [folder.path.name for folder in ignored] == ["b"]
    assert ignored[0].reason.startswith("cannot be read: ")
    for ref in bundles:
        with pytest.raises(ManifestInvalid, match="symbolic links"):
            read_manifest(ref.path)
