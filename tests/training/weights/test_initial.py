"""Initial weights: a network gives the logits of the model that the weights come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sources import ROOT
from tests.training.conftest import WarmOf
from training.errors import ConfigError
from training.weights.initial import Initial, initial_path

START = """
import json, sys, warnings
from pathlib import Path
import numpy as np
from training.config import make_config
from training.errors import WeightsError
from training.weights.initial import Initial, read_initial
from training.{framework} import trainer as module, weights
warnings.simplefilter("error", UserWarning)
folder = Path(sys.argv[1])
module.set_threads(1)
def config(**changes):
    return make_config(framework={framework!r}, threads=1, precision="fp32", **changes)
def trainer(config, classes=3):
    initial = read_initial(config, weights).for_labels([str(i) for i in range(classes)])
    return module.Trainer(config, classes, np.full(3, 100, "f4"), np.full(3, 50, "f4"), initial)
def error(call):
    try:
        call()
    except WeightsError as exc:
        return str(exc)
pixels = np.random.default_rng(0).integers(0, 256, (2, 65, 65, 3), dtype=np.uint8)
found = {{}}
"""
TORCH = """
import torch, torchvision
from torchvision.transforms.functional import normalize
theirs = torchvision.models.resnet18(weights=None).eval()
torch.save(theirs.state_dict(), folder / "resnet18.pth")
made = trainer(config(arch="resnet18", image_size=65, init=str(folder / "resnet18.pth")))
made.model.classifier.weight.data = theirs.fc.weight.data[:3]
made.model.classifier.bias.data = theirs.fc.bias.data[:3]
images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
images = normalize(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
with torch.no_grad():
    found["difference"] = float(np.abs(made.predict(pixels) - theirs(images)[:, :3].numpy()).max())
found["record"] = made.initial
net = torchvision.models.resnet50(weights=None).eval()
# At random weights a block adds little to its input, and the stride would make no difference.
for name, value in net.named_parameters():
    torch.nn.init.normal_(value, 1.0, 0.3) if name.endswith("bn3.weight") else None
torch.save(net.state_dict(), folder / "resnet50.pth")
file_50 = str(folder / "resnet50.pth")
found["note"] = read_initial(config(arch="resnet50", init=file_50), weights).note
found["variants"] = []
for variant in ("v1.5", "v1"):
    options = {"arch": "resnet50", "image_size": 65, "variant": variant}
    made = trainer(config(**options, init=file_50))
    images_50 = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    images_50 = normalize(images_50, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        x = net.maxpool(net.relu(net.bn1(net.conv1(images_50))))
        theirs_50 = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        mine_50 = made.model.features(torch.from_numpy(pixels))
    spread = float(theirs_50.abs().max())
    found["variants"].append(float((mine_50 - theirs_50).abs().max()) / spread)
small = config(arch="resnet18", image_size=32, init=str(folder / "resnet18.pth"))
found["stem"] = error(lambda: trainer(small))
(folder / "notes.pth").write_text("not weights")
found["junk"] = error(lambda: trainer(config(init=str(folder / "notes.pth"))))
cache = folder / "hub" / "checkpoints" / "resnet34-b627a593.pth"
cache.parent.mkdir(parents=True)
cache.write_text("half a file")
found["cached"] = error(lambda: trainer(config(arch="resnet34", init="imagenet")))
torch.save([1, 2], folder / "list.pth")
found["list"] = error(lambda: trainer(config(init=str(folder / "list.pth"))))
"""
KERAS = """
import keras
def difference(arch, theirs, preprocess, name):
    file = folder / f"{name}.weights.h5"
    theirs.save_weights(file)
    made = trainer(config(arch=arch, image_size=65, init=str(file)))
    features, _ = made.model(pixels, training=False)
    images = preprocess(pixels.astype("f4"))
    found["record"] = made.initial
    return float(np.abs(features - theirs(images, training=False)).max())
apps = keras.applications
small = dict(weights=None, include_top=False, input_shape=(None, None, 3))
found["difference"] = max(
    difference("resnet50v2", apps.ResNet50V2(**small), apps.resnet_v2.preprocess_input, "v2"),
    difference("resnet50", apps.ResNet50(**small), apps.resnet.preprocess_input, "v1"),
)
own = module.build_network(config(), 10, module.Normalisation((0,) * 3, (1,) * 3))
own.save_weights(folder / "own.weights.h5")
found["own"] = trainer(config(init=str(folder / "own.weights.h5"))).initial["classifier"]
found["stem"] = error(lambda: trainer(config(arch="resnet32", init=str(folder / "own.weights.h5"))))
published = weights.published("resnet50")
genuine = weights.is_published("resnet50", folder / "own.weights.h5")
found["published"] = [published.pixels.resize, published.accuracy, genuine]
(folder / "notes.h5").write_text("not weights")
found["junk"] = error(lambda: trainer(config(init=str(folder / "notes.h5"))))
found["list"] = error(lambda: trainer(config(init=str(folder / "notes.h5").replace(".h5", ".pth"))))
"""
SHIPPED = """
import torch
from PIL import Image
bundle = Path(sys.argv[2])
labels = json.loads((bundle / "manifest.json").read_text())["labels"]
shipped = config(arch="resnet50", init=str(bundle))
initial = read_initial(shipped, weights).for_labels(labels)
made = module.Trainer(shipped, len(labels), np.zeros(3, "f4"), np.ones(3, "f4"), initial)
photos = np.stack([Image.open(path).resize((224, 224)) for path in sys.argv[3:]])
torch.set_num_threads(1)
with torch.inference_mode(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    theirs = torch.jit.load(bundle / "model.pt").float()(torch.from_numpy(photos)).numpy()
mine = made.predict(photos)
found["spread"] = float(theirs.std())
found["difference"] = float(np.abs(mine - theirs).max())
found["record"] = initial.record
print(json.dumps(found))
"""
END = """
found["offline"] = error(lambda: trainer(config(arch="resnet50", init="imagenet", image_size=65)))
print(json.dumps(found))
"""


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_weights_from_a_file_give_the_output_of_the_model_that_they_come_from(
    framework: str, warm: WarmOf, tmp_path: Path
) -> None:
    """Against torchvision's and Keras's own preprocessing, which our graphs contain."""
    code = START.format(framework=framework)
    code += {"torch": TORCH, "keras": KERAS}[framework] + END
    (tmp_path / "notes.pth").touch()  # a name that Keras does not read
    # A closed port as the proxy: no internet, on any machine.
    proxy: dict[str, Any] = dict.fromkeys(("https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")

    done = warm(framework).start(code, tmp_path, TORCH_HOME=tmp_path, **proxy).end()

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["difference"] < 1e-3
    assert found["record"]["from"] == "file"
    assert found["record"]["classifier"] == "random"
    assert len(found["record"]["sha256"]) == 64
    assert "do not fit the network" in found["stem"]
    assert "can't be read as weights" in found["junk"]
    assert "Received" in found["list"]
    assert "can't be downloaded" in found["offline"]
    assert "--init FILE" in found["offline"]
    assert found.get("published", [256, 0.749, False]) == [256, 0.749, False]
    assert found.get("note", "looks the same for v1, which needs --variant v1").count(
        "--variant v1"
    )
    assert found.get("variants", [0.0, 1.0])[0] < 1e-3
    assert found.get("variants", [0.0, 1.0])[1] > 1e-2
    assert "Delete it" in found.get("cached", "Delete it")
    assert not list(tmp_path.rglob("*.partial"))


def test_keras_starts_from_the_pytorch_bundle_that_ships(warm: WarmOf, tmp_path: Path) -> None:
    code = START.format(framework="keras") + SHIPPED
    bundle = ROOT / "models/imagenet-resnet50/1"
    photos = [ROOT / "frontend/samples" / name for name in ("coffee.jpg", "cat.jpg")]

    done = warm("keras").start(code, tmp_path, bundle, *photos).end()

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["spread"] > 1
    assert found["difference"] < 1e-3
    assert found["record"]["name"] == "imagenet-resnet50"
    assert found["record"]["classifier"] == "taken over"


def test_a_classifier_is_taken_over_for_the_same_labels_in_the_same_order_only() -> None:
    initial = Initial("backbone", "classifier", ("cat", "dog"), record={"from": "bundle"})

    assert initial.for_labels(["cat", "dog"]).classifier == "classifier"
    assert initial.for_labels(["cat", "dog"]).record["classifier"] == "taken over"
    assert initial.for_labels(["dog", "cat"]).classifier is None
    assert initial.for_labels(["dog", "cat"]).record["classifier"] == "random"
    assert Initial().for_labels(["cat", "dog"]).record == {"from": "random"}


def test_a_dropped_classifier_is_reported_with_how_to_keep_it() -> None:
    bundle = Initial("backbone", "classifier", ("cat", "dog"))
    file = Initial("backbone", "classifier")

    other = bundle.dropped_classifier("models/pets/1", ["dog", "cat"])
    unknown = file.dropped_classifier("pets.pth", ["cat", "dog"])

    assert other is not None
    assert other.startswith("the classifier of models/pets/1 (2 classes) is not used")
    assert "same labels in the same order" in other
    assert unknown is not None
    assert "the classifier of pets.pth is not used" in unknown
    assert "does not name its classes" in unknown
    assert bundle.dropped_classifier("models/pets/1", ["cat", "dog"]) is None
    assert Initial("backbone").dropped_classifier("imagenet", ["cat"]) is None
    assert Initial().dropped_classifier("random", ["cat"]) is None


def test_a_missing_file_and_a_link_to_itself_are_errors_that_name_them(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")

    assert initial_path("random") is None
    with pytest.raises(ConfigError, match=r"no such file or folder.*weights/none\.pth"):
        initial_path("weights/none.pth")
    with pytest.raises(ConfigError, match=r"no such file or folder.*loop"):
        initial_path(str(tmp_path / "loop"))
