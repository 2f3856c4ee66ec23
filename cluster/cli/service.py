"""Bringing the service up, and describing what runs: shared by `up`, `quickstart` and `status`."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster import local_head
from cluster.cli.output import Stages, human_bytes
from cluster.cli.tier_states import last_loads, tier_states
from cluster.connect import connected
from cluster.core.config import PlinthConfig
from cluster.core.errors import EnvironmentFaultError
from cluster.core.home import Home, write_private
from cluster.core.records import Manifest
from cluster.core.storage import INDEXES, LIVE, Collections, Store
from cluster.deployments import deployments
from cluster.doctor import require_ready
from cluster.local_head import Instance
from cluster.loopback import api_key, get
from cluster.serve_mode import same_door
from cluster.supervision import Watch, start_watching
from serve_apps import served_code
from serve_apps.config_file import model_tiers

READY_TIMEOUT_S = 120.0
LIVE_TIMEOUT_S = 60.0
DEPLOYED = "deployed.json"
NOT_YET, WAIT = "not deployed yet", "wait for `plinth up` or `plinth quickstart`; if neither runs: `plinth up`"
SERVED = ("HAProxy", "service")  # parts that are there once something was deployed


def start_head(config: PlinthConfig, home: Home, stages: Stages) -> Instance:
    """Check the machine, then start Ray's head (or find the running one)."""
    if (instance := local_head.running(home)) is not None:
        _same_place(config, home, instance)
        return instance
    local_head.clear_remains(home)
    with stages.run("check this machine"):
        require_ready(config, home)
    with stages.run("start Ray (token, loopback)"):
        instance = local_head.start(config, home)
    _keep(config, home)
    return instance


def deploy(config: PlinthConfig, home: Home, instance: Instance, stages: Stages) -> None:
    """Deploy the Serve graph and wait until it answers; what runs with the same settings and code is left alone.

    With other settings or newer code, Serve replaces the replicas one by one while the old ones answer. Where a part
    of it does not come up the rest answers, so the head is watched then, too.
    """
    try:
        with stages.run("deploy the service"):
            _deploy(config, home, instance, stages)
    finally:
        if config.cluster.supervise:
            start_watching(home, os.environ)


def _deploy(config: PlinthConfig, home: Home, instance: Instance, stages: Stages) -> None:
    if config.trust.keys:  # also for a service that is up: somebody may have removed the file
        from actors.ledger.key_book import KeyBook, local_key

        local_key(KeyBook.of(home), home)
    models = model_tiers(config, Store(home.store_uri))
    settings = config.model_dump(exclude={"cluster", "data", "train", "gate"})
    wanted = json.dumps({**settings, "models": models, "code": served_code(config.trust.policies)})
    if _deployed(home) == {"instance": instance.id, "graph": wanted} and answers(instance.base_url, "/healthz"):
        stages.note("already up")
        return
    with connected(home):
        from serve_apps.deploy import run

        run(config, models)
    wait_for(instance.base_url, "/healthz", home)
    write_private(home.run / DEPLOYED, json.dumps({"instance": instance.id, "graph": wanted}))
    _keep(config, home)


def _deployed(home: Home) -> dict[str, str]:
    """Which graph answered last, and on which head."""
    path = home.run / DEPLOYED
    said: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return said


def _keep(config: PlinthConfig, home: Home) -> None:
    """For other verbs, and for putting up the same again."""
    write_private(home.run / "config.json", json.dumps(config.model_dump(), indent=1))


def _same_place(config: PlinthConfig, home: Home, instance: Instance) -> None:
    """A running instance cannot move to other ports, nor open or close the one for others."""
    section = config.cluster
    for field in ("http_port", "gcs_port", "dashboard_port"):
        if getattr(section, field) != getattr(instance, field):
            raise EnvironmentFaultError(
                f"Plinth already runs with cluster.{field}={getattr(instance, field)}; `plinth down` first to change it"
            )
    if not same_door(section, home, instance.temp_dir):
        raise EnvironmentFaultError(
            "Plinth already runs with another cluster.host, https_port or tls_certificate; `plinth down` first to "
            "change who gets in"
        )


def bring_up(config: PlinthConfig, home: Home, stages: Stages) -> Instance:
    """`plinth up`: head and service; the live index, if there is one, answers."""
    instance = start_head(config, home, stages)
    deploy(config, home, instance, stages)
    return instance


def answers(base_url: str, path: str) -> bool:
    """Whether a GET of this path gets status 200 within 5 seconds."""
    try:
        return get(f"{base_url}{path}", 5).status == 200
    except OSError:
        return False


