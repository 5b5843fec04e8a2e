"""TensorBoard event files of a run.

Each epoch is appended in one write. The writers of the libraries have a background thread that dies
when the disk is full, and training then waits for it forever.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


class EventWriter:
    """Scalars of the epochs of a run, one point an epoch.

    Raises:
        OSError: the file can't be written.
    """

    def __init__(self, directory: Path, first_epoch: int) -> None:
        """TensorBoard drops scalars after `first_epoch`, left by an interrupted run."""
        name = f"events.out.tfevents.{time.time_ns() // 1_000_000}.{socket.gethostname()}"
        self._path = directory / name
        self._append(
            Event(file_version="brain.Event:2"),
            Event(step=first_epoch + 1, session_log=SessionLog(status=SessionLog.START)),
        )

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """Append the scalars of `epoch`, counted from 1."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._append(Event(step=epoch, summary=Summary(value=values)))

    def _append(self, *events: Event) -> None:
        records = BytesIO()
        writer = RecordWriter(records)
        for event in events:
            event.wall_time = time.time()
            writer.write(event.SerializeToString())
        with self._path.open("ab") as file:
            file.write(records.getvalue())
