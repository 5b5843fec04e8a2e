"""A linear probe, then fine-tuning: what changes in each, stability, resumption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bundle.format.manifest import read_manifest
from tests.training.conftest import FRAMEWORKS, SMALL, Run, WarmOf, Whole

PHASES = """
import json, sys
from pathlib import Path
import numpy as np
from training.config import make_config
from training.data.dataset import DataSet, Split
from training.probe import fit_probe
from training.schedule import average_decay
from training.{framework}.trainer import Trainer
config = make_config(
    "transfer", framework={framework!r}, threads=1, precision="fp32", optimizer={optimizer!r},
    ema_decay=0.2
)
generator = np.random.default_rng(0)
pixels = generator.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
labels = np.arange(8) % 3
targets = np.eye(3, dtype="f4")[labels]
split = Split(pixels, labels, [Path("x")] * 8)
data = DataSet("data", ["a", "b", "c"], split, split, split, [], 0.5)
def new():
    return Trainer(config, 3, np.full(3, 128, "f4"), np.full(3, 64, "f4"))
def weights(network):
    if {framework!r} == "torch":
        state = network.state_dict()
        return {{k: v.numpy().copy() for k, v in state.items() if "num_batches" not in k}}
    values = [v.numpy() for v in network.variables]  # the classifier's come last
    names = [f"{{i}}" for i in range(len(values) - 2)] + ["classifier kernel", "classifier bias"]
    return dict(zip(names, values, strict=True))
def changed(before, after):
    names = [k for k in before if (before[k] != after[k]).any()]
    return sorted({{"classifier" if "classifier" in k else "backbone" for k in names}})
average = None
def probe(trainer):
    found = fit_probe(trainer, data, np.ones(3))
    trainer.set_classifier(found.weights, found.biases)
    trainer.predict(pixels)
    return weights(trainer.model)
def steps(trainer, count):
    global average, updates
    for _ in range(count):
        trainer.train_step(pixels, targets, 0.1)
        if trainer is whole:
            decay = average_decay(config, updates)
            reached = weights(trainer.trained)
            before = average if updates else reached
            average = {{k: decay * before[k] + (1 - decay) * reached[k] for k in reached}}
            updates += 1
    trainer.predict(pixels)
    return weights(trainer.model)
whole, updates = new(), 0
first = weights(whole.model)
probed = probe(whole)
whole.save(Path(sys.argv[1]) / "boundary")
tuned = steps(whole, 2)
resumed = new()
resumed.load(Path(sys.argv[1]) / "boundary")
again = steps(resumed, 2)
off = max(float(np.abs(average[k] - tuned[k]).max()) for k in tuned)
moved = max(float(np.abs(weights(whole.trained)[k] - tuned[k]).max()) for k in tuned)
changes = [changed(first, probed), changed(probed, tuned), changed(tuned, again)]
print(json.dumps([*changes, off, moved]))
"""


@pytest.mark.parametrize(("framework", "optimizer"), [("torch", "muon"), ("keras", "sgd")])
def test_the_backbone_stays_still_then_moves_and_a_resumed_run_does_the_same(
    framework: str, optimizer: str, warm: WarmOf, tmp_path: Path
) -> None:
    code = PHASES.format(framework=framework, optimizer=optimizer)

    done = warm(framework).start(code, tmp_path).end()

    assert done.returncode == 0, done.stderr
    probed, tuned, resumed, off, moved = json.loads(done.stdout)
    assert probed == ["classifier"], "the statistics of batch normalisation count as backbone"
    assert tuned == ["backbone", "classifier"]
    assert resumed == [], "bit for bit"
    assert off < 1e-5 < 1e-3 < moved, "what is evaluated is the average, not the last weights"


LARGE_FEATURES = """
import json
import numpy as np
from pathlib import Path
from training.config import make_config
from training.data.dataset import DataSet, Split
from training.probe import fit_probe
from training.schedule import rate_factor
from training.{framework}.trainer import Trainer
config = make_config(
    "transfer", framework={framework!r}, epochs=5, image_size=16, threads=1, precision="fp32"
)
generator = np.random.default_rng(0)
labels = generator.integers(0, 3, 64)
colours = 128 + 30 * np.eye(3)[labels][:, None, None]
pixels = np.clip(generator.normal(colours, 50, (64, 16, 16, 3)), 0, 255).astype("u1")
targets = np.eye(3, dtype="f4")[labels]
trainer = Trainer(config, 3, np.full(3, 128, "f4"), np.full(3, 50, "f4"))
if {framework!r} == "torch":
    trainer.model.blocks[-1].norm2.weight.data.fill_(10)
else:
    norms = [layer for layer in trainer.model.layers if "batch_normalization" in layer.name]
    norms[-1].gamma.assign(np.full(64, 10))
split = Split(pixels, labels, [Path("x")] * 64)
data = DataSet("data", ["a", "b", "c"], split, split, split, [], 0.5)
for step in range(60):  # the statistics become those of the images, as in pretrained weights
    trainer.train_step(pixels, targets, 0.0)
probe = fit_probe(trainer, data, np.ones(3))
trainer.set_classifier(probe.weights, probe.biases)
losses = [probe.loss]
for step in range(4, 20):  # 4 an epoch
    batch = slice(step % 4 * 16, step % 4 * 16 + 16)
    trainer.train_step(pixels[batch], targets[batch], rate_factor(config, step, 20))
    if step % 4 == 3:
        logits = trainer.predict(pixels).astype("f8")
        right = logits[np.arange(64), labels]
        losses.append(float((np.logaddexp.reduce(logits, 1) - right).mean()))
print(json.dumps(losses))
"""


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_large_features_do_not_make_fine_tuning_diverge(framework: str, warm: WarmOf) -> None:
    """Without clipping the loss grows to 1.8."""
    done = warm(framework).start(LARGE_FEATURES.format(framework=framework)).end()

    assert done.returncode == 0, done.stderr
    losses = json.loads(done.stdout)
    assert losses[0] < 1, "the loss of the linear probe"
    assert max(losses) < losses[0] + 0.5


@pytest.mark.parametrize("whole", ["torch"], indirect=True)
def test_a_bundle_is_a_start_that_knows_the_colours(
    whole: Whole, train: Run, colour_folder: Path, tmp_path: Path
) -> None:
    folders = (
        "--data",
        colour_folder,
        "--out",
        tmp_path,
        "--run",
        tmp_path / "run",
        "--name",
        "tuned",
    )
    options = (
        "--recipe",
        "transfer",
        "--init",
        whole.bundle,
        "--epochs",
        "2",
        "--train-limit",
        "60",
    )

    done = train(*folders, *options, *SMALL)

    assert done.returncode == 0, done.stdout + done.stderr
    manifest = read_manifest(tmp_path / "tuned" / "1")
    config: Any = manifest.trained.config
    assert (config["initial"]["from"], config["initial"]["classifier"]) == ("bundle", "taken over")
    assert config["mean"] == read_manifest(whole.bundle).trained.config["mean"]
    assert config["history"][0]["train_accuracy"] > 0.9
    assert manifest.trained.train_samples + manifest.trained.validation_samples == 60
