"""Google Cloud Storage, as far as a stand-in for its JSON API goes: listings and ranges."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from service.remote.stores import CHUNK_BYTES
from tests.service.remote.conftest import LARGE, Origin
from tests.service.remote.copies import Copy, nothing_wrong
from tests.service.remote.web import Answering, listening

PREFIX = "prod/"


class Api:
    """The objects of a folder, below `PREFIX` of the bucket `models`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cuts_large = self.has_cut = False
        self.ranges: list[str] = []

    def names(self) -> list[str]:
        files = [path for path in self.root.rglob("*") if path.is_file()]
        return [PREFIX + path.relative_to(self.root).as_posix() for path in files]

    def record(self, name: str) -> dict[str, object]:
        status = (self.root / name.removeprefix(PREFIX)).stat()
        generation = str(status.st_mtime_ns)
        return {
            "kind": "storage#object",
            "bucket": "models",
            "name": name,
            "size": str(status.st_size),
            "generation": generation,
            "etag": generation,
            "updated": "2026-01-01T00:00:00.000Z",
            "timeCreated": "2026-01-01T00:00:00.000Z",
        }

    def listing(self, prefix: str) -> dict[str, object]:
        below = [name for name in self.names() if name.startswith(prefix)]
        rests = {name: name.removeprefix(prefix) for name in below}
        return {
            "items": [self.record(name) for name, rest in rests.items() if "/" not in rest],
            "prefixes": sorted(
                {f"{prefix}{rest.split('/')[0]}/" for rest in rests.values() if "/" in rest}
            ),
        }


@pytest.fixture
def api(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    api = Api(origin.root)

    class Handler(Answering, BaseHTTPRequestHandler):
        content_type = "application/json"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            found = re.search(r"/b/models/o(?:/(.+))?$", url.path)
            name = unquote(found[1] or "") if found else ""
            if found and not name:
                self.answer(200, json.dumps(api.listing(query.get("prefix", ""))).encode())
            elif name not in api.names():
                self.answer(404, b'{"error": {"code": 404, "message": "no such object"}}')
            elif query.get("alt") != "media":
                self.answer(200, json.dumps(api.record(name)).encode())
            else:
                self.answer_range(name)

        def answer_range(self, name: str) -> None:
            data = (api.root / name.removeprefix(PREFIX)).read_bytes()
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")
            first, last = (int(asked[1]), int(asked[2])) if asked else (0, len(data) - 1)
            cut = None
            if name.endswith(LARGE):
                api.ranges.append(self.headers["Range"])
                if api.cuts_large and first >= CHUNK_BYTES:
                    if api.has_cut:
                        # Otherwise gcsfs tries again for half a minute.
                        self.answer(403, b'{"error": {"code": 403, "message": "not now"}}')
                        return
                    api.has_cut, cut = True, 1_000_000
            self.answer(206 if asked else 200, data[first : last + 1], cut)

    with listening(Handler) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        yield api


def test_a_copy_that_was_cut_goes_on_where_it_ended(
    origin: Origin, api: Api, tmp_path: Path, large: bytes
) -> None:
    origin.put(1, large=large)
    copy = Copy("gs://models/prod", tmp_path / "copy")
    api.cuts_large = True

    (error,) = copy.look()["errors"]
    assert LARGE in error
    assert copy.versions == []

    api.cuts_large = False
    api.ranges.clear()
    assert copy.look() == nothing_wrong(changed=True)
    assert copy.versions == [1]
    assert api.ranges[0] == f"bytes={CHUNK_BYTES}-{2 * CHUNK_BYTES - 1}"
    assert copy.look() == nothing_wrong(changed=False)
