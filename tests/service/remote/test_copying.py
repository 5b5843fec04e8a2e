"""Looks at stores that fail, and what they send is not taken for more than it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import fsspec
import pytest

from bundle.format.manifest import MANIFEST_FILE
from service.remote.copying import RETRY_S, SERVING_FILE
from service.remote.folder import Folder
from service.remote.stores import CHUNK_BYTES, StoreError
from tests.service.remote.conftest import LARGE, Origin
from tests.service.remote.copies import TRIES, Copy, nothing_wrong
from tests.service.remote.web import Web


def test_versions_and_the_files_beside_them_are_copied_once(
    origin: Origin, web: Web, copy: Copy
) -> None:
    origin.put(1)
    origin.put(2)
    (origin.root / "default").write_text("tiny-torch\n")
    (origin.root / SERVING_FILE).write_text("")

    assert copy.look() == nothing_wrong(changed=True)
    assert copy.versions == [1, 2]
    assert (copy.root / "default").read_text() == "tiny-torch\n"
    assert (copy.root / SERVING_FILE).read_text() == ""

    web.ranges.clear()
    assert copy.look() == nothing_wrong(changed=False)
    assert not [path for path, _ in web.ranges if path.endswith((".pt", ".png"))]

    (origin.root / "default").unlink()
    assert copy.look() == nothing_wrong(changed=True)
    assert not (copy.root / "default").exists()


def test_a_copy_that_was_cut_goes_on_where_it_ended(
    origin: Origin, web: Web, copy: Copy, large: bytes
) -> None:
    path = f"{origin.put(1, large=large).relative_to(origin.root)}/{LARGE}"
    # The second request is cut as often as it is repeated.
    web.cuts[path] = [CHUNK_BYTES, *[1_000_000] * TRIES]

    (error,) = copy.look()["errors"]
    assert LARGE in error
    assert copy.versions == []

    web.ranges.clear()
    assert copy.look() == nothing_wrong(changed=True)
    second, third = CHUNK_BYTES, 2 * CHUNK_BYTES
    assert web.asked(path) == [f"bytes={second}-{third - 1}", f"bytes={third}-{len(large) - 1}"]
    assert copy.versions == [1]


def test_a_server_that_fails_for_a_moment_is_asked_again(
    origin: Origin, web: Web, copy: Copy
) -> None:
    origin.put(1)
    web.statuses = {"index.json": [500], "tiny-torch/1/manifest.json": [503, 500]}

    assert copy.look() == nothing_wrong(changed=True)


def test_a_failing_server_takes_nothing_away(origin: Origin, web: Web, copy: Copy) -> None:
    origin.put(1)
    (origin.root / "default").write_text("tiny-torch\n")
    copy.look()

    for path in ("index.json", "default"):
        web.statuses = {path: [500] * TRIES}
        with pytest.raises(StoreError, match=path):
            copy.look()
    web.statuses = {"tiny-torch/1/manifest.json": [500] * TRIES}
    assert "manifest.json" in copy.look()["errors"][0]
    assert copy.versions == [1]
    assert (copy.root / "default").exists()


def test_a_server_without_ranges_sends_files_as_a_whole(
    origin: Origin, web: Web, copy: Copy, large: bytes
) -> None:
    origin.put(1, large=large)
    web.knows_ranges = False

    assert copy.look() == nothing_wrong(changed=True)
    assert copy.versions == [1]


def test_a_file_that_is_not_the_listed_one_keeps_its_version_out_and_is_not_fetched_at_each_look(
    origin: Origin, web: Web, copy: Copy
) -> None:
    origin.put(1)
    copy.look()
    model = origin.put(2) / "model.pt"
    right = model.read_bytes()
    model.write_bytes(right[:-1] + b"?")

    refused = copy.look()["unusable"]["tiny-torch"]["2"]
    assert "integrity_failed" in refused
    assert "'model.pt' has another sha256" in refused
    assert copy.versions == [1]

    web.ranges.clear()
    assert copy.look()["unusable"]["tiny-torch"]["2"] == refused
    assert not web.asked("tiny-torch/2/model.pt")

    model.write_bytes(right)
    copy.now += RETRY_S
    assert copy.look() == nothing_wrong(changed=True)
    assert copy.versions == [1, 2]
    assert len(web.asked("tiny-torch/2/model.pt")) == 1
    assert not web.asked("tiny-torch/2/golden/red.png")


def test_a_manifest_of_another_model_or_with_a_path_that_leads_out_is_refused(
    origin: Origin, copy: Copy
) -> None:
    origin.put(1)
    origin.put(2)
    shutil.move(origin.root / "tiny-torch" / "1", origin.root / "tiny-torch" / "3")
    manifest = origin.root / "tiny-torch" / "2" / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace('"model.pt"', '"../../model.pt"'))
    origin.index()

    found = copy.look()["unusable"]["tiny-torch"]
    assert "another model" in found["3"]
    assert "no '..'" in found["2"]
    assert copy.versions == []


def test_a_store_with_listings_is_copied_by_the_common_interface(
    origin: Origin, tmp_path: Path, large: bytes
) -> None:
    files = fsspec.filesystem("memory")
    files.store.clear()
    origin.put(1, large=large)
    (origin.root / "default").write_text("tiny-torch\n")
    files.put(f"{origin.root}/", "/bucket/models/", recursive=True)
    files.pipe("/bucket/models/Not a name/1/manifest.json", b"{}")
    files.pipe("/bucket/models/tiny-torch/latest/manifest.json", b"{}")
    files.pipe("/bucket/models/tiny-torch/7/model.pt", b"the manifest comes last")
    copy = Copy("memory://bucket/models", tmp_path / "copy")

    assert copy.look()["unusable"] == {
        "tiny-torch": {"7": "tiny-torch/7: incomplete: there is no manifest.json"}
    }
    assert copy.versions == [1]
    assert (copy.root / "default").exists()

    files.rm("/bucket/models/tiny-torch/1", recursive=True)
    copy.look()
    assert copy.versions == []
    files.rm("/bucket", recursive=True)
    with pytest.raises(StoreError, match="nothing at the address"):
        copy.look()


def test_a_bundle_that_does_not_fit_is_not_begun(origin: Origin, web: Web, copy: Copy) -> None:
    manifest = origin.put(1) / MANIFEST_FILE
    size = (origin.root / "tiny-torch" / "1" / "model.pt").stat().st_size
    manifest.write_text(manifest.read_text().replace(str(size), str(10**17)))

    assert "don't fit" in copy.look()["errors"][0]
    assert not web.asked("tiny-torch/1/model.pt")


def test_two_services_with_one_folder_copy_in_turn(tmp_path: Path) -> None:
    with Folder(tmp_path).locked() as first, Folder(tmp_path).locked() as second:
        assert (first, second) == (True, False)
    with Folder(tmp_path).locked() as again:
        assert again
