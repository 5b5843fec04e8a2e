"""What a run computes: written once to its output, and held to by every run that goes on with it.

    _plan.json           model, options, number of images and a hash of their paths
    _plan/00000.json     the paths of the images of the first shard, and so on

Readers of a folder of Parquet files pass over names that begin like that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice

from bundle.format.manifest import Manifest
from bundle.worker.selection import AUTO
from deploy.ray.score.errors import FileUnreadable, Refused, Stopped
from deploy.ray.score.storage import Storage

PLAN_FILE = "_plan.json"
MAX_PLAN_BYTES = 100_000
# Of one shard; a path has 4,096 bytes at most.
MAX_PATHS_BYTES = 2**30

_WORDS = {
    "model": "model",
    "version": "version",
    "digest": "digest of the bundle",
    "artifact": "artifact",
    "source": "--images",
    "shard": "images of a shard (--shard)",
    "limit": "--limit",
    "top": "labels of an image (--top)",
    "count": "number of images",
    "sha256": "hash of their paths",
}


@dataclass(frozen=True)
class Plan:
    """The options that decide what is in the output, and the images.

    Attributes:
        model, version, digest: Of the bundle.
        artifact: Id of the artifact; `auto` until a worker has chosen it.
        source: Address of the images.
        shard: Images of a shard.
        limit: Images at most; None: all.
        top: Labels for each image.
        count: Images.
        sha256: Of the paths of the images, each with a zero byte at its end.
    """

    model: str
    version: int
    digest: str
    artifact: str
    source: str
    shard: int
    limit: int | None
    top: int
    count: int = 0
    sha256: str = ""

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.count // self.shard)

    def size(self, shard: int) -> int:
        """Images of a shard, by its number from 0."""
        return min(self.shard, self.count - shard * self.shard)


def new_plan(
    manifest: Manifest, artifact: str, source: str, shard: int, limit: int | None, top: int
) -> Plan:
    """A plan whose images are not known yet."""
    return Plan(
        *(manifest.name, manifest.version, manifest.digest, artifact, source, shard, limit, top)
    )


def part_name(shard: int) -> str:
    """The file that the rows of a shard are in."""
    return f"part-{shard:05}.parquet"


def _paths_name(shard: int) -> str:
    return f"_plan/{shard:05}.json"


def read_plan(out: Storage) -> Plan | None:
    """The plan of an output; None: there is none yet.

    Raises:
        Refused: The output is not one of this program, or can't be read.
    """
    if PLAN_FILE not in out.names():
        return None
    try:
        return Plan(**json.loads(out.read(PLAN_FILE, MAX_PLAN_BYTES)))
    except (FileUnreadable, Stopped, TypeError, ValueError) as exc:
        raise Refused(
            f"{PLAN_FILE} of the output can't be used. Expected another --out, or that of a run "
            f"of this version. Received: {type(exc).__name__}: {exc}"
        ) from exc


def counted(plan: Plan, images: Storage, out: Storage | None = None) -> Plan:
    """The plan with its images, as they lie there now.

    Args:
        plan: How many, and how large the shards are.
        images: Where they lie.
        out: Where the paths are written to; None: nowhere.

    Raises:
        Refused: There are none, or they can't be listed.
        Stopped: The paths can't be written.
    """
    digest, count = hashlib.sha256(), 0
    paths = islice(images.images(), plan.limit)
    for number, shard in enumerate(_batched(paths, plan.shard)):
        digest.update(b"".join(path.encode(errors="surrogateescape") + b"\0" for path in shard))
        count += len(shard)
        if out is not None:
            out.write(_paths_name(number), json.dumps(shard).encode())
    if not count:
        raise no_images(plan.source)
    return replace(plan, count=count, sha256=digest.hexdigest())


def no_images(address: str) -> Refused:
    """The error for a place without images."""
    return Refused(f"There is no image. Expected files of a known type. Received: {address}")


def _batched(paths: Iterator[str], size: int) -> Iterator[list[str]]:
    while batch := list(islice(paths, size)):
        yield batch


def keep(plan: Plan, out: Storage) -> None:
    """Write the plan, whose paths are written: from now on it holds.

    Raises:
        Stopped: It can't be written.
    """
    out.write(PLAN_FILE, json.dumps(asdict(plan), indent=2).encode())


def check_same(held: Plan, asked: Plan) -> None:
    """Check that a run goes on with the plan of its output.

    Args:
        held: The plan.
        asked: What the run would have planned.

    Raises:
        Refused: It would not; the text says what differs.
    """
    if asked.artifact == AUTO:
        asked = replace(asked, artifact=held.artifact)
    old, new = asdict(held), asdict(asked)
    different = [field for field in _WORDS if old[field] != new[field]]
    # The hash is the last, and follows from most others.
    fields = different[:-1] if different[1:] and different[-1] == "sha256" else different
    if fields:
        differs = "; ".join(
            f"{_WORDS[field]}: {old[field]}, received {new[field]}" for field in fields
        )
        raise Refused(
            "The output belongs to another run. Expected the same options and images as it has, "
            f"or another --out. It has {differs}"
        )


def paths_of(shard: int, out: Storage) -> list[str]:
    """The images of a shard.

    Raises:
        Stopped: They can't be read.
    """
    try:
        found: list[str] = json.loads(out.read(_paths_name(shard), MAX_PATHS_BYTES))
    except (FileUnreadable, ValueError) as exc:
        raise Stopped(f"{_paths_name(shard)} of the output can't be used: {exc}") from exc
    return found


def missing(plan: Plan, present: Iterable[str]) -> list[int]:
    """The shards whose files are not among those that are present."""
    done = set(present)
    return [shard for shard in range(plan.shards) if part_name(shard) not in done]
