"""The command as a process that is killed, and as a function that refuses."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from bundle.format.manifest import read_manifest
from deploy.ray.score.command import score
from deploy.ray.score.errors import Refused
from deploy.ray.score.plan import Plan, counted, keep, new_plan, part_name
from deploy.ray.score.storage import open_storage
from deploy.ray.score.worker import ShardScorer, Work
from tests.deploy.ray.scoring import parts, rows, start
from tests.service.conftest import serving
from tests.service.images import BOMBS, coloured
from tests.service.remote.s3 import Bucket, bucket_of_moto
from tests.service.shipped import MODELS, SAMPLES

CIFAR = MODELS / "cifar10-resnet20-pytorch" / "1"
ARTIFACT = "openvino-int8"
SHARD, TOP = 4, 3


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos in folders, files that are none, and others that no run should see."""
    root = tmp_path / "photos"
    for path in SAMPLES.glob("*.*g"):
        target = root / path.stem[0] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for file in (*CIFAR.glob("golden/*"), SAMPLES / "automobile.webp"):
        shutil.copy(file, root)
    (root / "empty.png").write_bytes(b"")
    (root / "notes.jpg").write_text("no image")
    (root / "cut.png").write_bytes((SAMPLES / "truck.png").read_bytes()[:2000])
    (root / "bomb.png").write_bytes(BOMBS["900 megapixels"]())
    (root / os.fsdecode(b"caf\xe9.png")).write_bytes(coloured())
    (root / "readme.txt").write_text("no image by its name")
    (root / ".hidden.png").write_bytes(coloured())
    return root


def planned(out: Path, source: Path) -> Plan:
    """A plan in an output, as the command writes it."""
    storage = open_storage(str(out))
    plan = new_plan(read_manifest(CIFAR), ARTIFACT, str(source), SHARD, None, TOP)
    plan = counted(plan, open_storage(str(source)), storage)
    keep(plan, storage)
    return plan


def test_a_killed_run_goes_on_with_what_is_missing_and_answers_as_the_service(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    plan = planned(out, photos)
    options = ("--bundle", CIFAR, "--images", photos, "--out", out, "--shard", SHARD, "--top", TOP)
    # The paths of the last shard come out of a pipe into which nobody writes.
    last = out / "_plan" / f"{plan.shards - 1:05}.json"
    paths = last.read_bytes()
    last.unlink()
    os.mkfifo(last)
    killed = start(*options, "--concurrency", 1)
    try:
        deadline = time.monotonic() + 300
        while not parts(out):
            assert killed.poll() is None, killed.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
    before = parts(out)
    assert 0 < len(before) < plan.shards

    last.unlink()
    last.write_bytes(paths)
    resumed = start(*options, "--concurrency", 1)
    said, _ = resumed.communicate(timeout=300)

    assert resumed.returncode == 0, said
    after = parts(out)
    assert set(after) == {part_name(shard) for shard in range(plan.shards)}
    assert {name: after[name] for name in before} == before
    found = rows(out)
    names = [row["image"] for row in found]
    assert len(names) == len(set(names)) == plan.count
    expected = {
        str(path.relative_to(photos)): path
        for path in photos.rglob("*")
        if path.is_file() and path.suffix != ".txt" and not path.name.startswith(".")
    }
    assert {name.replace("\\xe9", os.fsdecode(b"\xe9")) for name in names} == set(expected)
    metadata = pq.read_schema(out / part_name(0)).metadata
    assert metadata[b"digest"].decode() == plan.digest

    root = shutil.copytree(CIFAR, tmp_path / "models" / CIFAR.parent.name / "1").parents[1]
    with serving(models_dir=root) as server:
        for row in found:
            data = expected[row["image"].replace("\\xe9", os.fsdecode(b"\xe9"))].read_bytes()
            response = server.predict(data, top_k=TOP)
            answer = response.json()
            if response.status_code != 200:
                assert row["error_code"] == answer["code"]
                assert row["labels"] is None
                continue
            predictions = answer["predictions"]
            assert row["scores"] == [each["score"] for each in predictions]
            assert row["labels"] == [each["label"] for each in predictions]
            assert row["indices"] == [each["index"] for each in predictions]
            assert row["uncertain"] is answer["uncertain"]
            assert row["error_code"] is None


def run(*options: object) -> tuple[int, str]:
    """The command in this process: its exit status and what it says."""
    app = typer.Typer()
    app.command()(score)
    done = CliRunner().invoke(app, [*map(str, options)])
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shard", 5], "images of a shard (--shard): 4, received 5"),
        (["--top", 1], "labels of an image (--top): 3, received 1"),
        (["--limit", 2], "--limit: None, received 2; number of images: "),
        (["--artifact", "source"], "artifact: openvino-int8, received source"),
        (["--bundle", MODELS / "cifar10-resnet20-keras" / "1"], "model: cifar10-resnet20-pytorch"),
        (["--images", SAMPLES], "--images: "),
    ],
    ids=["shard", "top", "limit", "artifact", "model", "images"],
)
def test_the_output_of_another_run_is_refused_with_what_differs(
    photos: Path, tmp_path: Path, options: list[object], said: str
) -> None:
    planned(tmp_path / "out", photos)
    given = ["--bundle", CIFAR, "--images", photos, "--shard", SHARD, "--top", TOP]

    status, text = run(*given, "--out", tmp_path / "out", *options)

    assert status == 2
    assert "The output belongs to another run." in text
    assert said in text


