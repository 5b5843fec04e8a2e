"""From the measured cost of a request to machines, money, energy and the first bottleneck.

What was measured is read from benchmarks/RESULTS.md and docs/performance.md; all else is in
`ASSUMED`, one line each, and printed with the results.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RATES = (100, 10_000, 1_000_000)  # requests/s in the busiest hour
CORES = 2  # of the machine that RESULTS.md was measured on
MACHINES = (4, 16, 64, 192)  # cores of a machine
HOURS = 730  # of a month


@dataclass(frozen=True)
class Assumed:
    """A value that was not measured here, and where it comes from."""

    value: float
    what: str
    source: str


ASSUMED = {
    "utilisation": Assumed(
        *(0.6, "share of the measured rate that is used at the peak"),
        "leaves 90 % after one of three zones is lost",
    ),
    "average": Assumed(0.6, "average rate, share of the peak", "the simulated day below"),
    "price": Assumed(
        *(0.0513, "US dollars for a core and hour"),
        "list price of an AWS c7a instance on demand, rounded; reserved ones cost about half",
    ),
    "nic": Assumed(
        *(0.25, "Gbit/s of network for a core"),
        "cloud machines with 64 to 192 cores have 25 to 50 Gbit/s",
    ),
    "busy": Assumed(
        *(6.0, "watts of a busy core, with its share of the machine"),
        "360 W for 96 cores (TDP of an EPYC 9654), and the rest of the machine",
    ),
    "idle": Assumed(2.5, "watts of an idle core", "about 40 % of a busy one"),
    "pue": Assumed(1.2, "power of the building over that of its machines", "a good data centre"),
    "memory": Assumed(
        *(4.8, "GB/s of memory for a core"),
        "EPYC 9004: 12 channels of DDR5-4800, 460 GB/s, for 96 cores",
    ),
    "request": Assumed(
        *(111.0, "kB of a request"), "the photos that were measured, 110 kB, and headers"
    ),
    "log": Assumed(110.0, "bytes of a log line", "the line in operation.md"),
    "proxy": Assumed(
        *(5.0, "Gbit/s that a core of a proxy passes on, with TLS"),
        "an order of magnitude; measure yours",
    ),
    "small": Assumed(
        *(20.0, "kB of a photo that the client has reduced to 256 pixels"),
        "an order of magnitude; measure yours",
    ),
}


def assumed(name: str) -> float:
    """The value of an assumption."""
    return ASSUMED[name].value


@dataclass(frozen=True)
class Model:
    """A network as it was measured, 32 connections.

    Attributes:
        rate: Requests/s of all `CORES`.
        web_ms: CPU time of the web process for a request.
        traffic_mb: Bytes that a request moves through memory if no cache holds any of them, in MB.
    """

    name: str
    rate: float
    web_ms: float
    traffic_mb: float

    @property
    def per_core(self) -> float:
        """Requests/s of a core."""
        return self.rate / CORES

    @property
    def pod_cores(self) -> int:
        """Cores of a pod: a power of two, so few that its one web process has the reserve too."""
        most = assumed("utilisation") * 1000 / self.web_ms / self.per_core
        return 1 << int(math.log2(most))


def _traffic(weights: float, activations: float, pixels: float) -> float:
    """MB of memory traffic of an image.

    The file is copied four times between network and decoder; pixels and int8 activations are
    written and read; the weights (one byte each) are read once for a batch of four.
    """
    return (4 * 110e3 + 2 * pixels + 2 * activations + weights / 4) / 1e6


def measured(root: Path = ROOT) -> list[Model]:
    """Both networks, from the pages that have the measurements.

    Raises:
        ValueError: A page has no such row.
    """
    results = (root / "benchmarks/RESULTS.md").read_text()
    profile = (root / "docs/performance.md").read_text()
    # Parameters and activations of ResNet-50 from Radosavovic et al. 2020 (arXiv:2003.13678), those
    # of ResNet-20 from its layers (He et al. 2015, section 4.2). Pixels as decoded, which is at
    # half the size for ResNet-20.
    traffic = {
        "ResNet-50": _traffic(25.6e6, 11.1e6, 500 * 375 * 3),
        "ResNet-20": _traffic(0.27e6, 0.19e6, 250 * 188 * 3),
    }
    found = []
    for name, moved in traffic.items():
        row = re.search(
            rf"^## {name},.*?^\| \*\*this project, openvino-int8\*\* \|(.*?)$", results, re.M | re.S
        )
        web = re.search(
            rf"^\| {name}, int8 \| 1 \|.*?^\| \| 32 \| [\d.]+ \| [\d.]+ \| ([\d.]+) \|",
            profile,
            re.M | re.S,
        )
        if not row or not web:
            raise ValueError(f"no measurement of {name}")
        rate = float(row[1].split("|")[2].split()[0])
        found.append(Model(name, rate, float(web[1]), moved))
    return found


@dataclass(frozen=True)
class Size:
    """What a load needs, in the busiest hour unless a name says otherwise."""

    model: Model
    rate: int

    @property
    def cores(self) -> float:
        """Cores that compute."""
        return self.rate / (self.model.per_core * assumed("utilisation"))

    @property
    def machine(self) -> int:
        """Cores of a machine: the largest of which at least three are needed."""
        return max((c for c in MACHINES if self.cores / c > 2), default=MACHINES[0])

    @property
    def machines(self) -> int:
        """Machines, one a zone at least."""
        return max(3, math.ceil(self.cores / self.machine))

    @property
    def pods(self) -> int:
        """Pods of `Model.pod_cores`, or as large as the machine."""
        size = min(self.model.pod_cores, self.machine)
        return max(3, math.ceil(self.cores / size))

    @property
    def dollars(self) -> float:
        """US dollars a month for machines that run all the time."""
        return self.machines * self.machine * assumed("price") * HOURS

    @property
    def kilowatts(self) -> float:
        """Average power, the building included."""
        cores = self.machines * self.machine
        busy = self.cores * assumed("utilisation") * assumed("average")
        watts = busy * assumed("busy") + (cores - busy) * assumed("idle")
        return watts * assumed("pue") / 1000

    @property
    def millions(self) -> float:
        """Millions of requests a month."""
        return self.rate * assumed("average") * 3600 * HOURS / 1e6

    @property
    def gigabits(self) -> float:
        """Gbit/s of requests that arrive."""
        return self.rate * assumed("request") * 8 / 1e6

    def used(self) -> dict[str, float]:
        """Share that is used of each resource of one machine or pod."""
        rate = self.rate / self.machines
        gigabits = rate * assumed("request") * 8 / 1e6
        return {
            "cores": self.cores * assumed("utilisation") / (self.machines * self.machine),
            "web process": self.rate / self.pods * self.model.web_ms / 1000,
            "network": gigabits / (assumed("nic") * self.machine),
            "memory": rate * self.model.traffic_mb / 1000 / (assumed("memory") * self.machine),
        }

    @property
    def proxy_cores(self) -> float:
        """Cores of proxies that all requests pass."""
        return self.gigabits / assumed("proxy") / assumed("utilisation")
