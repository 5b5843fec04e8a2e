from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.errors import (
    BundleError,
    GoldenMismatch,
    IntegrityFailed,
    ManifestInvalid,
    RuntimeUnavailable,
    WorkerDied,
)
from bundle.format.manifest import MANIFEST_FILE
from bundle.worker.blocking import RuntimeProcess
from bundle.worker.model_process import Pixels
from bundle.worker.selection import SOURCE
from tests.bundle.worker.processes import pause
from tests.bundles import colour_picture
from tests.tiny_networks import LABELS

IMAGES = np.stack([colour_picture(label, (32, 32), seed=5) for label in LABELS])
TIMEOUT_S = 120.0


@pytest.fixture(scope="module")
def torch_bundle(torch_bundle_root: Path) -> Path:
    return torch_bundle_root / "tiny-torch" / "1"


@pytest.fixture
def process(quick_root: Path) -> RuntimeProcess:
    """A process that is not started: the quickest to start."""
    return RuntimeProcess(quick_root / "tiny-torch" / "1", "openvino-fp32", threads=1)


@pytest.fixture(scope="module")
def torch_process(torch_bundle: Path) -> Iterator[RuntimeProcess]:
    with RuntimeProcess(torch_bundle, threads=1) as process:
        process.start(TIMEOUT_S)
        yield process


def changed(source: Path, target: Path, change: dict[str, Any]) -> Path:
    """A copy of a bundle with other manifest fields."""
    shutil.copytree(source, target)
    record = json.loads((target / MANIFEST_FILE).read_text()) | change
    (target / MANIFEST_FILE).write_text(json.dumps(record))
    return target


def test_the_torch_bundle_classifies(torch_process: RuntimeProcess) -> None:
    check_results(torch_process, "torchscript")


def test_the_keras_bundle_classifies_and_agrees_with_torch(
    keras_bundle_root: Path, torch_process: RuntimeProcess
) -> None:
    with RuntimeProcess(keras_bundle_root / "tiny-keras" / "1", threads=1) as process:
        process.start(TIMEOUT_S)
        check_results(process, "tensorflow")

        mapped = Path(f"/proc/{process.pid}/maps").read_text()
        assert "/tensorflow/" in mapped
        assert "/pandas/" not in mapped, "Keras, which brings it along, is not needed to serve"
        assert np.allclose(process.infer(IMAGES, 30), torch_process.infer(IMAGES, 30), atol=1e-4)
        with pytest.raises(ValueError, match="class index"):
            process.explain(IMAGES, np.full(3, 3, np.int64), 30)


def check_results(process: RuntimeProcess, runtime: str) -> None:
    logits = process.infer(IMAGES, 30)
    again, heatmap = process.explain(IMAGES, np.arange(3), 30)

    assert process.info["runtime"] == runtime
    assert process.info["precision"] == "fp32"
    assert logits.argmax(axis=1).tolist() == [0, 1, 2]
    assert np.allclose(logits, again, atol=1e-5)
    assert heatmap.shape == (3, 32, 32)
    # With global average pooling the mean of the map is the class's logit, less the bias (Zhou et
    # al. 2016).
    assert np.allclose(heatmap.mean(axis=(1, 2)), logits[range(3), range(3)], atol=1e-4)


def test_logits_do_not_depend_on_the_batch(torch_process: RuntimeProcess) -> None:
    alone = torch_process.infer(IMAGES[1:2], 30)[0]

    amid = torch_process.infer(np.concatenate([IMAGES] * 21), 30)

    assert amid.shape == (63, 3)
    assert np.allclose(amid[1::3], alone, atol=1e-5)


def test_many_images_are_inferred_in_batches(torch_process: RuntimeProcess) -> None:
    images = np.tile(IMAGES, (100, 1, 1, 1))
    sizes: list[int] = []

    def progress(batches: list[Pixels]) -> Iterator[Pixels]:
        for batch in batches:
            yield batch
            sizes.append(len(batch))

    logits = torch_process.infer_all(images, TIMEOUT_S, progress)

    assert len(sizes) > 1
    assert sum(sizes) == len(images)
    expected = np.tile(torch_process.infer(IMAGES, TIMEOUT_S), (100, 1))
    assert np.allclose(logits, expected, atol=1e-4)


