"""TensorBoard event files of a run.

Each epoch is appended in one write: the background thread of `tensorboardX.SummaryWriter` dies when
the disk is full, and training then waits for it forever.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar


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
        self._append(
            *(Event(step=epoch, summary=scalar(name, value)) for name, value in scalars.items())
        )

    def _append(self, *events: Event) -> None:
        records = bytearray()
        for event in events:
            event.wall_time = time.time()
            content = event.SerializeToString()
            length = struct.pack("<Q", len(content))
            for part in (length, content):  # the format of a TFRecord
                records += part + struct.pack("<I", masked_crc32c(part))
        with self._path.open("ab") as file:
            file.write(records)
