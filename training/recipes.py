"""The recipes: named differences from the defaults of `training/config.py`."""

from __future__ import annotations

from typing import Any

RECIPES: dict[str, dict[str, Any]] = {
    # For few cores: orthogonalised updates (Jordan et al. 2024), 78.1 % after 4 epochs where
    # SGD at its best rate had 75.0 %, and small crops early on, where an epoch costs 0.57 of a full
    # one.
    "fast": {},
    # SGD with a decay of 5e-4 on every weight, as in Zagoruyko and Komodakis 2016, "Wide Residual
    # Networks", with the small crops of `fast` for the first 40 % of the epochs.
    "long": {
        "epochs": 84,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
        "decay": "cosine",
        "small_crop_fraction": 0.4,
    },
    # He et al. 2016, section 4.2: 64,000 steps of 128 images = 164 epochs of 50,000; the rate 0.1
    # is divided by 10 at 32k and 48k steps.
    "he2016": {
        "epochs": 164,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "weight_decay": 1e-4,
        "warmup_fraction": 0.0,
        "decay": "steps",
        "small_crop": 0,
        "precision": "fp32",
    },
    # The additions of torchvision's recipe of 2021 (V. Vryniotis, "How to Train State-Of-The-Art
    # Models Using TorchVision's Latest Primitives"), on 84 epochs instead of 600. The average is of
    # about the last 1,000 steps; rate and decay are those of `long`.
    "modern": {
        "epochs": 84,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
        "decay": "cosine",
        "label_smoothing": 0.1,
        "ema_decay": 0.999,
        "small_crop": 0,
        "augment": "trivial",
        "mixup_alpha": 0.2,
        "cutmix_alpha": 1.0,
    },
    # Transfer learning on photos: a linear probe, then fine-tuning as in Kornblith et al. 2019, "Do
    # Better ImageNet Models Transfer Better?". 2 % of a small data set are too few to calibrate on.
    # Pretrained features are large, and clipping bounds a step at any scale of them. The probe is
    # fitted to features with the statistics of the weights, so these stay.
    "transfer": {
        "epochs": 6,
        "probe": True,
        "batch_size": 32,
        "optimizer": "sgd",
        "learning_rate": 0.003,
        "batch_statistics": False,
        "weight_decay": 1e-4,
        "decay_all": False,
        "clip_norm": 1.0,
        "label_smoothing": 0.1,
        "decay": "cosine",
        "augment": "photo",
        "validation_fraction": 0.1,
    },
    # ResNet-18 as in the project's origin, which reached 24.0 % after a single epoch.
    "seed-resnet18": {
        "arch": "resnet18",
        "image_size": 32,
        "train_limit": 5000,
        "test_limit": 1000,
        "epochs": 40,
        "batch_size": 64,
        "label_smoothing": 0.1,
    },
}
