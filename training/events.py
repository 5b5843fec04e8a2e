"""TensorBoard event files of a run.

Written in this thread: the background thread of `tensorboardX.SummaryWriter` dies on a full disk,
and training with it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar


class EventWriter:
    """Scalars of the epochs of a run, one point an epoch.

    Raises:
        OSError: the file can't be written.
    """

    def __init__(self, directory: Path, first_epoch: int) -> None:
        """TensorBoard drops scalars after `first_epoch`, which an interrupted run has left."""
        self._file = EventsWriter(str(directory / "events"))
        self._write(first_epoch + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """Write the scalars of `epoch`, counted from 1."""
        for name, value in scalars.items():
            self._write(epoch, summary=scalar(name, value))
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()

    def _write(self, epoch: int, **content: Any) -> None:
        self._file.write_event(Event(step=epoch, wall_time=time.time(), **content))
