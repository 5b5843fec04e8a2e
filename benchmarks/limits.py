"""Upper limits of the machine without any server: forward passes, with and without decoding.

    python -m benchmarks.limits '{"bundle": "models/NAME/1", "artifact": "openvino-int8",
                                  "images": ["photo.jpg"], "batch": 8}'

prints images per second of both as one line of JSON. One process per core with one thread each, so
no thread waits for another: the most that a server on this machine could reach.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from bundle.errors import RuntimeUnavailable
from bundle.format.manifest import read_manifest
from bundle.imaging.decode import read_input
from bundle.machine import tune_malloc, usable_cores
from bundle.runtimes import load_model

START_TIMEOUT_S = 120  # for the slowest process to load its model


@dataclass(frozen=True)
class Work:
    """What each process repeats for `seconds` seconds."""

    bundle: str
    artifact: str
    images: list[str]
    batch: int
    seconds: float = 4.0


def measure(work: Work) -> dict[str, float]:
    """Images per second of all cores: `forward` and `decode_and_forward`.

    Empty if the runtime of the artifact is not available.
    """
    context = multiprocessing.get_context("spawn")
    cores = usable_cores()
    barrier = context.Barrier(cores)
    queue: Queue[dict[str, float]] = context.Queue()
    processes = [context.Process(target=_repeat, args=(work, barrier, queue)) for _ in range(cores)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=START_TIMEOUT_S) for _ in processes]
    for process in processes:
        process.join()
    return {name: sum(result[name] for result in results) for name in results[0]}


def _repeat(work: Work, barrier: Barrier, queue: Queue[dict[str, float]]) -> None:
    tune_malloc()
    manifest = read_manifest(Path(work.bundle))
    artifact = manifest.artifact(work.artifact)
    assert artifact is not None  # noqa: S101 - it is taken from this manifest
    try:
        model = load_model(Path(work.bundle), artifact, "cpu", 1)
    except RuntimeUnavailable:
        queue.put({})
        return
    files = [Path(image).read_bytes() for image in work.images]
    first = [files[i % len(files)] for i in range(work.batch)]
    pixels = np.stack([read_input(file, manifest.input).pixels for file in first])
    for _ in range(3):
        model.run(pixels)
    speeds = {}
    for name, decodes in (("forward", False), ("decode_and_forward", True)):
        barrier.wait(START_TIMEOUT_S)
        done, begin = 0, time.perf_counter()
        while (passed := time.perf_counter() - begin) < work.seconds:
            if decodes:
                batch = [files[(done + i) % len(files)] for i in range(work.batch)]
                pixels = np.stack([read_input(file, manifest.input).pixels for file in batch])
            model.run(pixels)
            done += work.batch
        speeds[name] = done / passed
    queue.put(speeds)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Work(**json.loads(sys.argv[1])))) + os.linesep)
