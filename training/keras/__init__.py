"""The Keras backend. Importing this package imports TensorFlow, without its start-up messages."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NVIDIA_DRIVER = Path("/dev/nvidiactl")


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Drop what the process writes to file descriptor 2, unless the block raises an exception."""
    saved = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except BaseException:
            captured.seek(0)
            os.write(saved, captured.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


# Read when TensorFlow is imported. Part of its messages come before it reads them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
with quiet_stderr():
    import keras  # noqa: F401 - its messages too
    import tensorflow as tf

    # Here TensorFlow looks for GPUs. With a driver its complaints matter: they stay visible later.
    if not NVIDIA_DRIVER.exists():
        tf.config.list_physical_devices("GPU")
