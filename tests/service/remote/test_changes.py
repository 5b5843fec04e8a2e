"""Stores that change between two looks, and while they are copied."""

from __future__ import annotations

import shutil

import pytest

from bundle.format.repository import list_bundles
from service.remote.stores import StoreError
from tests.service.remote.conftest import LARGE, Origin
from tests.service.remote.copies import TRIES, Copy, nothing_wrong
from tests.service.remote.web import Web


def test_a_bundle_that_is_replaced_while_it_is_copied_appears_as_a_whole(
    origin: Origin, web: Web, copy: Copy, large: bytes
) -> None:
    origin.put(1, large=large)
    other = large[::-1]

    def replace(path: str) -> None:
        if path.endswith(LARGE):
            web.before = str
            origin.put(1, large=other)

    web.before = replace
    assert "has another sha256" in copy.look()["unusable"]["tiny-torch"]["1"]
    assert copy.versions == []

    assert copy.look() == nothing_wrong(changed=True)
    assert (list_bundles(copy.root)[0].path / LARGE).read_bytes() == other


def test_another_bundle_in_the_place_of_one_takes_over_what_is_the_same(
    origin: Origin, web: Web, copy: Copy, large: bytes
) -> None:
    origin.put(1, large=large)
    copy.look()
    before = (copy.root / "tiny-torch" / "1").resolve()
    origin.put(1)
    web.ranges.clear()

    assert copy.look() == nothing_wrong(changed=True)
    assert copy.versions == [1]
    assert not web.asked("tiny-torch/1/model.pt")
    assert not before.exists()


def test_removed_versions_disappear_and_an_emptied_store_changes_nothing(
    origin: Origin, copy: Copy
) -> None:
    origin.put(1)
    origin.put(2)
    copy.look()
    origin.remove(1)

    assert copy.look() == nothing_wrong(changed=True)
    assert copy.versions == [2]

    origin.remove(2)
    with pytest.raises(StoreError, match="no model any more"):
        copy.look()
    shutil.rmtree(origin.root)
    with pytest.raises(StoreError, match="nothing at the address"):
        copy.look()
    assert copy.versions == [2]


def test_a_version_that_is_not_needed_is_removed_but_not_while_another_one_fails(
    origin: Origin, web: Web, copy: Copy
) -> None:
    origin.put(1)
    copy.look()
    origin.put(2)
    web.statuses = {"tiny-torch/2/model.pt": [500] * TRIES}

    assert len(copy.look(2)["errors"]) == 1
    assert copy.versions == [1]
    assert copy.look(2) == nothing_wrong(changed=True)
    assert copy.versions == [2]


def test_a_bundle_that_is_damaged_here_is_repaired(origin: Origin, web: Web, copy: Copy) -> None:
    origin.put(1)
    copy.look()
    model = copy.root / "tiny-torch" / "1" / "model.pt"
    model.write_bytes(b"damaged")
    web.ranges.clear()

    assert copy.look() == nothing_wrong(changed=False)
    copy.look(damaged={"tiny-torch": [1]})
    assert copy.versions == [1]
    assert len(web.asked("tiny-torch/1/model.pt")) == 1
    assert not web.asked("tiny-torch/1/golden/red.png")


def test_a_signature_that_is_added_is_copied(origin: Origin, copy: Copy) -> None:
    bundle = origin.put(1)
    copy.look()
    (bundle / "model.sig").write_text("{}")

    assert copy.look() == nothing_wrong(changed=True)
    assert (copy.root / "tiny-torch" / "1" / "model.sig").read_text() == "{}"
