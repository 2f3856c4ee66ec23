"""Start, find and stop this machine's Ray head. No ray import: the head is a process of its own session.

``$PLINTH_HOME/run/instance.json`` is written *before* the process is started, so that a launcher killed in between
leaves a name by which the next run finds and clears what it had started.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.core.config import PlinthConfig, available_cpus
from cluster.core.errors import EnvironmentFaultError, UsageError
from cluster.core.home import Home, write_private
from cluster.core.memory import remove_memory_folder
from cluster.core.sections.cluster import LOOPBACK
from cluster.core.storage import utc_now
from cluster.core.telemetry import log_event
from cluster.processes import Process, alive, free_ports, marked, port_free, terminate
from cluster.serve_mode import head_environment, open_door, private_ports, write_haproxy_wrapper
from cluster.tls import certificate_path, check_certificate

START_TIMEOUT_S = 300.0  # one that dies is noticed at once; one on a machine full of other work takes minutes
LOG_LIMIT_BYTES = 50_000_000


@dataclass(frozen=True)
class Instance:
    """One running (or half-started) local platform."""

    id: str
    host: str
    http_port: int
    gcs_port: int
    dashboard_port: int
    ports: dict[str, int]
    temp_dir: str
    started_at: str
    pid: int = 0

    @property
    def ray_temp_dir(self) -> str:
        """Ray makes its folder writable for everybody; inside ours (0700) nobody else gets there."""
        return f"{self.temp_dir}/ray"

    @property
    def ray_address(self) -> str:
        """HOST:PORT that drivers and nodes connect to."""
        return f"{self.host}:{self.gcs_port}"

    @property
    def dashboard_url(self) -> str:
        """Base URL of Ray's dashboard; job submission goes there too."""
        return f"http://{self.host}:{self.dashboard_port}"

    @property
    def base_url(self) -> str:
        """Base URL of the service, without a slash at the end."""
        return f"http://{self.host}:{self.http_port}"

    def login(self, home: Home) -> str:
        """How a person gets into Ray's dashboard: a browser asks for the token, which is the cluster's key."""
        return f"{self.dashboard_url} asks for a token: paste what `cat {shlex.quote(str(home.token_path))}` prints"

    def processes(self) -> list[Process]:
        """Its live processes, found by the mark in their environment; the caller is not among them."""
        return marked(self.id)


