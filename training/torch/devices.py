"""Several devices in PyTorch: torchrun starts a process for each; DDP averages the gradients.

Its twin is `training/keras/devices.py`.
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
STORE = "TRAINING_DEVICES_STORE"  # the path of the rendezvous file


def gpus() -> int:
    """The number of GPUs that can be used."""
    return torch.cuda.device_count()


def launch(devices: int) -> int | None:
    """Run the command on several devices: GPUs, or the CPU several times if there is none.

    Returns:
        None if this process continues with the command; the exit code if others have run it.

    Raises:
        DeviceError: one of the other processes was killed.
    """
    if distributed.is_torchelastic_launched():
        _join()
        return None
    return _launch_processes(devices)


def rank_and_world_size() -> tuple[int, int]:
    """The rank of this process and the number of processes."""
    return (
        (distributed.get_rank(), distributed.get_world_size())
        if distributed.is_initialized()
        else (0, 1)
    )


def shut_down() -> bool:
    """Leave the process group; True if this process is done, because rank 0 continues alone."""
    if not distributed.is_initialized():
        return False
    rank, _ = rank_and_world_size()
    distributed.destroy_process_group()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return rank > 0


def _launch_processes(devices: int) -> int:
    """Run this process's command line in several processes, as `torchrun --standalone` does.

    The rendezvous uses files: torch's own stores listen on every interface, for anyone.

    Returns:
        The exit code.
    """
    # The processes report their errors themselves; torch would log them again.
    logging.disable(logging.CRITICAL)
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
                    f"Process {number + 1} of {devices} was killed by "
                    f"{signal.Signals(-code).name}, and the others were stopped. The same command "
                    "goes on after the last whole epoch."
                ) from exc
        return max(codes.values())
    return 0


def _join() -> None:
    """Join the process group of the processes that torchrun has started."""
    # The process ends with the launcher.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # A process that waits in a collective can't handle Ctrl-C in Python: the default handler ends
    # it at once, and the launcher prints the message.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, "lo")  # all processes are on this machine
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    distributed.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo",
        store=distributed.FileStore(os.environ[STORE], count),  # type: ignore[attr-defined]
        rank=rank,
        world_size=count,
    )
