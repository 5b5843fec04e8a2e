"""Whose key it is, and the file of keys as it changes."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from service.access.entries import read_entries
from service.access.keys import ADMIN, Keys
from service.errors import RateLimited, Unauthorized, UnknownKey
from service.settings import Settings, SettingsError
from tests.service.access.keyring import Clock, sha256, write_keys
from tests.service.tasks import until

SHOP, OTHER = "secret-shop", "secret-other"


def keys_of(path: Path, **settings: Any) -> Keys:
    return Keys(Settings(api_keys_file=path, **settings), Clock())


def bearer(keys: Keys, key: str) -> str:
    return keys.check(f"Bearer {key}", None).name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_keys(tmp_path / "keys.toml", shop={"weight": 3}, other={"admin": True})


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        (f"Bearer {SHOP}", None),
        (f"bearer   {SHOP} ", None),
        (None, SHOP),
        ("Basic dXNlcjpwYXNz", SHOP),
        (f"Bearer {SHOP}", OTHER),
    ],
    ids=["bearer", "lower case", "x-api-key", "basic for a proxy", "both"],
)
def test_a_key_is_known_in_either_header(
    file: Path, authorization: str | None, api_key: str | None
) -> None:
    key = keys_of(file).check(authorization, api_key)

    assert (key.name, key.weight, key.admin) == ("shop", 3, False)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer  ", "Basic dXNlcjpwYXNz"])
def test_without_a_key_it_is_said_how_to_send_one(file: Path, authorization: str | None) -> None:
    with pytest.raises(Unauthorized, match="`Authorization: Bearer KEY` or `X-API-Key: KEY`"):
        keys_of(file).check(authorization, None)


@pytest.mark.parametrize("sent", ["wrong", sha256(SHOP), "kéy", "x" * 10_000, f"{SHOP}x"])
def test_another_key_is_unknown_and_not_repeated(file: Path, sent: str) -> None:
    with pytest.raises(UnknownKey) as refused:
        keys_of(file).check(f"Bearer {sent}", None)

    assert sent not in str(refused.value)


def test_keys_are_in_the_environment_too_and_the_one_of_the_administrator(file: Path) -> None:
    pairs = f"mobile:{sha256('m1')}, mobile:{sha256('m2').upper()},web:{sha256('w')}"
    keys = Keys(Settings(api_keys_file=file, api_keys=pairs, admin_key="a" * 16))  # type: ignore[arg-type]

    assert [bearer(keys, key) for key in ("m1", "m2", "w", SHOP)] == [
        *("mobile", "mobile", "web", "shop")
    ]
    admin = keys.check(None, "a" * 16)
    assert (admin.name, admin.admin) == (ADMIN, True)


def test_without_keys_there_are_no_clients() -> None:
    keys = Keys(Settings())

    assert not keys.are_needed
    assert keys.clients == {}


def test_two_keys_of_a_client_are_valid_during_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    keys = keys_of(write_keys(path, shop={"keys": ["old"]}))
    for valid, gone in ((["old", "new"], []), (["new"], ["old"])):
        write_keys(path, shop={"keys": valid})
        keys.refresh(always=True)

        assert [bearer(keys, key) for key in valid] == ["shop"] * len(valid)
        for key in gone:
            with pytest.raises(UnknownKey):
                bearer(keys, key)


def test_a_client_keeps_what_it_has_used_of_its_limits_when_the_file_changes(file: Path) -> None:
    write_keys(file, shop={"requests_per_s": 1, "burst_requests": 2})
    keys = keys_of(file)
    shop = keys.check(None, SHOP)
    shop.admit(10)
    shop.admit(10)

    write_keys(file, shop={"requests_per_s": 0.5, "burst_requests": 3}, new={})
    keys.refresh(always=True)

    assert keys.check(None, SHOP) is shop
    shop.admit(10)
    with pytest.raises(RateLimited) as refused:
        shop.admit(10)
    assert refused.value.retry_after_s == 2
    assert shop.bytes == 30
    assert bearer(keys, "secret-new") == "new"


@pytest.mark.parametrize(
    "text",
    ["", "[shop", "[shop]\nsha256 = 'secret-by-mistake'", None],
    ids=["empty", "half written", "wrong", "deleted"],
)
def test_a_file_that_becomes_wrong_leaves_the_keys_and_is_reported(
    file: Path, caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    keys = keys_of(file)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)

    for _ in range(3):
        keys.refresh()

    assert bearer(keys, SHOP) == "shop"
    assert "Received: " in str(keys.error)
    assert caplog.text.count("the API keys stay as they were") == 1, "once"
    assert "secret-by-mistake" not in caplog.text
    write_keys(file, new={})
    keys.refresh()
    assert keys.error is None
    assert bearer(keys, "secret-new") == "new"
    with pytest.raises(UnknownKey):
        bearer(keys, SHOP)


def test_a_file_that_has_not_changed_is_not_read_again(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keys = keys_of(file)
    keys.refresh()
    assert "read again" not in caplog.text

    os.utime(file, ns=(1, 1))
    keys.refresh()
    keys.refresh()

    assert caplog.text.count("API keys have been read again; clients: 2") == 1


@pytest.mark.anyio
@pytest.mark.parametrize("watch_s", [0.01, 0], ids=["in time", "when asked"])
async def test_the_file_is_watched(file: Path, watch_s: float) -> None:
    keys = keys_of(file, watch_s=watch_s)
    assert keys.poll is not None
    watching = asyncio.create_task(keys.poll.run())
    write_keys(file, new={})
    if not watch_s:
        keys.poll.ask()

    await until(lambda: "new" in keys.clients)

    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("shop = 'secret'", "[shop]"),
        ("[Shop]\nsha256 = 'secret'", "'Shop'"),
        ("['a b']\nsha256 = 'secret'", "'a b'"),
        ("[shop]", "[shop], sha256: Expected the SHA-256 of a key"),
        ("[shop]\nsha256 = 'secret'", "[shop], sha256"),
        ("[shop]\nsha256 = []", "[shop], sha256"),
        ("[shop]\nsha256 = ['{0}', 'secret']", "[shop], sha256"),
        ("[shop]\nsha256 = '{0}'\nkey = 'secret'", "[shop], key: Expected one of sha256, req"),
        ("[shop]\nsha256 = '{0}'\nweight = 0", "[shop], weight"),
        ("[shop]\nsha256 = '{0}'\nrequests_per_s = inf", "[shop], requests_per_s"),
        ("[shop]\nsha256 = '{0}'\nbytes_per_s = '1'", "[shop], bytes_per_s"),
        ("[shop]\nsha256 = '{0}'\nburst_bytes = 5", "set bytes_per_s, too"),
        ("[a]\nsha256 = '{0}'\n[b]\nsha256 = '{0}'", "the same key of a and b"),
        ("[env]\nsha256 = '{0}'", "env in both"),
        ("[shop]\nsha256 = '{0}'\n[shop]\nsha256 = '{0}'", "twice"),
    ],
)
def test_a_wrong_file_is_explained_without_its_secrets(
    tmp_path: Path, text: str, named: str
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text.format(sha256(SHOP)))
    settings = Settings(api_keys_file=path, api_keys=f"env:{sha256('env')}")  # type: ignore[arg-type]

    with pytest.raises(SettingsError) as refused:
        read_entries(settings)

    assert named in str(refused.value)
    assert "Received: " in str(refused.value)
    assert "secret" not in str(refused.value)
    assert sha256(SHOP) not in str(refused.value)
