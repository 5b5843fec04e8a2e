"""S3 as moto's server has it, over a connection that can be cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.remote.stores import CHUNK_BYTES, StoreError
from tests.service.remote.conftest import LARGE, Origin
from tests.service.remote.copies import Copy, nothing_wrong
from tests.service.remote.s3 import PREFIX, Bucket, bucket_of_moto


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with bucket_of_moto() as found:
        for name, value in found.variables.items():
            monkeypatch.setenv(name, value)
        yield found


def test_a_copy_that_was_cut_goes_on_where_it_ended(
    origin: Origin, bucket: Bucket, tmp_path: Path, large: bytes
) -> None:
    origin.put(1, large=large)
    bucket.upload(origin.root)
    copy = Copy(bucket.address, tmp_path / "copy")
    # Of the large file each answer ends in the middle, after its first part has come.
    bucket.cut_answers(LARGE, after=1_000_000, from_byte=CHUNK_BYTES)

    (error,) = copy.look()["errors"]
    assert LARGE in error
    assert copy.versions == []
    assert bucket.cuts > 0

    bucket.cut_nothing()
    copied = next(Path(copy.root).rglob(LARGE))
    assert copied.stat().st_size == CHUNK_BYTES
    bucket.ranges.clear()
    assert copy.look() == nothing_wrong(changed=True)
    assert copy.versions == [1]
    assert bucket.ranges[LARGE][0] == f"bytes={CHUNK_BYTES}-{2 * CHUNK_BYTES - 1}"


def test_changes_are_followed_and_an_emptied_bucket_changes_nothing(
    origin: Origin, bucket: Bucket, tmp_path: Path
) -> None:
    origin.put(1)
    bucket.upload(origin.root)
    copy = Copy(bucket.address, tmp_path / "copy")
    copy.look()
    assert copy.look() == nothing_wrong(changed=False)

    origin.put(2)
    bucket.upload(origin.root)
    bucket.delete(f"{PREFIX}/tiny-torch/1/")
    assert copy.look() == nothing_wrong(changed=True)
    assert copy.versions == [2]

    bucket.delete("")
    with pytest.raises(StoreError, match="nothing at the address"):
        copy.look()
    assert copy.versions == [2]


def test_a_file_that_is_too_short_keeps_its_version_out(
    origin: Origin, bucket: Bucket, tmp_path: Path
) -> None:
    (origin.put(1) / "model.pt").write_bytes(b"?")
    bucket.upload(origin.root)
    copy = Copy(bucket.address, tmp_path / "copy")

    refused = copy.look()["unusable"]["tiny-torch"]["1"]

    assert "'model.pt' has 1 bytes, and the manifest lists" in refused
    assert copy.versions == []


def test_a_wrong_bucket_is_said(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing at the address"):
        Copy("s3://no-such-bucket/prod", tmp_path).look()
    with pytest.raises(StoreError, match="nothing at the address"):
        Copy(bucket.address, tmp_path).look()
