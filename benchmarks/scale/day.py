"""A day of a service on Kubernetes: queues, the autoscaler, and the loss of a node at the peak.

Every request is simulated. A pod has a queue, and cores that each take `SERVICE_S` for an image;
simpy keeps the clock of what happens to pods. The traffic follows a day with its peak in the
evening; arrivals are random (Poisson), and each goes to a random pod, as kube-proxy sends it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

Events = Generator[simpy.Event, Any, None]
DAY = 86_400
SYNC_S = 15  # period of the HorizontalPodAutoscaler
WINDOW = 4  # periods that a utilisation is averaged over
TOLERANCE = 0.1  # of the HorizontalPodAutoscaler
UP_S, DOWN_S, DOWN_SHARE = 30, 300, 0.25  # `behavior` of the chart
SLOT_S = 1.0  # arrivals are drawn this far ahead


@dataclass(frozen=True)
class Plan:
    """What is simulated; times in seconds.

    Attributes:
        peak: Requests/s of the busiest moment.
        service_s: Time of an image on a core.
        target: Utilisation that the autoscaler aims at.
        queue_target: Images of a pod that it aims at as well; 0: the CPU alone.
        started_s: From the decision for a pod until it is ready.
        noticed_s: From the loss of a node until no request is sent to its pods.
        replaced_s: From the loss of a node until its pods are recreated elsewhere.
        lost_at: When the node of `lost` pods is lost; None: never.
        fixed: Pods without an autoscaler; 0: with it.
    """

    peak: float = 200.0
    service_s: float = 2 / 86.0
    cores: int = 2
    queue: int = 256
    least: int = 2
    most: int = 10
    target: float = 0.7
    queue_target: float = 0.0
    started_s: float = 30.0
    noticed_s: float = 50.0
    replaced_s: float = 350.0
    lost_at: float | None = 20 * 3600.0
    lost: int = 2
    fixed: int = 0
    horizon: float = DAY
    seed: int = 17


@dataclass(eq=False)
class Pod:
    """A pod: when each of its cores is free, and what it did since the last look."""

    free: deque[float]
    alive: bool = True
    busy: float = 0.0


@dataclass
class Day:
    """What happened, by minute: the moment, the rate, the pods, and the 99th percentile in ms."""

    requests: int = 0
    refused: int = 0
    failed_once: int = 0
    failed: int = 0
    slow: int = 0
    pod_hours: float = 0.0
    most_pods: int = 0
    times: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    pods: list[int] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)


def traffic(second: float, peak: float) -> float:
    """Requests/s at a time of the day: all of the peak at 20 h, 0.3 at 8 h, 0.6 on average."""
    phase = math.tau * (second / 3600 - 20) / 24
    return peak * (0.6 + 0.35 * math.cos(phase) + 0.05 * math.cos(2 * phase))


class Simulation:
    """One day; `run` gives what happened."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.day = plan, Day()
        self.env = simpy.Environment()
        self.random = np.random.default_rng(plan.seed)
        first = plan.fixed or max(plan.least, self._pods_for(traffic(0, plan.peak)))
        self.pods = [self._pod(0.0) for _ in range(first)]
        self.starting = self.missing = 0  # decided and not ready; lost and not yet replaced
        self._latencies: list[float] = []

    def run(self) -> Day:
        """The day from midnight to midnight, or to `horizon`."""
        self.env.process(self._arrivals())
        self.env.process(self._minutes())
        if not self.plan.fixed:
            self.env.process(self._autoscaler())
        if self.plan.lost_at is not None:
            self.env.process(self._loss(self.plan.lost_at))
        self.env.run(until=self.plan.horizon)
        return self.day

    def _pods_for(self, rate: float) -> int:
        return math.ceil(rate * self.plan.service_s / self.plan.cores / self.plan.target)

    def _pod(self, now: float) -> Pod:
        return Pod(deque([now] * self.plan.cores))

    def _images(self, pod: Pod) -> float:
        """Images that wait in the pod's queue, as resnet_queue_images counts them."""
        now: float = self.env.now
        work = sum(max(0.0, free - now) for free in pod.free) / self.plan.service_s
        return max(0.0, work - self.plan.cores)

    def _arrivals(self) -> Events:
        while True:
            now = self.env.now
            expected = traffic(now, self.plan.peak) * SLOT_S
            moments = np.sort(self.random.uniform(now, now + SLOT_S, self.random.poisson(expected)))
            chosen = self.random.integers(len(self.pods), size=(len(moments), 2))
            for moment, (first, second) in zip(moments.tolist(), chosen.tolist(), strict=True):
                self._request(moment, self.pods[first], self.pods[second])
            self.day.pod_hours += (len(self.pods) + self.starting) * SLOT_S / 3600
            yield self.env.timeout(SLOT_S)

    def _request(self, moment: float, pod: Pod, other: Pod) -> None:
        """A request and, where its pod has gone, the client's one retry."""
        plan, day = self.plan, self.day
        day.requests += 1
        if not pod.alive:
            day.failed_once += 1
            if not other.alive:
                day.failed += 1
                return
            pod = other
        # All images take the same time, so the core that is free next is the one used longest ago.
        start = max(moment, pod.free[0])
        if start - moment > plan.queue * plan.service_s / plan.cores:
            day.refused += 1
            return
        pod.free.popleft()
        pod.free.append(start + plan.service_s)
        pod.busy += plan.service_s
        latency = start + plan.service_s - moment
        day.slow += latency > 0.5
        self._latencies.append(latency)

    def _minutes(self) -> Events:
        while True:
            yield self.env.timeout(60)
            day = self.day
            day.times.append(self.env.now / 3600)
            day.rates.append(traffic(self.env.now, self.plan.peak))
            day.pods.append(sum(pod.alive for pod in self.pods))
            day.most_pods = max(day.most_pods, len(self.pods))
            day.p99.append(1000 * float(np.quantile(self._latencies, 0.99)))
            self._latencies.clear()

    def _autoscaler(self) -> Events:
        """As Kubernetes' own: pods that are not there count as idle, and hold it from shrinking."""
        plan = self.plan
        used: deque[float] = deque(maxlen=WINDOW)  # pods that would be busy all the time
        wanted: deque[int] = deque(maxlen=DOWN_S // SYNC_S)
        shrunk_at = 0.0
        while True:
            yield self.env.timeout(SYNC_S)
            alive = [pod for pod in self.pods if pod.alive]
            used.append(sum(min(1.0, pod.busy / (plan.cores * SYNC_S)) for pod in alive))
            for pod in self.pods:
                pod.busy = 0.0
            current = len(alive) + self.starting + self.missing
            need = sum(used) / len(used) / plan.target
            if plan.queue_target:
                need = max(need, sum(self._images(pod) for pod in alive) / plan.queue_target)
            want = math.ceil(need) if abs(need / current - 1) > TOLERANCE else current
            wanted.append(min(plan.most, max(plan.least, want)))
            up, down = min(list(wanted)[-(UP_S // SYNC_S) :]), max(wanted)
            if up > current:
                for _ in range(up - current):
                    self.env.process(self._start(plan.started_s))
            elif down < current == len(alive) and self.env.now - shrunk_at >= 60:
                shrunk_at = self.env.now
                for pod in alive[: min(current - down, max(1, int(current * DOWN_SHARE)))]:
                    self.pods.remove(pod)  # it drains: what it has is already counted

    def _start(self, after: float) -> Events:
        self.starting += 1
        yield self.env.timeout(after)
        self.starting -= 1
        self.pods.append(self._pod(self.env.now))

    def _loss(self, at: float) -> Events:
        yield self.env.timeout(at)
        plan, gone = self.plan, self.pods[: self.plan.lost]
        for pod in gone:
            pod.alive = False
        self.missing = len(gone)
        yield self.env.timeout(plan.noticed_s)
        self.pods = [pod for pod in self.pods if pod.alive]
        yield self.env.timeout(plan.replaced_s - plan.noticed_s)
        self.missing = 0
        for _ in gone:
            self.env.process(self._start(plan.started_s))
