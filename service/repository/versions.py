"""Which versions of a model are loaded: `latest`, `latest:N`, `all`, or their numbers."""

from __future__ import annotations

from collections.abc import Collection

LATEST, ALL = "latest", "all"


def named_versions(policy: str) -> set[int]:
    """The numbers of a policy that has some."""
    if policy == ALL or policy.startswith(LATEST):
        return set()
    return {int(number) for number in policy.split(",")}


def wanted_versions(policy: str, available: Collection[int], refused: Collection[int]) -> set[int]:
    """The versions that should be loaded.

    Args:
        policy: as SERVICE_VERSIONS has it.
        available: those in the repository.
        refused: those that were tried and can't be served. `latest` takes an older one in the place
            of each, and keeps them, because their refusal is reported and their files may change.
    """
    if policy == ALL:
        return set(available)
    if not policy.startswith(LATEST):
        return named_versions(policy) & set(available)
    missing = int(policy.partition(":")[2] or 1)
    found: set[int] = set()
    for version in sorted(available, reverse=True):
        if not missing:
            break
        found.add(version)
        missing -= version not in refused
    return found
