"""What no model is, is told by the first bytes, and each option that is wrong by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundle.importing.importing import assert_refused, run

FILES = {
    "text": (b"hello\n", "The file is text"),
    "empty": (b"", "The file is empty"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "page": (b"<!DOCTYPE html><html>", "HTML"),
    "tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(100), "TFLite"),
    "zip": (b"PK\x03\x04" + bytes(100), "damaged or cut off"),
    "pickle": (b"\x80\x04\x95" + bytes(100), "not of torch.save"),
    "bytes": (bytes(range(129, 256)), "Expected a PyTorch state dict"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_is_refused(name: str, tmp_path: Path) -> None:
    content, said = FILES[name]
    # Its name promises a model.
    file, models = tmp_path / "model.onnx", tmp_path / "models"
    file.write_bytes(content)

    code, output = run(str(file), "--models", str(models), "--labels", "a,b")

    assert_refused(models, code, output, said)


def test_a_folder_without_a_model_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    models = tmp_path / "models"
    (tmp_path / "folder").mkdir()

    for path in (tmp_path / "folder", tmp_path / "missing.pt"):
        code, output = run(str(path), "--models", str(models), "--labels", "a,b")

        assert_refused(models, code, output)


OPTIONS = {
    "--normalise": ("imagnet", "0.5,0.5,0.5/0.5,0.5,0.5"),
    "--size": ("big", "--size HEIGHTxWIDTH"),
    "--labels": ("a,b,a", "'a' twice"),
    "--name": ("My Model", "--name my-model"),
    "--test": ("/no/such/folder", "no such folder. Expected --test FOLDER"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_wrong_option_is_refused_before_the_file_is_opened(option: str, tmp_path: Path) -> None:
    value, said = OPTIONS[option]
    models = tmp_path / "models"

    code, output = run(str(tmp_path / "missing.pt"), "--models", str(models), option, value)

    assert_refused(models, code, output, said)
