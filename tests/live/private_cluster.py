"""The cluster of ``ray-cluster.yaml`` on one machine, in Linux namespaces of its own: started as a script by
``test_autoscaling.py``, never in this process.

Only the cloud is replaced: Ray's fake provider starts each node the autoscaler asks for as a further raylet. Node
types, start commands, environment, token, Serve configuration and jobs are the shipped ones. Inside, process ids,
network and mounts are private: the start commands' clean-up of old Rays sees nothing of the machine, ports cannot
clash, and when the script (process 1 in there) ends, the kernel ends everything else.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
NAMESPACES = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount")
FAKE_HEAD = "f" * 51 + "00000"  # ray.autoscaler._private.fake_multi_node.node_provider.FAKE_HEAD_NODE_ID
FAKE_HEAD_TYPE = "ray.head.default"
PARAMETERS = "ray_params = ray._private.parameter.RayParams("  # where the fake provider describes a new node
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1


def main(home: Path) -> int:
    """As process 1 of the namespaces: start the head with the shipped commands, then run the scenario beside it."""
    assert os.getpid() == 1, "start me in namespaces of my own"
    loopback_up()
    os.makedirs("/tmp/ray", exist_ok=True)
    run(["mount", "-t", "tmpfs", "tmpfs", "/tmp/ray"])
    supply_example(home)
    shipped = yaml.safe_load((ROOT / "ray-cluster.yaml").read_text())
    place_files(shipped, home)
    (home / "ray_bootstrap_config.yaml").write_text(json.dumps(with_fake_provider(shipped)))
    environ = {**clean_environment(), "HOME": str(home), "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1",
               "RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD,
               "RAY_NODE_TYPE_NAME": FAKE_HEAD_TYPE, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD}  # fmt: skip
    for command in shipped["head_start_ray_commands"]:
        run(["bash", "-c", command], env=environ, cwd=home)
    printed = run(
        ["bash", "-c", ". ~/.plinth/node.env && ~/venv/bin/plinth env --node --preset cluster --json"],
        env=environ, cwd=home, capture_output=True, text=True,
    )  # fmt: skip
    inside = {**clean_environment(), **json.loads(printed.stdout), "HOME": str(home)}
    scenario = [sys.executable, "-m", "tests.live.cluster_scenario"]
    return subprocess.run(scenario, env=inside, cwd=ROOT, check=False).returncode


def run(command: list[str], **more: Any) -> subprocess.CompletedProcess[Any]:
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, **more)


def clean_environment() -> dict[str, str]:
    """The caller's environment less what belongs to another platform or cluster."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PLINTH_", "OPENAI_"))}


def loopback_up() -> None:
    """A new network namespace has only a loopback interface, and that one is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def place_files(shipped: dict[str, Any], home: Path) -> None:
    """What `ray up` would copy and set up on a node; this interpreter's packages stand for the installation."""

    def on_node(path: str) -> Path:
        return Path(path.replace("~", str(home), 1))

    token = home / ".plinth" / "cluster_token"
    token.parent.mkdir(mode=0o700)
    token.write_text("0123456789abcdef" * 4)
    for there, here in shipped["file_mounts"].items():
        source, target = (on_node(here) if here.startswith("~") else ROOT / here), on_node(there)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            target.symlink_to(source)
        else:
            shutil.copy(source, target)
    (home / "venv").symlink_to(sys.prefix)
    (home / ".plinth" / "node.env").write_text(f"export PLINTH_STORE={home}/store\n")


def with_fake_provider(shipped: dict[str, Any]) -> dict[str, Any]:
    """The shipped configuration with Ray's fake provider and a short idle time; resources and labels are kept."""
    types = {}
    for name, node in shipped["available_node_types"].items():
        own = {**node, "node_config": {}}
        if name == shipped["head_node_type"]:
            name = FAKE_HEAD_TYPE
        else:
            own["resources"] = {**node["resources"], "object_store_memory": 150_000_000}
        types[name] = own
    return {
        **example(),
        "max_workers": shipped["max_workers"],
        "upscaling_speed": shipped["upscaling_speed"],
        "idle_timeout_minutes": 0.1,
        "available_node_types": types,
    }


def example() -> dict[str, Any]:
    """The fake provider's base configuration, which Ray's wheel lacks."""
    return {
        "cluster_name": "fake_multinode",
        "max_workers": 8,
        "provider": {"type": "fake_multinode", "use_node_id_as_ip": True, "disable_node_updaters": True,
                     "disable_launch_config_check": True, "launch_multiple": True, "head_node_id": FAKE_HEAD},
        "available_node_types": {FAKE_HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}},
        "head_node_type": FAKE_HEAD_TYPE,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.1,
        "auth": {}, "docker": {}, "file_mounts": {}, "cluster_synced_files": [],
        "rsync_exclude": [], "rsync_filter": [], "initialization_commands": [],
        "setup_commands": [], "head_setup_commands": [], "worker_setup_commands": [],
        "head_start_ray_commands": [], "worker_start_ray_commands": [],
    }  # fmt: skip


def supply_example(home: Path) -> None:
    """Mend Ray's fake provider, in this mount namespace only.

    Its wheel lacks the example.yaml that the autoscaler reads. And its nodes share one folder for the working
    directories of jobs, where each node that unpacks one first deletes what another is using.
    """
    import ray.autoscaler._private.fake_multi_node as folder

    original = Path(folder.__file__).parent
    copy = home / "fake_multi_node"
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "example.yaml").write_text(json.dumps(example()))
    provider = (copy / "node_provider.py").read_text()
    assert provider.count(PARAMETERS) == 1, "Ray's fake provider has changed"
    own_folder = f"{PARAMETERS}runtime_env_dir_name=f'runtime_resources_{{next_id[-5:]}}',"
    (copy / "node_provider.py").write_text(provider.replace(PARAMETERS, own_folder))
    run(["mount", "--bind", str(copy), str(original)])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
