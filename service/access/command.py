"""`python -m service keys new NAME`: a new API key, and its lines for the file of keys."""

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from service.access.entries import Entry, is_name

# So that people, and scanners for leaked secrets, see what it is.
PREFIX = "rsk_"
RANDOM_BYTES = 32
OPTIONS = ("requests_per_s", "bytes_per_s", "burst_requests", "burst_bytes", "weight")


def main(arguments: Sequence[str]) -> int:
    """Print a key on standard error, and the lines for the file on standard output."""
    parser = argparse.ArgumentParser(prog="python -m service keys")
    commands = parser.add_subparsers(required=True)
    new = commands.add_parser(
        "new",
        help="make a key",
        description="Prints a new key, which is stored nowhere, on standard error, and its lines "
        "for SERVICE_API_KEYS_FILE on standard output: append them with >> FILE.",
    )
    new.add_argument("name", help="of the client, as metrics and the log show it")
    new.add_argument("--requests-per-s", type=float, metavar="N")
    new.add_argument("--burst-requests", type=int, metavar="N", help="requests at once")
    new.add_argument("--bytes-per-s", type=float, metavar="N", help="bytes of bodies")
    new.add_argument("--burst-bytes", type=int, metavar="N", help="bytes at once")
    new.add_argument("--weight", type=int, metavar="N", help="against others that wait")
    new.add_argument("--admin", action="store_true", help="may load and unload models")
    chosen = parser.parse_args(arguments)

    if not is_name(chosen.name):
        new.error(
            "the name may have a-z, 0-9, '.', '_' and '-', and begins with a letter or digit. "
            f"Received: {chosen.name[:64]!r}"
        )
    key = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    fields = {name: getattr(chosen, name) for name in OPTIONS}
    fields = {name: value for name, value in fields.items() if value is not None}
    if chosen.admin:
        fields["admin"] = True
    digest = hashlib.sha256(key.encode()).hexdigest()
    try:
        Entry.model_validate({"sha256": digest, **fields})
    except ValidationError as exc:
        (error, *_) = exc.errors()
        option = "--" + str(error["loc"][0]).replace("_", "-")
        new.error(f"{option}: {error['msg']}. Received: {error['input']!r}")
    print(f"The key, shown this once: {key}", file=sys.stderr)  # noqa: T201
    table = json.dumps(chosen.name) if "." in chosen.name else chosen.name
    # Strings, numbers and booleans are the same in JSON and TOML.
    print(f"[{table}]\nsha256 = [{json.dumps(digest)}]")  # noqa: T201
    print(*(f"{name} = {json.dumps(value)}\n" for name, value in fields.items()), sep="")  # noqa: T201
    return 0