def test_images_that_came_later_are_said(photos: Path, tmp_path: Path) -> None:
    plan = planned(tmp_path / "out", photos)
    (photos / "later.png").write_bytes(coloured())

    status, text = run(
        *("--bundle", CIFAR, "--images", photos, "--out", tmp_path / "out"),
        *("--shard", SHARD, "--top", TOP),
    )

    assert status == 2
    assert f"number of images: {plan.count}, received {plan.count + 1}" in text


def test_a_whole_output_needs_no_cluster(photos: Path, tmp_path: Path) -> None:
    plan = planned(tmp_path / "out", photos)
    for shard in range(plan.shards):
        (tmp_path / "out" / part_name(shard)).touch()

    status, text = run(
        *("--bundle", CIFAR, "--images", photos, "--out", tmp_path / "out"),
        *("--shard", SHARD, "--top", TOP, "--address", "127.0.0.1:1"),
    )

    assert status == 0
    assert text.startswith(f"{plan.count} images in {plan.shards} files: ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--bundle", "nowhere"], "manifest_invalid: "),
        (["--artifact", "fp8"], "The bundle has no such artifact. Expected auto, source, or one"),
        (["--images", "nowhere"], "The images can't be listed: No such file or directory."),
        (["--images", "."], "There is no image."),
        (["--images", "ftp://host/x"], "The address can't be used: expected a folder, or an"),
        (["--images", "https://host/x"], "Web servers have no listing."),
        (["--out", "full"], "The output has Parquet files and no _plan.json."),
        (["--address", "127.0.0.1:1"], "No Ray cluster answers at 127.0.0.1:1"),
        (["--address", "nothing"], "--address is the HOST:PORT of a Ray cluster."),
    ],
    ids=[
        "bundle",
        "artifact",
        "no folder",
        "no image",
        "scheme",
        "web",
        "output",
        "cluster",
        "address",
    ],
)
def test_wrong_use_is_one_sentence_and_status_2(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[object],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path / "photos" / "..")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "part-00000.parquet").touch()
    if "." in options:
        shutil.rmtree(photos)

    status, text = run("--bundle", CIFAR, "--images", photos, "--out", "out", *options)

    assert status == 2
    assert text.rpartition("Error: ")[2].startswith(said)
    assert (tmp_path / "out").exists() is ("--address" in options), "nothing is left behind"


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path, photos: Path) -> None:
    with open_storage(str(tmp_path / "out")).locked():
        status, text = run("--bundle", CIFAR, "--images", photos, "--out", tmp_path / "out")

    assert status == 2
    assert "Another run writes to" in text


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with bucket_of_moto() as found:
        for name, value in found.variables.items():
            monkeypatch.setenv(name, value)
        yield found


def test_images_and_results_may_lie_in_a_store(
    bucket: Bucket, photos: Path, tmp_path: Path
) -> None:
    folder = planned(tmp_path / "out", photos)
    (photos / os.fsdecode(b"caf\xe9.png")).unlink()
    bucket.upload(photos)
    out = f"{bucket.address}-out"
    storage = open_storage(out)
    assert storage.names() == set()
    plan = new_plan(read_manifest(CIFAR), ARTIFACT, bucket.address, 100, None, TOP)
    plan = counted(plan, open_storage(bucket.address), storage)
    keep(plan, storage)
    assert plan.count == folder.count - 1

    scorer = ShardScorer(Work(str(CIFAR), out, 1), plan)
    result = scorer({"shard": np.array([0])})

    assert result == {"shard": [0], "failed": [4], "failure": [""]}
    assert storage.names() == {"_plan.json", part_name(0)}
    (tmp_path / part_name(0)).write_bytes(storage.read(part_name(0), 10**9))
    found = {row["image"]: row for row in rows(tmp_path)}
    assert len(found) == plan.count
    assert found["empty.png"]["error_code"] == "unsupported_image_type"
    assert found["s/ship.jpg"]["labels"][0] == "ship"

    with pytest.raises(Refused, match="There is nothing at the address"):
        list(open_storage("s3://no-such-bucket/x").images())
