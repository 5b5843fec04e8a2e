"""The API keys of the service: which client a request is from, and the file as it changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from service.access.entries import Entry, read_entries
from service.access.key import Key
from service.errors import Unauthorized, UnknownKey
from service.polling import Poll
from service.settings import Settings, SettingsError

# Of the key in SERVICE_ADMIN_KEY; no client in the file can have it.
ADMIN = "SERVICE_ADMIN_KEY"
HEADERS = "Expected the header `Authorization: Bearer KEY` or `X-API-Key: KEY`."
# Of a digest; they find a key, whose whole digest is then compared in constant time.
SELECTOR_BYTES = 8

log = logging.getLogger("service")


class _Stamp(NamedTuple):
    """What tells one state of a file from another."""

    modified_ns: int
    size: int
    inode: int


class Keys:
    """Who the clients are.

    Args:
        settings: where the keys are.
        clock: seconds, for the limits of the keys.

    Raises:
        SettingsError: the file can't be read or is not valid.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._path = settings.api_keys_file
        self._stamp = self._look()
        self._clients: dict[str, Key] = {}
        self._by_selector: dict[bytes, tuple[bytes, Key]] = {}
        self._take(read_entries(settings))
        # Why the file as it is now does not apply.
        self.error: str | None = None
        # Of the file; None: there is none.
        self.poll: Poll | None = None
        if self._path is not None:
            self.poll = Poll(lambda asked: self.refresh(always=asked), settings.watch_s)

    @property
    def are_needed(self) -> bool:
        """Every request needs one, rather than those of administrators alone."""
        return self._settings.needs_keys

    @property
    def clients(self) -> Mapping[str, Key]:
        """All clients by name."""
        return self._clients

    def check(self, authorization: str | None, api_key: str | None) -> Key:
        """Whose request it is.

        Args:
            authorization: the header of this name; another scheme than Bearer does not count.
            api_key: the header X-API-Key, which counts where there is no bearer.

        Raises:
            Unauthorized: there is no key.
            UnknownKey: it is none of ours.
        """
        scheme, _, token = (authorization or "").partition(" ")
        sent = token.strip() if scheme.lower() == "bearer" else (api_key or "").strip()
        if not sent:
            raise Unauthorized(f"This route needs an API key. {HEADERS} Received: none")
        # Latin-1 is how headers are read: their bytes come back.
        digest = hashlib.sha256(sent.encode("latin-1", "replace")).digest()
        expected, key = self._by_selector.get(digest[:SELECTOR_BYTES], (b"", None))
        if key is None or not hmac.compare_digest(digest, expected):
            raise UnknownKey(f"This API key is none of this service. {HEADERS} Received: another")
        return key

    def refresh(self, *, always: bool = False) -> None:
        """Read the file again if it has changed; a wrong one leaves all keys as they were."""
        stamp = self._look()
        if stamp == self._stamp and not always:
            return
        # Before it is read: what is written while it is read is seen the next time.
        self._stamp = stamp
        try:
            entries = read_entries(self._settings)
        except SettingsError as exc:
            self.error = str(exc)
            log.error("the API keys stay as they were: %s", exc)
            return
        self.error = None
        self._take(entries)
        log.info("API keys have been read again; clients: %d", len(entries))

    def _look(self) -> _Stamp | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return _Stamp(found.st_mtime_ns, found.st_size, found.st_ino)

    def _take(self, entries: dict[str, Entry]) -> None:
        """Let these be the clients; those that stay keep what they have used of their limits."""
        if self._settings.admin_key is not None:
            secret = self._settings.admin_key.get_secret_value()
            digest = hashlib.sha256(secret.encode()).hexdigest()
            entries = {**entries, ADMIN: Entry(sha256=[digest], admin=True)}
        clients: dict[str, Key] = {}
        for name, entry in entries.items():
            if (key := self._clients.get(name)) is None:
                key = Key(name, entry, self._clock)
            else:
                key.change(entry)
            clients[name] = key
        # Each in one step, for this may run in a thread.
        self._by_selector = {
            digest[:SELECTOR_BYTES]: (digest, clients[name])
            for name, entry in entries.items()
            for digest in entry.digests
        }
        self._clients = clients
