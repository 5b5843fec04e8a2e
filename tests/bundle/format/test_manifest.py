from __future__ import annotations

import copy
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from bundle.errors import ManifestInvalid
from bundle.format import manifest as manifest_module
from bundle.format.certainty import NOT_MEASURED
from bundle.format.manifest import MANIFEST_FILE, Manifest, parse_manifest, read_manifest
from tests.bundles import manifest_fields
from tests.tiny_networks import LABELS

DIGEST = "0" * 64


def record() -> dict[str, Any]:
    golden = [{"file": "golden/blue.png", "top": [{"index": 0, "label": "blue", "score": 0.5}]}]
    files = {name: {"size": 1, "sha256": DIGEST} for name in ("model.pt", "golden/blue.png")}
    start = {"schema_version": 6, "name": "tiny", "version": 1, "created": "2026-01-01T00:00:00Z"}
    return start | manifest_fields("torch", LABELS, 32, golden) | {"files": files}


def parts(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every field of every object that a model describes."""
    found = []
    if isinstance(value, dict) and path[-1:] not in [("files",), ("versions",), ("config",)]:
        for key, inner in value.items():
            found += [(*path, key), *parts(inner, (*path, key))]
    if isinstance(value, list) and value:
        found += parts(value[0], (*path, 0))
    return found


def place(fields: dict[str, Any], path: tuple[Any, ...]) -> Any:
    for key in path:
        fields = fields[key]
    return fields


def test_a_manifest_survives_writing_and_reading() -> None:
    manifest = parse_manifest(json.dumps(record()).encode())

    assert parse_manifest(manifest.model_dump_json().encode()) == manifest
    assert manifest.source.id == "torchscript-fp32"


def earlier(fields: dict[str, Any], version: int) -> dict[str, Any]:
    """The record as a manifest of schema version 1 to 3 has it."""
    fields = copy.deepcopy(fields) | {"schema_version": version}
    size = {key: value for key, value in fields.pop("heatmap").items() if key != "method"}
    fields["architecture"]["feature_map"] = size
    for name in ("label_ids", "imported", "baseline", *NOT_MEASURED):
        del fields[name]
    for metric in fields["metrics"]:
        del metric["labels"]
    return fields


def test_a_manifest_of_version_5_is_read_as_one_that_does_not_say_when_it_is_unsure() -> None:
    fields = record() | {"schema_version": 5}
    for name in NOT_MEASURED:
        del fields[name]

    assert parse_manifest(json.dumps(fields).encode()) == parse_manifest(
        json.dumps(record()).encode()
    )


def test_a_card_that_the_files_do_not_list_is_refused() -> None:
    fields = record() | {"card": "card.json"}

    with pytest.raises(ManifestInvalid, match=r"'files' does not list 'card.json'"):
        parse_manifest(json.dumps(fields).encode())


def test_a_manifest_of_version_4_is_read_as_one_without_a_baseline() -> None:
    fields = record() | {"schema_version": 4}
    for name in ("baseline", *NOT_MEASURED):
        del fields[name]

    found = parse_manifest(json.dumps(fields).encode())

    assert found == parse_manifest(json.dumps(record() | {"baseline": None}).encode())


def test_a_manifest_of_version_3_is_read_as_one_of_a_trained_model() -> None:
    expected = parse_manifest(json.dumps(record() | {"baseline": None}).encode())

    assert parse_manifest(json.dumps(earlier(record(), 3)).encode()) == expected


def test_a_manifest_of_version_1_is_read_as_one_whose_artifact_was_not_measured() -> None:
    expected = parse_manifest(json.dumps(record() | {"baseline": None}).encode())
    fields = earlier(record(), 1)
    for name in ("derivation", "speeds"):
        del fields["artifacts"][0][name]

    assert parse_manifest(json.dumps(fields).encode()) == expected


def test_a_manifest_of_version_2_is_read_as_one_that_was_measured_on_a_cpu() -> None:
    fields = record() | {"baseline": None}
    speed = {
        "hardware": "any",
        "threads": 1,
        "latency_ms": 1.0,
        "batch_size": 8,
        "images_per_second": 100.0,
    }
    fields["artifacts"][0]["speeds"] = [{"device": "cpu"} | speed]
    expected = parse_manifest(json.dumps(fields).encode())
    fields = earlier(fields, 2)
    del fields["artifacts"][0]["speeds"]

    with pytest.raises(ManifestInvalid, match="speeds: the field is missing"):
        parse_manifest(json.dumps(fields).encode())
    fields["artifacts"][0]["speed"] = speed
    assert parse_manifest(json.dumps(fields).encode()) == expected
    fields["artifacts"][0]["speed"] = None
    assert parse_manifest(json.dumps(fields).encode()).source.speeds == []


@pytest.mark.parametrize("path", parts(record()), ids=lambda path: ".".join(map(str, path)))
def test_a_missing_field_is_an_error_that_names_it(path: tuple[Any, ...]) -> None:
    fields = record()
    del place(fields, path[:-1])[path[-1]]

    with pytest.raises(ManifestInvalid, match=str(path[-1])):
        parse_manifest(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "path",
    [(), ("input",), ("input", "resize"), ("artifacts", 0), ("golden", "samples", 0)],
    ids=str,
)
def test_an_unknown_field_is_an_error_that_names_it(path: tuple[Any, ...]) -> None:
    fields = record()
    place(fields, path)["surprise"] = 1

    with pytest.raises(ManifestInvalid, match="surprise: the field is unknown"):
        parse_manifest(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "./a",
        "a/",
        "",
        "a\\b",
        "C:/a",
        "a\0b",
        "..",
        MANIFEST_FILE,
    ],
    ids=repr,
)
@pytest.mark.parametrize("where", ["files", "artifacts", "golden"])
def test_an_unsafe_path_is_refused(path: str, where: str) -> None:
    fields = record()
    if where == "files":
        fields["files"][path] = {"size": 1, "sha256": DIGEST}
    elif where == "artifacts":
        fields["artifacts"][0]["path"] = path
    else:
        fields["golden"]["samples"][0]["file"] = path

    with pytest.raises(ManifestInvalid, match=where):
        parse_manifest(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 7),
        (("baseline", "samples"), 5),
        (("baseline", "scores"), [4]),
        (("baseline", "classes"), [2, 2]),
        (("version",), "1"),
        (("version",), 0),
        (("name",), "../tiny"),
        (("name",), "tiny\n"),
        (("created",), "2026-01-01T00:00:00"),
        (("labels",), ["blue", "blue", "red"]),
        (("labels",), ["blue"]),
        (("input", "crop", "height"), 31),
        (("input", "resize", "size"), 31),
        (("input", "resize", "rule"), "pad"),
        (("artifacts", 0, "source"), False),
        (("artifacts", 0, "precision"), "fp16"),
        (("artifacts", 0, "path"), "other.pt"),
        (("metrics", 0, "interval_95"), [0.1, 0.2]),
        (("calibration", "temperature"), 0),
        (("golden", "tolerance"), 5),
        (("golden", "samples"), []),
        (("golden", "samples", 0, "top", 0, "label"), "red"),
        (("golden", "samples", 0, "file"), "golden/none.png"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused(path: tuple[Any, ...], value: Any) -> None:
    fields = record()
    place(fields, path[:-1])[path[-1]] = value

    with pytest.raises(ManifestInvalid):
        parse_manifest(json.dumps(fields).encode())


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused(number: str) -> None:
    text = json.dumps(record()).replace('"config": {}', f'"config": {{"rate": {number}}}')

    with pytest.raises(ManifestInvalid, match="not valid JSON"):
        parse_manifest(text.encode())


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff", b'{"a":1,"a":2}', b"[" * 100_000], ids=range(6)
)
def test_what_is_not_a_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        parse_manifest(data)


def test_a_missing_or_huge_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match="cannot be read"):
        read_manifest(tmp_path)

    (tmp_path / MANIFEST_FILE).write_bytes(b" " * 4_000_001)
    with pytest.raises(ManifestInvalid, match="larger than"):
        read_manifest(tmp_path)


NOT_FILES: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", NOT_FILES)
def test_a_manifest_that_is_not_a_regular_file_is_refused(kind: str, tmp_path: Path) -> None:
    NOT_FILES[kind](tmp_path / MANIFEST_FILE)

    with pytest.raises(ManifestInvalid, match=MANIFEST_FILE):
        read_manifest(tmp_path)


def test_a_model_without_data_of_its_own_has_no_calibration() -> None:
    fields = record() | {"calibration": {"method": "none", "temperature": 1.0}}

    assert parse_manifest(json.dumps(fields).encode()).calibration.temperature == 1

    fields["calibration"]["temperature"] = 1.5
    with pytest.raises(ManifestInvalid, match=r"calibration\.none\.temperature"):
        parse_manifest(json.dumps(fields).encode())


def documented() -> dict[str, set[str]]:
    """Fields by model in docs/bundle.md."""
    page = (Path(__file__).parents[3] / "docs" / "bundle.md").read_text()
    found: dict[str, set[str]] = {}
    for section in page.split("\n### ")[1:]:
        title, _, body = section.partition("\n")
        rows = [line.split("|")[1] for line in body.splitlines() if line.startswith("| `")]
        found[title] = {name.strip(" `") for row in rows for name in row.split(",")}
    return found


def test_the_documentation_describes_every_field_and_no_other() -> None:
    models = {
        name: set(model.model_fields)
        for name in manifest_module.__all__
        if isinstance(model := getattr(manifest_module, name), type)
        and issubclass(model, BaseModel)
    }

    assert documented() == models
    assert all(field.is_required() for field in Manifest.model_fields.values())