def wait_for(base_url: str, path: str, home: Home) -> None:
    """Poll until the service says 200.

    Raises:
        EnvironmentFaultError: it did not within READY_TIMEOUT_S; names the log files.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if answers(base_url, path):
            return
        time.sleep(0.1)
    raise EnvironmentFaultError(f"{base_url}{path} was not ready after {READY_TIMEOUT_S:.0f} s; see {home.logs}")


def wait_until_live(base_url: str, model: Manifest, home: Home, auto: bool | None = None) -> None:
    """Until the service serves this version of the model (replicas follow the registry), and with ``auto`` given, until
    it knows whether ``auto`` may choose it."""
    deadline = time.monotonic() + LIVE_TIMEOUT_S
    while time.monotonic() < deadline:
        reply = get(f"{base_url}/v1/models", 10, api_key())
        cards = {card["id"]: card.get("plinth", {}) for card in reply.json()["data"]}
        card = cards.get(model.name, {})
        if card.get("version") == model.version and auto in (None, card.get("auto")):
            return
        time.sleep(0.2)
    raise EnvironmentFaultError(
        f"the model {model.name}@{model.version} did not go live; see {home.logs / 'model.jsonl'}"
    )


def describe(config: PlinthConfig, home: Home) -> dict[str, Any]:
    """Everything `plinth status` shows, as plain data. ``service`` is ready, starting, down or stopped."""
    from actors.registry.models import Registry
    from cluster.probes import ask_each

    store = Store(home.store_uri)
    instance = local_head.recorded(home)
    found: dict[str, Any] = {"service": "stopped", "home": str(home.root), "store": home.store_uri}
    if instance is not None:
        processes = instance.processes()
        components = ask_each(instance, Registry(store).names)
        missing = {part.component for part in components if not part.up}
        starting = bool(missing) and missing <= {*SERVED} and _deployed(home).get("instance") != instance.id
        if starting:
            components = [replace(one, found=NOT_YET, remedy=WAIT) if not one.up else one for one in components]
        up = {part.component: part.up for part in components}
        found.update(
            service="starting" if starting else "down" if missing else "ready",
            components=[part.to_dict() for part in components],
            base_url=instance.base_url,
            dashboard=instance.dashboard_url,
            login=instance.login(home),
            started_at=instance.started_at,
            supervisor=Watch.read(home).to_dict(),
            processes=len(processes),
            memory=human_bytes(_memory([process.pid for process in processes])),
            deployments=[one.to_dict() for one in deployments(home, instance)] if up["Ray dashboard"] else [],
        )
        cards = _cards(instance.base_url) if up["service"] else {}
        found["models"] = {name: facts.get("version", "") for name, facts in cards.items()}
        found["tiers"] = tier_states(
            config.serve.with_registered(model_tiers(config, store)), cards,
            last_loads(home.logs / "model.jsonl", instance.started_at),
            {one["name"]: one["problem"] for one in found["deployments"]},
        )  # fmt: skip
    collections = Collections(store, config.index.name)
    name = collections.default
    found["index"] = store.manifest(INDEXES, name, LIVE).to_dict() if collections.version(name) else None
    found["collections"] = {one: {"version": collections.version(one), "default": one == name}
                            for one in collections.names}  # fmt: skip
    if found["index"]:
        found["index"].pop("files")
    found["registry"] = _registered(store)
    found["disk"] = _disk_use(home, store)
    return found


def _cards(base_url: str) -> dict[str, dict[str, Any]]:
    """What the service says of each name that may be asked, those with a collection left out."""
    try:
        reply = get(f"{base_url}/v1/models", 5, api_key())
    except OSError:
        return {}
    if reply.status != 200:
        return {}
    cards = {card["id"]: card.get("plinth", {}) for card in reply.json()["data"]}
    return {name: facts for name, facts in cards.items() if "collection" not in facts}


def _registered(store: Store) -> dict[str, dict[str, str]]:
    """Of every registered model which version each alias names: the champion answers `auto`, a candidate by name."""
    from actors.registry.models import ALIASES, KIND, Registry

    found = {}
    for name in Registry(store).names():
        versions = {alias: store.alias(KIND, name, alias) for alias in ALIASES}
        found[name] = {alias: version for alias, version in versions.items() if version}
    return found


def _memory(pids: list[int]) -> int:
    """Bytes the processes hold: what each has for itself, and the object store, which they share, once.

    Not the proportional set size: the kernel walks every page table for it, a quarter of a second for a small service.
    """
    own, shared = 0, 0
    for pid in pids:
        with suppress(OSError):  # it has just ended
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    own += int(line.split()[1]) * 1024
                elif line.startswith("RssShmem:"):
                    shared = max(shared, int(line.split()[1]) * 1024)
    return own + shared


def _disk_use(home: Home, store: Store) -> dict[str, int]:
    used = {"store": int(store.fs.du(store.root)) if store.exists(store.root) else 0}
    used["logs"] = sum(path.stat().st_size for path in home.logs.iterdir() if path.is_file())
    used["free"] = shutil.disk_usage(home.root).free
    return used
