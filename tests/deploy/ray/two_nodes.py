"""The service on a Ray cluster of two nodes on this machine, until standard input ends.

    python -m tests.deploy.ray.two_nodes '{"port": 8000, "args": {...}}'

prints one line when it is ready: the process id of the raylet of the second node, whose
descendants are all that runs on it.
"""

from __future__ import annotations

import json
import sys

import ray
from ray import serve
from ray.cluster_utils import Cluster

from deploy.ray.app import build
from deploy.ray.options import Args

# Cores are what Ray counts, whatever the machine has. The first node has one to spare, for what the
# second one had.
CPUS = (5, 2)
# Ray takes 127.0.0.1 for the address of the network interface.
ADDRESSES = ("127.0.0.2", "127.0.0.3")
HOST = "127.0.0.1"  # of the proxies of both nodes, which share the port
STORE_BYTES = 80 * 2**20


def main(port: int, args: dict[str, object]) -> None:
    """Start it, and stop it when standard input ends."""
    cluster = Cluster()
    _, second = (
        cluster.add_node(
            node_ip_address=address,
            num_cpus=cpus,
            object_store_memory=STORE_BYTES,
            include_dashboard=False,
        )
        for address, cpus in zip(ADDRESSES, CPUS, strict=True)
    )
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        serve.start(proxy_location="EveryNode", http_options={"host": HOST, "port": port})
        serve.run(build(Args.model_validate(args)), name="images", route_prefix="/")
        (raylet,) = second.all_processes["raylet"]
        print(raylet.process.pid, flush=True)  # noqa: T201 - for who started it
        sys.stdin.read()
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
