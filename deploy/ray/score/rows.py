"""The rows of a shard as a Parquet file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bundle.certainty import doubt
from bundle.format.manifest import Manifest
from bundle.runtimes import Logits
from bundle.scores import calibrated_softmax, top_k
from deploy.ray.score.plan import Plan
from deploy.ray.score.scoring import Failure

COLUMNS = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.string())),
        pa.field("indices", pa.list_(pa.int32())),
        pa.field("scores", pa.list_(pa.float64())),
        pa.field("uncertain", pa.bool_()),
        pa.field("error_code", pa.string()),
        pa.field("error_detail", pa.string()),
    ]
)
"""An image each, by its path below the root: labels best first, or an error."""


def parquet(
    plan: Plan, manifest: Manifest, paths: Sequence[str], found: Sequence[Logits | Failure]
) -> bytes:
    """A file with a row for each image, and the model in its schema's metadata.

    Args:
        plan: Of the run.
        manifest: Of the bundle.
        paths: Of the images.
        found: What came of each: logits, float32 [C], or why there are none.
    """
    about = {
        "model": plan.model,
        "version": str(plan.version),
        "digest": plan.digest,
        "artifact": plan.artifact,
    }
    rows = [
        {"image": _text(path), **_answer(plan.top, manifest, each)}
        for path, each in zip(paths, found, strict=True)
    ]
    file = BytesIO()
    table = pa.Table.from_pylist(rows, COLUMNS.with_metadata(about))
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def _answer(top: int, manifest: Manifest, found: Logits | Failure) -> dict[str, Any]:
    """As the service's, see `service.api.responses.answer`."""
    if isinstance(found, Failure):
        return {"error_code": found.code, "error_detail": found.detail}
    scores = calibrated_softmax(found, manifest.calibration.temperature)
    best = top_k(scores, manifest.labels, top)
    uncertain = None
    if manifest.rejection is not None:
        uncertain = doubt(manifest.rejection, found, best[0]["score"]) is not None
    return {
        "labels": [each["label"] for each in best],
        "indices": [each["index"] for each in best],
        "scores": [each["score"] for each in best],
        "uncertain": uncertain,
    }


def _text(path: str) -> str:
    """The path, with bytes that are not UTF-8 as `\\xNN`: a file's name may have any."""
    return os.fsencode(path).decode(errors="backslashreplace")
