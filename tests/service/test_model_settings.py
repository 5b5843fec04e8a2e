"""Settings of single models, in the file serving.toml of the model repository."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from service.model_settings import KEYS, read_model_settings
from service.settings import Settings, SettingsError
from tests.service.conftest import refused_start, serving
from tests.service.images import coloured


def written(root: Path, text: str) -> Path:
    (root / "serving.toml").write_text(text)
    return root


def test_a_model_has_the_settings_of_its_table_and_the_others_those_of_the_service(
    tmp_path: Path,
) -> None:
    written(tmp_path, '[flowers]\nruntime_threads = 2\ndevice = "cpu"\n[cars]\nqueue_size = 8\n')
    settings = Settings(models_dir=tmp_path)

    own = {name: found.settings for name, found in read_model_settings(settings).items()}

    assert (own["flowers"].runtime_threads, own["flowers"].device) == (2, "cpu")
    assert (own["cars"].queue_size, own["cars"].batch_files) == (8, 8)
    for changed in own.values():
        same = {*Settings.model_fields} - {*KEYS}
        assert all(getattr(changed, name) == getattr(settings, name) for name in same)
    assert own["cars"].runtime_threads == settings.runtime_threads


def test_a_variable_of_the_environment_overrules_the_file(tmp_path: Path) -> None:
    written(tmp_path, "[flowers]\nmax_batch = 2\nqueue_size = 9\n")

    found = read_model_settings(Settings(models_dir=tmp_path, max_batch=32))
    own = {name: each.settings for name, each in found.items()}

    assert (own["flowers"].max_batch, own["flowers"].queue_size) == (32, 9)


def test_without_the_file_no_model_has_its_own_settings(tmp_path: Path) -> None:
    assert read_model_settings(Settings(models_dir=tmp_path)) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[flowers\n", "Expected TOML"),
        ("\xff", "Expected TOML"),
        ("max_batch = 3\n", "tables that are named after models.*Received: max_batch = 3"),
        ("[flowers]\nmax_batch = 0\n", r"\[flowers\], max_batch: .*greater.*Received: 0"),
        ('[flowers]\nmax_batch = "3"\n', r"\[flowers\], max_batch: .*integer.*Received: '3'"),
        ('[flowers]\ndevice = "tpu"\n', r"\[flowers\], device: .*Received: 'tpu'"),
        (
            "[flowers]\nthreads = 2\n",
            r"\[flowers\], threads: Expected one of versions, device, .*2",
        ),
        ("[flowers]\nport = 80\n", r"\[flowers\], port: Expected one of versions"),
    ],
)
def test_what_is_wrong_with_the_file_is_said(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "serving.toml").write_bytes(text.encode("latin-1"))

    with pytest.raises(SettingsError, match=expected) as refused:
        read_model_settings(Settings(models_dir=tmp_path))

    assert str(tmp_path / "serving.toml") in str(refused.value)


def test_an_invalid_file_stops_the_start_with_one_line(tmp_path: Path) -> None:
    line = refused_start(models_dir=written(tmp_path, "[flowers]\ninstances = -1\n"))
    assert "[flowers], instances" in line
    assert "Received: -1" in line


def test_a_model_runs_in_as_many_processes_as_the_file_says(
    quick_root: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(quick_root, tmp_path / "models")
    written(root, "[tiny-torch]\ninstances = 2\nmax_batch = 3\n[other]\nmax_batch = 1\n")
    with serving(models_dir=root, runtime_threads=1) as server:
        started = "in batches of up to 3"
        server.wait(lambda: server.log().count(started) == 2, "started twice", 120)
        workers = [
            process
            for process in server.tree()
            if "bundle.worker" in process.cmdline() and process.is_running()
        ]
        answered = [server.predict(coloured()).status_code for _ in range(4)]
        log = server.log()

    assert len(workers) == 2
    assert answered == [200] * 4
    assert "has settings of a model that does not exist: other" in log


def test_what_the_settings_name_and_the_repository_lacks_is_logged(
    quick_root: Path,
) -> None:
    settings: dict[str, Any] = {"versions": "1,9", "default_model": "nobody"}
    with serving(ready=False, models_dir=quick_root, **settings) as server:
        server.wait_logged("the default model does not exist: nobody")
        server.wait_logged("tiny-torch has no version 9, which SERVICE_VERSIONS or serving.toml")
