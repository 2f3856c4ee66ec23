"""The only ``ray.init`` of the project."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from cluster import job_book
from cluster.core.errors import EnvironmentFaultError, PlinthError
from cluster.core.home import Home
from cluster.core.storage import Store
from cluster.local_head import running
from cluster.processes import MARK
from cluster.serve_mode import serve_environment

NAMESPACE = "plinth"
RAY_THREADS = "ray_"  # how the names of the threads begin that Ray starts in a driver


@contextmanager
def connected(home: Home) -> Iterator[None]:
    """Connect this process as a driver to the running cluster, for the length of the block.

    Inside a Ray job the cluster is the job's own (RAY_ADDRESS is set by Ray); elsewhere it is the instance recorded in
    PLINTH_HOME. A job of the book (``cluster.job_book``) waits here for its turn.

    Raises:
        EnvironmentFaultError: nothing runs, or the cluster cannot be reached or refuses the token.
    """
    _address(home)  # is there a cluster at all?
    job_book.take_place()
    address = _address(home)  # another one, where it was started again while this job waited
    import ray

    with ray_aside(home) as log:
        try:
            with sigterm_kept():
                ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ray.exceptions.AuthenticationError) as error:
            raise EnvironmentFaultError(f"cannot connect to Ray at {address}: {error}") from error
        try:
            with Store(home.store_uri).job():  # `plinth gc` waits for us
                yield
        finally:
            with all_aside(log):
                ray.shutdown()


def node_resources(home: Home) -> list[dict[str, float]]:
    """Ray's resources of every node of the running cluster, used or not; empty where none runs. Joins no queue of jobs.

    Raises:
        EnvironmentFaultError: the cluster cannot be reached or refuses the token.
    """
    if "RAY_JOB_ID" not in os.environ and running(home) is None:
        return []
    address = _address(home)
    import ray

    with ray_aside(home) as log:
        try:
            with sigterm_kept():
                ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ray.exceptions.AuthenticationError) as error:
            raise EnvironmentFaultError(f"cannot connect to Ray at {address}: {error}") from error
        try:
            return [node["Resources"] for node in ray.nodes() if node["Alive"]]
        finally:
            with all_aside(log):
                ray.shutdown()


class _Aside:
    """A stream that hands on what this program prints, and puts what Ray's own threads print into a log."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self._stream, self._log = stream, log

    def write(self, text: str) -> int:
        theirs = threading.current_thread().name.startswith(RAY_THREADS)
        return (self._log if theirs else self._stream).write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def all_aside(log: TextIO) -> Iterator[None]:
    """All that is printed in the block goes to the log: what Ray's threads held back, its shutdown prints itself."""
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        yield


@contextmanager
def ray_aside(home: Home) -> Iterator[TextIO]:
    """What Ray says by itself goes to ``logs/ray_driver.log`` for the length of the block; yields that log.

    ``log_to_driver=False`` keeps the output of workers away. Warnings of the raylet ("8 PYTHON worker processes have
    been started") reach a driver on another way, which has no setting: a thread of Ray's prints them.
    """
    with open(home.logs / "ray_driver.log", "a", buffering=1) as log, contextlib.ExitStack() as streams:
        streams.enter_context(contextlib.redirect_stdout(cast(TextIO, _Aside(sys.stdout, log))))
        streams.enter_context(contextlib.redirect_stderr(cast(TextIO, _Aside(sys.stderr, log))))
        yield log


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """SIGTERM is handled after the block as before it: ray.init's own handlers print a stack and end the process with
    code 15, where a verb is to clean up, say that it was interrupted, and end with 130."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
