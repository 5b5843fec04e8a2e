"""Environment variables with our prefix that are not ours: other programs set some of them too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

PREFIX = "SERVICE_"
# Of the frontend, with the same prefix.
FRONTEND = frozenset({"SERVICE_URL"})

_PORT = r"PORT_\d+_(TCP|UDP|SCTP)(_ADDR|_PORT|_PROTO)?"
# For a Kubernetes Service or linked container called `service` or `service-...`; for a container
# that Consul's Registrator announces; for an application of Coolify.
_INJECTED = re.compile(
    r"SERVICE_("
    rf"(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|{_PORT})"
    r"|ENV_.+"
    r"|NAME|ID|TAGS|IGNORE|CHECK_.+|\d+_.+"
    r"|(FQDN|URL|USER|PASSWORD|NAME|BASE64|REALBASE64|HEX)_.+"
    r")"
)
_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S*")


def is_injected(name: str, value: str) -> bool:
    """Whether a container platform sets such a variable for its own purposes."""
    return _INJECTED.fullmatch(name) is not None or (name.endswith("_PORT") and is_address(value))


def is_address(value: object) -> bool:
    """Whether a value is an address as Kubernetes and Docker write it: `tcp://10.1.2.3:8000`."""
    return isinstance(value, str) and _ADDRESS.fullmatch(value) is not None


def warnings(environment: Mapping[str, str], ours: Iterable[str]) -> list[str]:
    """A sentence for each variable with our prefix that is neither in `ours` nor injected.

    Values are left out: they may be secret.
    """
    names = sorted(ours)
    known = {*names, *FRONTEND}
    found = []
    for name, value in sorted(environment.items()):
        # As pydantic does, a setting is known in lower case too.
        if not name.startswith(PREFIX) or name.upper() in known or is_injected(name, value):
            continue
        # Without the prefix, which would make all names alike.
        endings = [each.removeprefix(PREFIX) for each in names]
        nearest = get_close_matches(name.removeprefix(PREFIX), endings, 1)
        meant = f" Did you mean {PREFIX}{nearest[0]}?" if nearest else ""
        found.append(
            f"The environment variable {name} is not a setting, and is ignored.{meant} "
            "`python -m service settings` lists the settings."
        )
    return found
