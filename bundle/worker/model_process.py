"""The asyncio side of the process that holds a model: files or pixels in, logits and more out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from bundle.errors import BundleError, ImageError, RuntimeUnavailable, WorkerDied
from bundle.imaging.decode import ImageInfo, ImageLimits
from bundle.machine import has_gpu
from bundle.runtimes import Device, Outputs
from bundle.sandbox import MODEL_MEMORY_MB, Sandbox
from bundle.worker.client import GRACE_S, FramedProcess, image_error, raise_error
from bundle.worker.process import OpenMPWait, Reason, environment
from bundle.worker.responses import Classified, ClassifiedBatch, Extras, RuntimeInfo
from bundle.worker.selection import SOURCE
from bundle.worker.signature import check_signature
from bundle.worker.wire import Array, WireClosed

Pixels = npt.NDArray[np.uint8]


class ModelProcess:
    """A child process that holds one artifact of one bundle, loaded and self-tested.

    Started once; after its end the caller makes another.

    Args:
        bundle_dir: The bundle folder.
        artifact: `source`, `auto` (see `bundle.worker.selection`) or the id of an artifact.
        device: `auto`, `cpu` or `cuda`.
        threads: CPU threads of the framework; None: the cores that this process may use.
        compiled: A folder in which the runtime may cache what it compiles.
        limits: Of the files that it decodes.
        openmp_wait, gpu: See `bundle.worker.process.environment`.
        confined: Run it in a sandbox, see `bundle.sandbox`.
        memory_mb: Memory limit of that, in MB.
        signers: One of these must have signed the bundle, see `bundle.signing.signers`; None:
            nobody has to.
    """

    def __init__(
        self,
        bundle_dir: Path,
        artifact: str = SOURCE,
        device: Device = "auto",
        threads: int | None = None,
        *,
        compiled: Path | None = None,
        limits: ImageLimits | None = None,
        openmp_wait: OpenMPWait = "passive",
        gpu: int | None = None,
        confined: bool = False,
        memory_mb: int = MODEL_MEMORY_MB,
        signers: Path | None = None,
    ) -> None:
        bundle = str(Path(bundle_dir).absolute())
        folder = str(compiled.absolute()) if compiled else None
        uses_gpu = device != "cpu" and has_gpu()
        sandbox = Sandbox(
            read=(bundle,),
            write=(folder,) if folder else (),
            memory_bytes=memory_mb * 2**20,
            gpu=uses_gpu,
            scratch=not uses_gpu,
        )
        self._bundle, self._signers, self._confined = Path(bundle), signers, confined
        self._arguments: dict[str, Any] = {
            "bundle": bundle,
            "artifact": artifact,
            "device": device,
            "threads": threads,
            "compiled": folder,
            "limits": dataclasses.asdict(limits or ImageLimits()),
        }
        self._process = FramedProcess(
            "bundle.worker",
            self._arguments,
            environment(device, threads, openmp_wait, gpu),
            sandbox=sandbox if confined else None,
        )
        self._info: RuntimeInfo | None = None

    @property
    def running(self) -> bool:
        """Whether it is ready and has not ended."""
        return self._process.running

    @property
    def pid(self) -> int | None:
        """Process id; None before the start. It stays after the end."""
        return self._process.pid

    @property
    def reason(self) -> Reason | None:
        """Why it has ended, once `kill` has returned."""
        return self._process.reason

    @property
    def info(self) -> RuntimeInfo:
        """The ready frame; `RuntimeError` before `start`."""
        if self._info is None:
            raise RuntimeError("The process of the model is not started.")
        return self._info

    async def start(self, timeout_s: float) -> RuntimeInfo:
        """Start it and wait until the bundle is verified and loaded and its golden samples pass.

        Raises:
            WorkerDied: It ended, or was not ready within `timeout_s` seconds, as was the check of
                the signature, if there is one.
            BundleError: The bundle is not valid, or cannot be run here. In either case no process
                is left behind.
        """
        signer = None
        if self._signers is not None:
            signature = await check_signature(
                self._bundle, self._signers, timeout_s, confined=self._confined
            )
            # It loads nothing but what was signed.
            self._arguments["manifest_sha256"] = signature.manifest_sha256
            signer = signature.signer
        try:
            header = await self._process.start(timeout_s)
        except WireClosed as exc:
            raise WorkerDied(str(exc)) from exc
        try:
            raise_error(header)
        except BundleError:
            await self.kill()
            raise
        self._info = cast("RuntimeInfo", {**header, "signer": signer})
        return self._info

    async def classify(
        self,
        images: Sequence[bytes | Pixels],
        timeout_s: float,
        *,
        exclusive: bool,
        extras: Mapping[int, Extras] | None = None,
    ) -> ClassifiedBatch:
        """Run one batch; a file that can't be decoded is an error in its place.

        Args:
            images: Image files, or pixels uint8 [H, W, 3] of the model's input size.
            timeout_s: Time limit in seconds, counted from the end of the batch before.
            exclusive: Use all cores; otherwise one inference stream, because others are in flight.
            extras: By the position of an image; the others get logits alone.

        Raises:
            WorkerDied: It has ended, or exceeded the time limit and was killed.
            RuntimeUnavailable: The model fails (out of memory); the process stays up.
        """
        arrays = [
            np.frombuffer(image, np.uint8) if isinstance(image, bytes) else image
            for image in images
        ]
        header: dict[str, Any] = {"method": "classify", "exclusive": exclusive}
        if extras:
            header["extras"] = [[position, *wanted] for position, wanted in extras.items()]
        header, arrays = await self._ask(header, arrays, timeout_s)
        try:
            return _read_batch(self.info, header, arrays, len(images), extras or {})
        except (KeyError, TypeError, ValueError) as exc:
            ending = await self.kill()
            raise WorkerDied(
                f"The process that runs the model sent an invalid frame: {exc!r}. {ending}"
            ) from exc

    async def run(
        self,
        pixels: Pixels,
        timeout_s: float,
        class_index: npt.NDArray[np.int64] | None = None,
        *,
        embeddings: bool = False,
    ) -> Outputs:
        """As `bundle.runtimes.Model.run`, on all cores. Raises as `classify`."""
        header = {"method": "run", "embeddings": embeddings}
        given: list[Array] = [pixels] if class_index is None else [pixels, class_index]
        _, arrays = await self._ask(header, given, timeout_s)
        count, explained = len(pixels), class_index is not None
        _check_shapes(arrays, _shapes(self.info, count, count * explained, count * embeddings))
        remaining = iter(arrays[1:])
        return Outputs(
            arrays[0],
            next(remaining) if explained else None,
            next(remaining) if embeddings else None,
        )

    async def _ask(
        self, header: dict[str, Any], arrays: Sequence[Array], timeout_s: float
    ) -> tuple[dict[str, Any], list[Array]]:
        try:
            found, results = await self._process.ask(header, arrays, timeout_s)
        except (TimeoutError, WireClosed) as exc:
            timed_out = isinstance(exc, TimeoutError)
            what = "did not answer in time and is killed" if timed_out else "ended"
            ending = await self._process.kill(0 if timed_out else GRACE_S)
            raise WorkerDied(f"The process that runs the model {what}. {ending}") from exc
        raise_error(found)
        return found, results

    async def kill(self, grace_s: float = 0) -> str:
        """Kill it unless it exits within `grace_s` seconds; exit status and last output lines."""
        return await self._process.kill(grace_s)

    def kill_now(self) -> None:
        """Kill it from any thread; the requests in flight fail with `WorkerDied`."""
        self._process.kill_now()


def _read_batch(
    info: RuntimeInfo,
    header: dict[str, Any],
    arrays: list[Array],
    count: int,
    extras: Mapping[int, Extras],
) -> ClassifiedBatch:
    """The images of the response to a batch of `count` images.

    Raises:
        KeyError, TypeError, ValueError: It is not one.
        RuntimeUnavailable: An array has another shape.
    """
    records: list[dict[str, Any]] = header["images"]
    if len(records) != count:
        raise ValueError(f"{len(records)} images in place of {count}")
    failed = sum("error" in record for record in records)
    wanted = [extras[i] for i in extras if "error" not in records[i]]
    explained = sum(each.class_index is not None for each in wanted)
    embedded = sum(each.embedding for each in wanted)
    shapes = _shapes(info, count - failed, explained, embedded) if failed < count else []
    _check_shapes(arrays, shapes)
    remaining = iter(arrays)
    rows = iter(next(remaining, ()))
    heatmaps = iter(next(remaining) if explained else ())
    embeddings = iter(next(remaining) if embedded else ())
    images: list[Classified | ImageError] = []
    for position, record in enumerate(records):
        if "error" in record:
            images.append(image_error(record))
            continue
        described = ImageInfo(**record["info"]) if "info" in record else None
        image = Classified(next(rows), described)
        if (extra := extras.get(position)) is not None:
            image = image._replace(
                heatmap=None if extra.class_index is None else next(heatmaps),
                embedding=next(embeddings) if extra.embedding else None,
            )
        images.append(image)
    return ClassifiedBatch(images, float(header["decode_s"]), float(header["infer_s"]))


def _shapes(
    info: RuntimeInfo, logits: int, heatmaps: int, embeddings: int
) -> list[tuple[int, ...]]:
    """The shapes of the arrays of a response with that many of each; none of one is no array."""
    shapes: list[tuple[int, ...]] = [(logits, info["classes"])]
    if heatmaps:
        shapes.append((heatmaps, *(info["heatmap"] or ())))
    if embeddings:
        shapes.append((embeddings, info["embedding"] or 0))
    return shapes


def _check_shapes(results: list[Array], shapes: list[tuple[int, ...]]) -> None:
    """Raise `RuntimeUnavailable` unless a worker's arrays are float32 of `shapes`."""
    if [array.shape for array in results] != shapes or any(
        array.dtype != np.float32 for array in results
    ):
        raise RuntimeUnavailable(
            f"The model's output has another shape. Expected float32 {shapes}. "
            f"Received: {[f'{array.dtype} {array.shape}' for array in results]}"
        )
