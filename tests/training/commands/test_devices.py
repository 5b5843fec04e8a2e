"""`--devices 2` on the CPU gives the result of one device, in PyTorch and in Keras."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil

from bundle.format.manifest import read_manifest
from tests.training.conftest import SMALL, environment, history, run_command, wait_for_epochs

ONE_DEVICE = """
import sys
from pathlib import Path
from rich.console import Console
from training.commands.options import load_data, load_backend
from training.config import make_config
from training.weights.initial import Initial
from training.loop import train
def one_device(data, folder, recipe, **options):
    options |= {"image_size": 16, "batch_size": 10, "threads": 1, "precision": "fp32"}
    config = make_config(recipe, **options)
    backend = load_backend(config)
    data_set = load_data(data, config)
    trainer = backend.Trainer(config, len(data_set.classes), *data_set.mean_and_std(), Initial())
    train(trainer, config, data_set, Path(folder), Console(quiet=True))
"""
TORCH = 'one_device(*sys.argv[1:], "transfer", epochs=6, learning_rate=0.05)'
# Batch normalisation has statistics of its part of a batch, so it keeps those that it has here.
STEPS = """
import sys
import numpy as np
from training.config import make_config
from training.torch import devices
from training.torch.trainer import Trainer
count, file = int(sys.argv[1]), sys.argv[2]
if count > 1:
    devices.launch(count)
config = make_config("fast", image_size=16, batch_size=12, threads=1, precision="fp32",
                     devices=count, optimizer="sgd")
trainer = Trainer(config, 3, np.full(3, 128, "f4"), np.full(3, 50, "f4"))
trainer.trained.eval()
trainer.trained.train = lambda _mode=True: None
def weights():
    return np.concatenate([p.detach().numpy().ravel() for p in trainer.trained.parameters()])
before = weights()
generator = np.random.default_rng(0)
part = slice(12 // count * trainer.rank, 12 // count * (trainer.rank + 1))
for _ in range(3):
    pixels = generator.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    targets = np.eye(3, dtype="f4")[generator.integers(0, 3, 12)]
    trainer.train_step(pixels[part], targets[part], 0.1)
np.save(file, [before, weights()])
"""
# The command runs first, because TensorFlow must divide the CPU before it computes.
KERAS = """
from training.__main__ import app
data, folder, *options = sys.argv[1:]
app(["train", *options], standalone_mode=False)
one_device(data, folder, "transfer", framework="keras", epochs=2, learning_rate=0.0002)
"""


def run_python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ONE_DEVICE + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=500,
        check=False,
    )


def test_two_processes_end_with_one_that_is_killed_and_then_reach_the_result_of_one(
    colour_folder: Path, tmp_path: Path
) -> None:
    two = tmp_path / "two"
    options: tuple[str | Path, ...] = ("--data", colour_folder, "--out", tmp_path, "--run", two)
    options = (*options, "--name", "colours", *SMALL, "--recipe", "transfer", "--epochs", "6")
    options = (*options, "--precision", "fp32", "--devices", "2")
    # The recipe's rate is for 2,048 features; SMALL has fewer and learns little at it.
    options = (*options, "--learning-rate", "0.05")

    command = [sys.executable, "-m", "training", "train", *map(str, options)]
    launcher = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
    wait_for_epochs(1, two)
    workers = psutil.Process(launcher.pid).children()
    sockets = [
        c for p in (psutil.Process(launcher.pid), *workers) for c in p.net_connections("inet")
    ]
    to_all = [
        c.laddr for c in sockets if c.status == psutil.CONN_LISTEN and c.laddr.ip != "127.0.0.1"
    ]
    second = next(worker for worker in workers if worker.environ()["RANK"] == "1")
    second.send_signal(signal.SIGKILL)
    _, stderr = launcher.communicate(timeout=200)

    assert to_all == [], "the processes listen on the loopback interface only"
    assert launcher.returncode == 1
    assert "Process 2 of 2 was killed by SIGKILL" in stderr
    assert not psutil.wait_procs(workers, timeout=60)[1]

    resumed = run_command("train", *options)
    reference = run_python(TORCH, colour_folder, tmp_path / "one")

    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert resumed.stdout.count("epoch 6/6: loss") == 1, "only rank 0 prints"
    assert reference.returncode == 0, reference.stderr
    for key in ("loss", "train_accuracy", "validation_loss"):
        # Before fine-tuning: batch normalisation has the statistics of its part of the batch.
        shared, alone = (
            [epoch[key] for epoch in history(run)[:1]] for run in (two, tmp_path / "one")
        )
        assert np.allclose(shared, alone, rtol=1e-3), key
    manifest = read_manifest(tmp_path / "colours" / "1")
    assert manifest.trained.config["devices"] == 2
    assert manifest.metrics[0].value > 0.9


def test_gradients_are_averaged_over_two_processes(tmp_path: Path) -> None:
    """Three steps on half a batch each end at the weights of three steps on whole batches."""
    joined = {
        "TORCHELASTIC_RUN_ID": "test",
        "TRAINING_DEVICES_STORE": str(tmp_path / "store"),
        "WORLD_SIZE": "2",
    }
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", STEPS, str(devices), str(tmp_path / name)],
            stderr=subprocess.PIPE,
            text=True,
            env=environment() | variables,
        )
        for devices, name, variables in (
            (1, "alone.npy", {}),
            (2, "rank0.npy", joined | {"RANK": "0", "LOCAL_RANK": "0"}),
            (2, "rank1.npy", joined | {"RANK": "1", "LOCAL_RANK": "1"}),
        )
    ]
    errors = [program.communicate(timeout=200)[1] for program in programs]

    assert [program.returncode for program in programs] == [0, 0, 0], errors
    alone, *ranks = (np.load(tmp_path / f"{name}.npy") for name in ("alone", "rank0", "rank1"))
    assert np.array_equal(*ranks)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3, "the weights have moved"
    assert np.abs(ranks[0] - alone).max() < 1e-5


def test_two_logical_devices_reach_the_result_of_one_in_keras(
    colour_folder: Path, tmp_path: Path
) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    options: tuple[str | Path, ...] = ("--data", colour_folder, "--out", tmp_path, "--run", two)
    options = (*options, "--name", "colours", *SMALL)
    options = (*options, "--framework", "keras", "--recipe", "transfer", "--precision", "fp32")
    options = (*options, "--epochs", "2", "--learning-rate", "0.0002")

    done = run_python(KERAS, colour_folder, one, *options, "--devices", "2")

    assert done.returncode == 0, done.stdout + done.stderr
    for key in ("loss", "train_accuracy", "validation_loss"):
        (probed, tuned), (probed_two, tuned_two) = (
            [epoch[key] for epoch in history(run)] for run in (one, two)
        )
        assert np.isclose(probed, probed_two, rtol=1e-3), key
        # Only rounding differs, but it decides whether a ReLU at zero passes a gradient.
        assert np.isclose(tuned, tuned_two, rtol=0.02), key
    manifest = read_manifest(tmp_path / "colours" / "1")
    assert manifest.export.max_logit_difference < 1e-3