def recorded(home: Home) -> Instance | None:
    """The instance this PLINTH_HOME last started, running or not."""
    path = home.root / "run" / "instance.json"
    try:
        return Instance(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise EnvironmentFaultError(f"{path} is unreadable ({error}); remove it, then run `plinth up` again") from error


def running(home: Home) -> Instance | None:
    """The recorded instance if its head is up, answering on its port, and has a node to run anything on."""
    instance = recorded(home)
    if instance is None or not instance.pid or port_free(instance.gcs_port):
        return None
    processes = instance.processes()
    node = any(process.command.partition(" ")[0].endswith("/raylet") for process in processes)
    return instance if node and any(process.pid == instance.pid for process in processes) else None


def require_running(home: Home) -> Instance:
    """The running instance.

    Raises:
        EnvironmentFaultError: nothing runs.
    """
    instance = running(home)
    if instance is None:
        raise EnvironmentFaultError("nothing is running: start it with `plinth up` (or `plinth quickstart`)")
    return instance


def start(config: PlinthConfig, home: Home, environ: Mapping[str, str] = os.environ) -> Instance:
    """Start a Ray head on loopback with token authentication, or return the one that runs.

    Raises:
        UsageError: the configuration is for several machines.
        EnvironmentFaultError: a port is taken or the head did not come up; the message names the log file.
    """
    if not config.cluster.single_node:
        raise UsageError("this configuration is for several machines: see ray-cluster.yaml, or leave --preset out")
    with _one_at_a_time(home):
        if (instance := running(home)) is not None:
            return instance
        stop_recorded(home)
        home.keep_private()
        _check_ports(config)
        if config.cluster.beyond_loopback:
            check_certificate(certificate_path(home, config.cluster))
        home.ensure_token()
        rotate_logs(home)
        names = private_ports()
        section = config.cluster
        public = (section.http_port, section.gcs_port, section.dashboard_port)  # not bound yet
        instance = Instance(
            id=secrets.token_hex(8),
            host=LOOPBACK,
            http_port=config.cluster.http_port,
            gcs_port=config.cluster.gcs_port,
            dashboard_port=config.cluster.dashboard_port,
            ports=dict(zip(names, free_ports(len(names), public), strict=True)),
            # Unix socket paths are limited to 107 characters: a short folder of our own, readable by nobody else.
            temp_dir=tempfile.mkdtemp(prefix="plinth-", dir=_short_temporary_folder()),
            started_at=utc_now(),
        )
        write_haproxy_wrapper(instance.temp_dir)
        open_door(config.cluster, home, instance.temp_dir)
        _record(home, instance)
        instance = _spawn(config, home, instance, environ)
        _record(home, instance)
        _wait_until_up(home, instance)
        log_event("cluster", "head_started", instance=instance.id, address=instance.ray_address)
        return instance


def clear_remains(home: Home) -> None:
    """End what is left of an instance that died: its orphans hold the ports that the next one needs."""
    with _one_at_a_time(home):
        if running(home) is None:
            stop_recorded(home)


def stop(home: Home) -> int:
    """End every process the recorded instance started; returns how many there were. Safe to call twice."""
    with _one_at_a_time(home):
        return stop_recorded(home)


def stop_recorded(home: Home) -> int:
    """End what the recorded instance started and remove its traces, without the lock that ``stop`` takes.

    Returns:
        How many processes there were; 0 where nothing is recorded.

    Raises:
        EnvironmentFaultError: some are still there after 20 seconds.
    """
    instance = recorded(home)
    if instance is None:
        return 0
    first = instance.processes()
    if instance.pid and alive(instance.pid) and any(p.pid == instance.pid for p in first):
        # The head's own orderly shutdown first: it ends its children and cleans up shared memory.
        terminate([instance.pid], grace_s=12)
    deadline = time.monotonic() + 20
    while (left := instance.processes()) and time.monotonic() < deadline:
        terminate([process.pid for process in left], grace_s=3)
    if left:
        raise EnvironmentFaultError(f"processes would not end: {', '.join(str(p.pid) for p in left)}")
    shutil.rmtree(instance.temp_dir, ignore_errors=True)
    remove_memory_folder(instance.id)
    (home.root / "run" / "instance.json").unlink(missing_ok=True)
    if first:
        log_event("cluster", "head_stopped", instance=instance.id, processes=len(first))
    return len(first)


def head_command(config: PlinthConfig, instance: Instance) -> list[str]:
    """The command line that starts Ray's head in the foreground: ports, CPUs, object store, folder."""
    ports = instance.ports
    return [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats",
        "--log-color=false",
        f"--node-ip-address={instance.host}",
        f"--port={instance.gcs_port}",
        f"--dashboard-host={instance.host}",
        f"--dashboard-port={instance.dashboard_port}",
        f"--ray-client-server-port={ports['ray_client']}",
        f"--dashboard-agent-listen-port={ports['dashboard_agent']}",
        f"--metrics-export-port={ports['metrics_export']}",
        f"--num-cpus={config.cluster.cpus or available_cpus()}",
        f"--object-store-memory={config.cluster.object_store_mb << 20}",
        f"--temp-dir={instance.ray_temp_dir}",
    ]  # fmt: skip


def _spawn(config: PlinthConfig, home: Home, instance: Instance, environ: Mapping[str, str]) -> Instance:
    with open(home.logs / "ray_head.log", "wb") as log:
        process = subprocess.Popen(  # noqa: S603 (our own interpreter, no shell)
            head_command(config, instance),
            env=head_environment(home, instance.temp_dir, instance.ports, instance.id, environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=str(home.root),
        )
    return Instance(**{**asdict(instance), "pid": process.pid})


def _wait_until_up(home: Home, instance: Instance) -> None:
    log = home.logs / "ray_head.log"
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if b"Ray runtime started" in log.read_bytes():
            return
        if not _still_running(instance.pid):
            tail = log.read_text(errors="replace").strip().splitlines()[-3:]
            stop_recorded(home)
            raise EnvironmentFaultError(f"Ray's head ended at once: {' / '.join(tail)}; whole log: {log}")
        time.sleep(0.1)
    stop_recorded(home)
    load = f"{os.getloadavg()[0]:.0f} processes want the {available_cpus()} CPUs"
    raise EnvironmentFaultError(f"Ray's head was not up after {START_TIMEOUT_S:.0f} s ({load}); see {log}")


def _still_running(pid: int) -> bool:
    """Also reaps the child, which would stay a zombie of this process."""
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return alive(pid)


def _check_ports(config: PlinthConfig) -> None:
    section = config.cluster
    fields = ("http_port", "gcs_port", "dashboard_port", *(("https_port",) if section.beyond_loopback else ()))
    for field in fields:
        port, host = getattr(section, field), section.host if field == "https_port" else LOOPBACK
        if not port_free(port, host):
            raise EnvironmentFaultError(
                f"port {port} is taken by another program; stop it, or choose another: --set cluster.{field}=PORT",
                port=port,
            )


def _short_temporary_folder() -> str:
    """TMPDIR where it leaves room for socket paths (see serve_environment), else /tmp."""
    return tempfile.gettempdir() if len(tempfile.gettempdir()) <= 12 else "/tmp"  # noqa: S108 (mkdtemp makes it private)


def rotate_logs(home: Home) -> None:
    """Keep one old file per log; only done while nothing runs."""
    for path in home.logs.glob("*.jsonl"):
        if path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".jsonl.1"))


def _record(home: Home, instance: Instance) -> None:
    write_private(home.run / "instance.json", json.dumps(asdict(instance), indent=1))


@contextmanager
def _one_at_a_time(home: Home) -> Iterator[None]:
    """Two `plinth up` at once: the second waits and then finds the first one's instance."""
    path = Path(home.run) / "lock"
    with open(path, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
