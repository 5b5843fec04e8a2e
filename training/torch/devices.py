"""Several devices in PyTorch: a process for each, started by torchrun's launcher, their gradients averaged (DDP).

Its twin is `training/keras/devices.py`: the same names in the same order, with the same types.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import tempfile
import uuid

import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from training.errors import DeviceError

PR_SET_PDEATHSIG = 1  # linux/prctl.h
STORE = "TRAINING_DEVICES_STORE"  # tells the processes where they find each other


def gpus() -> int:
    """The number of GPUs that can be used."""
    return torch.cuda.device_count()


def spread(devices: int) -> int | None:
    """Let the command run on so many devices: GPUs, or where there is none the CPU as often.

    Returns:
        None if this process goes on with the command, and the exit code if others have run it to its end.

    Raises:
        DeviceError: one of the other processes was killed.
    """
    if distributed.is_torchelastic_launched():
        _join()
        return None
    return _launch(devices)


def share() -> tuple[int, int]:
    """Which part of each batch is this process's, and how many parts there are."""
    return (
        (distributed.get_rank(), distributed.get_world_size())
        if distributed.is_initialized()
        else (0, 1)
    )


def leave() -> bool:
    """End the training in common; whether this process has nothing more to do, because the first one goes on alone."""
    if not distributed.is_initialized():
        return False
    number, _ = share()
    distributed.destroy_process_group()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return number > 0


def _launch(devices: int) -> int:
    """Run the command line of this process so many times, as `torchrun --standalone` does; the exit code.

    They find each other through files: the stores that torch would open listen on every interface, to anybody.
    """
    logging.disable(
        logging.CRITICAL
    )  # what torch would log about the processes, they say themselves
    with tempfile.TemporaryDirectory(prefix="devices-") as folder:
        os.environ[STORE] = f"{folder}/store"
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        return _run(devices, f"{folder}/rendezvous")


def _run(devices: int, rendezvous: str) -> int:
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint=rendezvous,
        rdzv_configs={"store_type": "file"},
        local_addr="127.0.0.1",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "training", *sys.argv[1:])
    except SignalException as exc:
        return 128 + exc.sigval
    except ChildFailedError as exc:
        codes = {number: failure.exitcode for number, failure in exc.failures.items()}
        for number, code in codes.items():
            if code < 0:
                raise DeviceError(
                    f"Process {number + 1} of {devices} was killed by {signal.Signals(-code).name}, and the others were "
                    "stopped. The same command goes on after the last whole epoch."
                ) from exc
        return max(codes.values())
    return 0


def _join() -> None:
    """Take part in the training of the processes that torchrun has started."""
    ctypes.CDLL(None).prctl(
        PR_SET_PDEATHSIG, signal.SIGKILL
    )  # nobody trains on when the launcher is gone
    # A process that waits for the others can't answer to Ctrl-C in Python: it ends at once, and the launcher speaks.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, "lo")  # all processes are on this machine
    number, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    distributed.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo",
        store=distributed.FileStore(os.environ[STORE], count),
        rank=number,
        world_size=count,
    )
