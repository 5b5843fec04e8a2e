"""What runs on the machines of a cluster: an actor that scores shards, and a first look."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.errors import BundleError
from bundle.format.manifest import read_manifest
from bundle.worker.model_process import ModelProcess
from deploy.ray.score.errors import ScoringError
from deploy.ray.score.plan import Plan, part_name, paths_of
from deploy.ray.score.rows import parquet
from deploy.ray.score.scoring import START_S, Failure, Scorer
from deploy.ray.score.storage import open_storage


@dataclass(frozen=True)
class Work:
    """What every worker is told.

    Attributes:
        bundle: Folder of the bundle, as every machine sees it.
        out: Address of the output.
        threads: CPU threads of one worker.
    """

    bundle: str
    out: str
    threads: int


def choose(work: Work, wanted: str) -> tuple[str, str | None]:
    """The id of the artifact that a worker takes, or why there is none."""

    async def start() -> str:
        process = _process(work, wanted)
        try:
            return (await process.start(START_S))["artifact_id"]
        finally:
            await process.kill()

    try:
        return asyncio.run(start()), None
    except BundleError as exc:
        return wanted, f"{exc.code}: {exc}"


class ShardScorer:
    """Scores one shard after another; each is written when it is whole.

    Args:
        work: What every worker is told.
        plan: Of the run.
    """

    def __init__(self, work: Work, plan: Plan) -> None:
        self._work = work
        self._plan = plan
        self._runner = asyncio.Runner()
        self._scorer: Scorer | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Score the one shard of a batch: images, and why the run can't go on, or an empty text."""
        shard, failed, failure = int(batch["shard"][0]), 0, ""
        try:
            failed = self._runner.run(self._score(shard))
        except BundleError as exc:
            failure = f"The model can't be started. {exc.code}: {exc}"
        except ScoringError as exc:
            failure = str(exc)
        return {"shard": [shard], "failed": [failed], "failure": [failure]}

    async def _score(self, shard: int) -> int:
        """Write the rows of a shard; returns how many images have no answer."""
        plan, work = self._plan, self._work
        out = open_storage(work.out)
        if self._scorer is None:
            images = open_storage(plan.source)
            self._manifest = read_manifest(Path(work.bundle))
            self._scorer = Scorer(lambda: _process(work, plan.artifact), plan.digest, images.read)
        paths = paths_of(shard, out)
        found = await self._scorer.score(paths)
        out.write(part_name(shard), parquet(plan, self._manifest, paths, found))
        return sum(isinstance(each, Failure) for each in found)

    def __del__(self) -> None:
        """Ray deletes it at the end of the run: the process of the model ends, and its folder."""
        if self._scorer is not None:
            self._runner.run(self._scorer.close())
        self._runner.close()


def _process(work: Work, artifact: str) -> ModelProcess:
    return ModelProcess(Path(work.bundle), artifact, threads=work.threads, confined=True)
