"""The only ``ray.init`` of the project."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.core.errors import EnvironmentFaultError, PlinthError
from cluster.core.home import Home
from cluster.core.storage import Store
from cluster.local_head import running
from cluster.processes import MARK
from cluster.serve_mode import serve_environment

NAMESPACE = "plinth"


@contextmanager
def connected(home: Home) -> Iterator[None]:
    """Connect this process as a driver to the running cluster, for the length of the block.

    Inside a Ray job the cluster is the job's own (RAY_ADDRESS is set by Ray); elsewhere it is the instance recorded in
    PLINTH_HOME.

    Raises:
        EnvironmentFaultError: nothing runs, or the cluster cannot be reached or refuses the token.
    """
    address = _address(home)
    import ray

    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise EnvironmentFaultError(f"cannot connect to Ray at {address}: {error}") from error
    try:
        with Store(home.store_uri).job():  # `plinth gc` waits for us
            yield
    finally:
        ray.shutdown()


@contextmanager
def private(cpus: int, temp_dir: str, object_store_mb: int = 256) -> Iterator[float]:
    """A Ray of this process's own on loopback, for the length of the block: what benchmarks measure on.

    Workers run at this process's priority, as those of a plain process pool would. Yields the seconds its start took.
    ray must not have been imported yet.
    """
    if "ray" in sys.modules:
        raise PlinthError("ray was imported before `private` could set its environment: import it inside the block")
    environment = {"RAY_worker_niceness": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    os.environ.update(environment)
    os.environ.pop("RAY_ADDRESS", None)
    import ray

    began = time.perf_counter()
    ray.init(
        address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
        object_store_memory=object_store_mb << 20, namespace=NAMESPACE, _temp_dir=temp_dir,
        _node_ip_address="127.0.0.1",
    )  # fmt: skip
    try:
        yield time.perf_counter() - began
    finally:
        ray.shutdown()


def _address(home: Home) -> str:
    if "RAY_JOB_ID" in os.environ or os.environ.get(MARK):
        return os.environ.get("RAY_ADDRESS", "auto")  # a job: the environment is already the head's
    instance = running(home)
    if instance is None:
        raise EnvironmentFaultError("nothing is running: start it with `plinth up` (or `plinth quickstart`)")
    wanted = serve_environment(home, instance.temp_dir, instance.ports)
    if "ray" in sys.modules and any(os.environ.get(name) != value for name, value in wanted.items()):
        # Ray reads these at import. With it imported too early, ray.init would look for the head elsewhere and hang.
        raise PlinthError("ray was imported before `connected` could set its environment: import it inside the block")
    os.environ.update(wanted)
    return instance.ray_address
