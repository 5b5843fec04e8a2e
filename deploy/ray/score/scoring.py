"""The images of a shard through the process of a model: batches, and what becomes of bad ones.

A batch with which the process ends is run again in another one, image by image; the images with
which it ends again get an error, and the others their answers.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from bundle.errors import ImageError, RuntimeUnavailable, WorkerDied
from bundle.imaging.decode import ImageLimits
from bundle.runtimes import Logits
from bundle.worker.model_process import ModelProcess
from deploy.ray.score.errors import FileUnreadable, Stopped

# As SERVICE_MAX_BATCH.
MAX_BATCH = 32
# Files that are read at once: stores answer slowly, and many at a time.
READERS = 32
# Of the files of a batch together, to bound the memory of the process.
BATCH_BYTES = 64 * 2**20
START_S, BATCH_S, IMAGE_S = 600.0, 120.0, 30.0
# How often an image is run alone before it gets an error.
ATTEMPTS = 2
# One byte more than the decoder takes, so that it refuses what is too long.
READ_BYTES = ImageLimits().max_bytes + 1


class Failure(NamedTuple):
    """Why an image has no answer: a code, as in docs/errors.md, and a sentence."""

    code: str
    detail: str


class Scorer:
    """Classifies files with a process that it replaces when it ends.

    Args:
        new_process: Makes a process that is not started.
        digest: Of the bundle that it has to have.
        read: The bytes of a file by its path, at most so many. It raises `FileUnreadable`.
    """

    def __init__(
        self,
        new_process: Callable[[], ModelProcess],
        digest: str,
        read: Callable[[str, int], bytes],
    ) -> None:
        self._new_process = new_process
        self._digest = digest
        self._read = read
        self._process: ModelProcess | None = None
        self._readers = ThreadPoolExecutor(READERS)

    async def score(self, paths: Sequence[str]) -> list[Logits | Failure]:
        """The logits of each image, float32 [C], or why it has none.

        Raises:
            BundleError: The model can't be started.
            Stopped: The bundle is another one, or the files can't be reached.
        """
        process = await self._running()
        streams, best = process.info["streams"], process.info["batch_size"] or MAX_BATCH
        size = min(MAX_BATCH, math.ceil(best / streams))
        positions = range(len(paths))
        waiting = deque(positions[start : start + size] for start in positions[::size])
        found: dict[int, Logits | Failure] = {}
        suspects: list[int] = []

        async def pull() -> None:
            while waiting and process.running:
                batch = waiting.popleft()
                try:
                    found.update(await self._classify(process, paths, batch, BATCH_S))
                except (WorkerDied, RuntimeUnavailable):
                    suspects.extend(batch)

        while waiting:
            process = await self._running()
            # One batch more than streams, which is read and decoded ahead.
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(streams + 1):
                        group.create_task(pull())
            except ExceptionGroup as group_:
                raise group_.exceptions[0] from group_
        for position in suspects:
            found[position] = await self._alone(paths, position)
        return [found[position] for position in positions]

    async def _alone(self, paths: Sequence[str], position: int) -> Logits | Failure:
        error: WorkerDied | RuntimeUnavailable | None = None
        for _ in range(ATTEMPTS):
            process = await self._running()
            try:
                return (await self._classify(process, paths, (position,), IMAGE_S))[position]
            except (WorkerDied, RuntimeUnavailable) as exc:
                error = exc
        assert error is not None  # noqa: S101 - there is an attempt
        return Failure(error.code, f"The model fails on this image, each time. {error}")

    async def _running(self) -> ModelProcess:
        """The process, started unless it runs."""
        if self._process is not None and self._process.running:
            return self._process
        await self.close()
        process = self._process = self._new_process()
        info = await process.start(START_S)
        if info["digest"] != self._digest:
            raise Stopped(
                "The bundle is not the one that was planned with. Expected the same on each "
                f"machine, until the end: digest {self._digest}. Received: {info['digest']}"
            )
        return process

    async def _classify(
        self, process: ModelProcess, paths: Sequence[str], batch: Sequence[int], timeout_s: float
    ) -> dict[int, Logits | Failure]:
        """What comes of the images at these positions; raises as `ModelProcess.classify`."""
        loop = asyncio.get_running_loop()
        read = [loop.run_in_executor(self._readers, self._file, paths[each]) for each in batch]
        files = dict(zip(batch, await asyncio.gather(*read), strict=True))
        images = {each: file for each, file in files.items() if isinstance(file, bytes)}
        answers: dict[int, Logits | Failure] = {
            each: file for each, file in files.items() if isinstance(file, Failure)
        }
        for some in _of_bytes(images, BATCH_BYTES):
            done = await process.classify([images[i] for i in some], timeout_s, exclusive=False)
            for each, image in zip(some, done.images, strict=True):
                if isinstance(image, ImageError):
                    answers[each] = Failure(image.code, str(image))
                else:
                    answers[each] = image.logits
        return answers

    def _file(self, path: str) -> bytes | Failure:
        try:
            return self._read(path, READ_BYTES)
        except FileUnreadable as exc:
            return Failure(exc.code, str(exc))

    async def close(self) -> None:
        """End the process."""
        if self._process is not None:
            await self._process.kill()
            self._process = None


def _of_bytes(files: Mapping[int, bytes], limit: int) -> Iterator[list[int]]:
    """The keys of the files in order, in lists of up to `limit` bytes, or of one larger file."""
    found: list[int] = []
    size = 0
    for each, file in files.items():
        if found and size + len(file) > limit:
            yield found
            found, size = [], 0
        found.append(each)
        size += len(file)
    if found:
        yield found