def test_concurrent_callers_get_their_own_logits(torch_process: RuntimeProcess) -> None:
    found: dict[int, int] = {}

    def ask(number: int) -> None:
        found[number] = int(torch_process.infer(IMAGES[number % 3][None], 30).argmax())

    threads = [threading.Thread(target=ask, args=[number]) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {number: number % 3 for number in range(24)}


@pytest.mark.parametrize(
    "pixels",
    [IMAGES[:0], IMAGES[0], IMAGES.astype(np.float32), IMAGES[:, :16], IMAGES[..., :1]],
    ids=["empty", "no-batch", "float", "size", "grey"],
)
def test_wrong_arrays_are_a_value_error_and_the_child_lives(
    torch_process: RuntimeProcess, pixels: Any
) -> None:
    with pytest.raises(ValueError, match="Expected pixels"):
        torch_process.infer(pixels, 30)

    assert torch_process.alive


def test_a_hanging_child_is_killed_when_the_time_is_over(process: RuntimeProcess) -> None:
    process.start(TIMEOUT_S)
    assert process.pid is not None
    pause(process.pid)

    with pytest.raises(WorkerDied, match="did not answer in time"):
        process.infer(IMAGES, 0.5)

    assert not process.alive


def test_a_killed_child_is_noticed_at_once_and_not_after_the_timeout(
    process: RuntimeProcess,
) -> None:
    process.start(TIMEOUT_S)
    pid = process.pid
    assert pid is not None
    pause(pid)  # it holds the request, then it is killed
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()

    # After the timeout it would be "did not answer in time".
    with pytest.raises(WorkerDied, match=r"ended.*SIGKILL"):
        process.infer(IMAGES, 300)
    with pytest.raises(WorkerDied):
        process.infer(IMAGES, 300)

    process.stop()


def test_stopping_ends_the_process_and_may_be_repeated(process: RuntimeProcess) -> None:
    info = process.start(TIMEOUT_S)
    pid = process.pid

    process.stop()
    process.stop()

    assert info["artifact_id"] == "openvino-fp32"
    assert not process.alive
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(WorkerDied, match="stopped"):
        process.infer(IMAGES, 1)
    with pytest.raises(RuntimeError, match="started once"):
        process.start(1)


def test_signals_to_the_whole_process_group_never_end_the_child(
    process: RuntimeProcess,
) -> None:
    def signal_it() -> None:
        assert process.pid is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process.pid, number)

    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(process.start, TIMEOUT_S)
        while process.pid is None:
            time.sleep(0.001)
        signal_it()
        starting.result()
    signal_it()

    assert process.infer(IMAGES, 30).argmax(axis=1).tolist() == [0, 1, 2]
    process.stop()
    assert not process.alive


def test_a_child_that_is_not_ready_in_time_is_gone(process: RuntimeProcess) -> None:
    with pytest.raises(WorkerDied, match="was not ready in time"):
        process.start(0)

    assert not process.alive


def test_the_child_ends_with_its_parent(torch_bundle: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path\n"
        "from bundle.worker.blocking import RuntimeProcess\n"
        "process = RuntimeProcess(Path(sys.argv[1]), threads=1); process.start(120)\n"
        "assert not {'torch', 'tensorflow'} & set(sys.modules)\n"
        "print(process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(torch_bundle)], capture_output=True, check=False
    )
    pid = int(done.stdout)

    deadline = time.monotonic() + 60
    while _running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert not _running(pid)
    assert done.stderr == b""


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_wrong_bundle_is_refused_with_its_own_error(torch_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(torch_bundle, tmp_path / "extra")
    (tmp_path / "extra" / "more").write_bytes(b"")
    record = json.loads((torch_bundle / MANIFEST_FILE).read_text())
    record["golden"]["samples"][2]["top"][0]["score"] = 0.9
    size = record["heatmap"] | {"height": 4, "width": 4}
    wrong: list[tuple[Path, str, type[BundleError], str]] = [
        (tmp_path / "none", SOURCE, ManifestInvalid, "cannot be read"),
        (tmp_path / "extra", SOURCE, IntegrityFailed, "not listed"),
        (torch_bundle, "onnx", RuntimeUnavailable, "torchscript-fp32"),
        (
            changed(torch_bundle, tmp_path / "map", {"heatmap": size}),
            SOURCE,
            RuntimeUnavailable,
            "another shape",
        ),
        (
            changed(torch_bundle, tmp_path / "golden", {"golden": record["golden"]}),
            SOURCE,
            GoldenMismatch,
            r"records 0.900000 with tolerance 0.001.*golden/red.png",
        ),
    ]

    for path, artifact, error, text in wrong:
        process = RuntimeProcess(path, artifact, threads=1)
        with pytest.raises(error, match=text):
            process.start(TIMEOUT_S)
        assert not process.alive


def test_a_file_that_is_no_model_is_refused(torch_bundle: Path, tmp_path: Path) -> None:
    data = b"not a model"
    digest = hashlib.sha256(data).hexdigest()
    record = json.loads((torch_bundle / MANIFEST_FILE).read_text())
    record["files"]["model.pt"] = {"size": len(data), "sha256": digest}
    path = changed(torch_bundle, tmp_path / "1", record)
    (path / "model.pt").write_bytes(data)

    with pytest.raises(RuntimeUnavailable, match="does not load"):
        RuntimeProcess(path, threads=1).start(TIMEOUT_S)
