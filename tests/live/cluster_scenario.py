"""What users do on a cluster, one thing after the other, and which nodes come and go meanwhile.

Runs inside the namespaces of ``private_cluster.py``, as a driver on the head. Writes what it saw to
``$HOME/seen.json`` for ``test_autoscaling.py`` to judge: seconds, and numbers of nodes by their label plinth.group.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from cluster.connect import connected
from cluster.core.config import load_config
from cluster.core.home import Home
from cluster.core.progress import Silent
from cluster.core.storage import Store
from cluster.processes import listeners
from tests.live.conftest import eventually

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD, SERVICE = "http://127.0.0.1:8265", "http://127.0.0.1:8000"
NODE_S = 60.0  # a fake node is there within seconds; the machine may be busy
TRAINING = ["train.min_documents=10", "train.steps=4", "train.hidden=32", "train.layers=1", "train.mlp=64",
            "train.vocab_size=512", "train.context_tokens=64", "train.batch_tokens=512"]  # fmt: skip
Seen = dict[str, Any]


def main() -> int:
    home = Home.from_env()
    seen: Seen = {}
    with connected(home):
        seen["at_start"] = nodes()
        for scenario in (data_jobs_bring_a_node, training_brings_a_node, replicas_bring_nodes, a_gpu_brings_its_node):
            print(f"-- {scenario.__name__}", flush=True)
            seen[scenario.__name__] = scenario(home)
            (home.root.parent / "seen.json").write_text(json.dumps(seen, indent=1))
    return 0


# -- what users do ----------------------------------------------------------------------------------------------------
def data_jobs_bring_a_node(home: Home) -> Seen:
    """README: `ray job submit --working-dir . -- python -m data_jobs ...`; the head itself offers no CPU."""
    folder = home.root.parent / "boat"
    with watched() as watch:
        submit("prepare", "--source", str(folder), "--name", "boat", "--set", "data.blocks=4")
        submit("index", "--set", "index.embed_workers=2")
    store = Store(home.store_uri)
    return {
        **watch.seen(),
        "dataset": store.manifest("datasets", "boat", "latest").counts,
        "index_live": store.alias("indexes", "main", "live"),
        "idle_after_s": until_only_the_head(),
    }


def training_brings_a_node(home: Home) -> Seen:
    """`pretrain` with as many workers as the preset for clusters says, each on a CPU of its own."""
    from cluster.core.config import configured
    from train_jobs.data.tokenizer import train_tokenizer
    from train_jobs.launch import pretrain

    config = configured(load_config(home.run / "config.json"), TRAINING)
    store = Store(home.store_uri)
    dataset = store.manifest("datasets", "boat", "latest")
    with watched() as watch:
        tokenizer = train_tokenizer(config, store, dataset, Silent())
        model = pretrain(config, store, dataset, tokenizer, Silent())
    return {
        **watch.seen(),
        "workers": store.read_json(f"{store.artefact(model)}/training.json")["workers"],
        "idle_after_s": until_only_the_head(),
    }


def replicas_bring_nodes(home: Home) -> Seen:
    """README: `serve deploy` with the shipped file; its replicas reserve CPUs that only further nodes have."""
    shipped = (ROOT / "serve_apps" / "serve-config.yaml").read_text()
    config = home.root.parent / "serve-config.yaml"  # ten replicas of a CPU each: more than one node has
    config.write_text(shipped.replace("overrides: []", 'overrides: ["serve.retriever_replicas.min=4"]'))
    with watched() as watch:
        run("serve", "deploy", str(config))
        eventually(lambda: answers("/readyz"), 240, "the service")
        eventually(lambda: deployments("status") == ["HEALTHY"], 120, "every replica")
    body = {"model": "auto", "messages": [{"role": "user", "content": "How often is the impeller seal replaced?"}]}
    plinth = [str(Path(sys.executable).parent / "plinth"), "keys", "create", "ann", "--json"]
    made = subprocess.run(plinth, cwd=ROOT, check=True, timeout=120, capture_output=True, text=True)
    key = {"authorization": f"Bearer {json.loads(made.stdout)['key']}"}
    url = f"{SERVICE}/v1/chat/completions"
    reply = httpx.post(url, json=body, headers=key, timeout=60, trust_env=False).json()
    found = {
        **watch.seen(),
        "answer": reply["choices"][0]["message"]["content"],
        "citations": [c["document"] for c in reply["plinth"]["citations"]],
        "groups": replica_groups(),
        "http_listens_on": sorted({one.address for one in listeners(pids()) if one.port == 8000}),
    }
    run("serve", "shutdown", "--yes")
    return {**found, "idle_after_s": until_only_the_head()}


def a_gpu_brings_its_node(home: Home) -> Seen:
    """A task that asks for a GPU, where so far no node had one."""
    import ray

    @ray.remote(num_gpus=1)
    class Holder:
        def group(self) -> str:
            return group_of_node(ray.get_runtime_context().get_node_id())

    with watched() as watch:
        holder = Holder.remote()  # type: ignore[attr-defined]
        group = ray.get(holder.group.remote(), timeout=NODE_S)
    ray.kill(holder)
    return {**watch.seen(), "ran_in_group": group, "idle_after_s": until_only_the_head()}


# -- what can be seen -------------------------------------------------------------------------------------------------
def nodes() -> dict[str, int]:
    """Living nodes by group."""
    import ray

    return dict(Counter(group_of(node) for node in ray.nodes() if node["Alive"]))


def group_of(node: dict[str, Any]) -> str:
    return node["Labels"].get("plinth.group", "head")


def group_of_node(node_id: str) -> str:
    import ray

    return next(group_of(node) for node in ray.nodes() if node["NodeID"] == node_id)


class Watch:
    """Notes, every 0.2 s, how many nodes of each group live."""

    def __init__(self) -> None:
        self._began, self._most, self._first = time.monotonic(), nodes(), {}  # type: ignore[var-annotated]
        self.end = threading.Event()
        self.seconds = 0.0

    def look(self) -> None:
        while not self.end.wait(0.2):
            for group, count in nodes().items():
                if count > self._most.get(group, 0):
                    self._most[group] = count
                    self._first[f"{group} {count}"] = round(time.monotonic() - self._began, 1)
        self.seconds = round(time.monotonic() - self._began, 1)

    def seen(self) -> Seen:
        return {"most": self._most, "appeared_s": self._first, "seconds": self.seconds}


@contextmanager
def watched() -> Iterator[Watch]:
    watch = Watch()
    thread = threading.Thread(target=watch.look)
    thread.start()
    try:
        yield watch
    finally:
        watch.end.set()
        thread.join()


def until_only_the_head() -> float:
    began = time.monotonic()
    eventually(lambda: nodes() == {"head": 1}, 120, "going of idle nodes")
    return round(time.monotonic() - began, 1)


def replica_groups() -> dict[str, list[str]]:
    """Deployment -> groups of the nodes its replicas run on."""
    return {
        name: sorted(group_of_node(replica["node_id"]) for replica in deployment["replicas"])
        for name, deployment in serve_details()["applications"]["plinth"]["deployments"].items()
    }


def deployments(field: str) -> list[str]:
    """Distinct values of a field over all deployments."""
    return sorted({d[field] for d in serve_details()["applications"]["plinth"]["deployments"].values()})


def serve_details() -> dict[str, Any]:
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text().strip()
    reply = httpx.get(
        f"{DASHBOARD}/api/serve/applications/", headers={"Authorization": f"Bearer {token}"}, trust_env=False,
        timeout=30,
    )  # fmt: skip
    return dict(reply.raise_for_status().json())


def answers(path: str) -> bool:
    try:
        return httpx.get(f"{SERVICE}{path}", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def submit(*arguments: str) -> None:
    run("ray", "job", "submit", "--working-dir", ".", "--", "python", "-m", "data_jobs", *arguments)


def run(program: str, *arguments: str) -> None:
    """A program of this installation, in the project's folder, as the README writes it."""
    folder = Path(sys.executable).parent
    subprocess.run([str(folder / program), *arguments], cwd=ROOT, check=True, timeout=600)


if __name__ == "__main__":
    sys.exit(main())
