"""Make a machine ready to be a node of a cluster of several (``ray-cluster.yaml``). No ray import: Ray starts after it.

`plinth up` starts the one node of a laptop by itself (``local_head``). On the nodes of a cluster Ray's own launcher
runs `ray start`; what must be there before is the environment that `plinth env --node` prints, the token, a few files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from cluster.core.config import PlinthConfig
from cluster.core.errors import EnvironmentFaultError, UsageError
from cluster.core.home import Home, write_private
from cluster.node_tls import node_environment
from cluster.processes import MARK
from cluster.serve_mode import executables, serve_environment, write_haproxy_wrapper

# The machine is the platform's alone, so ports need not be searched for; these are Serve's own defaults.
PORTS = {"haproxy_metrics": 9101, "haproxy_stats": 8404, "serve_fallback": 8500}
# A Unix socket's path has at most 97 characters for HAProxy, and Serve adds a 56-character folder and a file name.
LONGEST_FOLDER = 27


def prepare(config: PlinthConfig, home: Home, environ: Mapping[str, str]) -> dict[str, str]:
    """Write what the processes of this node read, and return the environment `ray start` needs. Safe to repeat.

    The configuration becomes this node's ``run/config.json``, so that jobs take it without ``--preset``.

    Raises:
        UsageError: the configuration is for a single machine.
        EnvironmentFaultError: no token, no shared store, a PLINTH_HOME with too long a path, or an authority for
            TLS (``node_tls``) that is none.
    """
    if config.cluster.single_node:
        raise UsageError(
            "this configuration is for one machine (`plinth up`); nodes of a cluster take --preset cluster"
        )
    if not home.token_path.exists():
        raise EnvironmentFaultError(
            f"no Ray token at {home.token_path}: every node needs the same one, readable by its owner only "
            "(file_mounts of ray-cluster.yaml bring it)"
        )
    if not environ.get("PLINTH_STORE"):
        raise EnvironmentFaultError(
            "PLINTH_STORE is not set: the nodes of a cluster share one store, on no node's disk"
        )
    folder = home.run
    if len(str(folder)) > LONGEST_FOLDER:
        raise EnvironmentFaultError(f"{folder} is too long a path for sockets: set PLINTH_HOME to a shorter folder")
    home.ensure_token()  # is there: this closes it to others
    home.root.chmod(0o700)
    write_haproxy_wrapper(str(folder))
    write_private(folder / "config.json", json.dumps(config.model_dump(), indent=1))
    wanted = serve_environment(home, str(folder), PORTS)
    del wanted["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"]  # would put every port on loopback, where no other node gets to
    return {
        **wanted,
        **node_environment(home),
        "PLINTH_HOME": str(home.root),
        "PLINTH_STORE": home.store_uri,
        # A cloud needs minutes for a node; Ray Train gives its workers one minute to find CPUs.
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "900",
        MARK: "cluster",  # tells jobs that Ray's environment is theirs already (connect.py)
        "PATH": f"{executables()}:{environ.get('PATH', '/usr/bin:/bin')}",
        "PYTHONUNBUFFERED": "1",
    }
