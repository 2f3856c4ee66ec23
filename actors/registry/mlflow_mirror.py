"""A mirror of runs and models in mlflow's SQL schema, for other tools to read. The store is the truth.

It is a SQLite file below PLINTH_HOME, or the database of ``cluster.tracking_uri`` (PostgreSQL), which people on other
machines can read too.

``plinth`` itself never reads the mirror. It is written by the registry actor alone (``actors/registry/server.py``),
after the fact: ``sync`` looks at the store and brings the database up to it. A database that was lost, damaged or
edited by somebody else is built anew from the store. Importing mlflow takes about 5 s and its first database 6 s more,
so nothing else may import it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.registry.mlflow_server import OURS, Server, client_of, mlflow_errors
from actors.registry.models import Registered, Registry
from actors.registry.runs import FOLDER, Run, list_runs, read_metrics
from cluster.core.records import stable_hash
from cluster.core.storage import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = "mlflow.db"
MAX_TAG, MAX_PARAM, BATCH = 4_000, 6_000, 900
STATUS = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED"}  # everything else was ended: KILLED


@dataclass
class Mirrored:
    """What the database holds, kept beside it: enough to add to it without reading it."""

    sha256: str = ""
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)  # name@version -> mlflow's number
    aliases: dict[str, dict[str, str]] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)


class Mirror:
    """Keeps a database equal to the store. One instance at a time may write.

    Args:
        uri: of a database server; empty for the file ``home/mlflow.db`` (0600).
    """

    def __init__(self, store: Store, home: Path, uri: str = "") -> None:
        self._store, self._registry, self._home = store, Registry(store), home
        self.path = home / DATABASE
        self._server = Server(uri, store.uri) if uri else None
        name = f"mlflow-{stable_hash(uri)[:8]}" if uri else DATABASE
        self._notes = home / f"{name}.json"
        self._seen = ""

    def sync(self) -> str:
        """Bring the mirror up to the store; returns what was done: ``nothing``, ``added`` or ``rebuilt``.

        Raises:
            OSError: the home folder cannot be written.
            PlinthError: mlflow or SQLite could not.
        """
        stamp = self._stamp()
        if not stamp and not self._notes.exists() and not self.path.exists():
            return "nothing"  # an empty store needs no database, and mlflow need not be imported
        noted = self._noted()
        if noted is not None and stamp == self._seen and all(run["state"] != "running" for run in noted.runs.values()):
            return "nothing"
        wanted = self._wanted()
        done = "nothing"
        if noted is None or not _extends(noted, wanted):
            self._rebuild(wanted)
            done = "rebuilt"
        elif not _equal(noted, wanted):
            self._write(self._server.uri if self._server else _sqlite(self.path), noted, wanted)
            self._note(noted)
            done = "added"
        self._seen = stamp
        return done

    def _stamp(self) -> str:
        """Changes whenever a run or a registration does; empty for an empty store. Lists files, reads none."""
        listed = []
        for pattern in (f"{FOLDER}/*/*", "models/*/history/*.json", "models/*/aliases/*.json"):
            for path, info in self._store.fs.glob(self._store.path(pattern), detail=True).items():
                listed.append((path, info.get("size"), str(info.get("mtime", info.get("created", "")))))
        return stable_hash(sorted(listed)) if listed else ""

    def _wanted(self) -> Wanted:
        runs = {run.id: (run, read_metrics(self._store, run.id)) for run in list_runs(self._store)}
        models = {name: self._registry.versions(name) for name in self._registry.names()}
        return Wanted(runs, models)

    def _noted(self) -> Mirrored | None:
        """The notes, if they are about the database as it is."""
        try:
            noted = Mirrored(**json.loads(self._notes.read_text()))
            return noted if noted.sha256 == self._mark() else None
        except (OSError, ValueError, TypeError):
            return None

    def _mark(self) -> str:
        """What tells that the database is as this mirror left it: the file's hash, or what it wrote into a server."""
        return self._server.mark() if self._server else _sha256(self.path)

    def _note(self, noted: Mirrored) -> None:
        noted.sha256 = self._server.leave_mark() if self._server else _sha256(self.path)
        temporary = self._notes.with_name(f".{self._notes.name}.{secrets.token_hex(4)}")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            json.dump(vars(noted), handle)
        os.replace(temporary, self._notes)

    def _rebuild(self, wanted: Wanted) -> None:
        """Build a new database beside the old one and put it in its place; a server's is emptied of ours and filled."""
        if self._server:
            noted = Mirrored()
            self._notes.unlink(missing_ok=True)
            self._server.clear()
            self._write(self._server.uri, noted, wanted)
            self._note(noted)
            return
        for stale in self._home.glob(f"{DATABASE}.*.building*"):
            stale.unlink(missing_ok=True)
        building = self._home / f"{DATABASE}.{secrets.token_hex(4)}.building"
        noted = Mirrored()
        try:
            os.close(os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            self._write(_sqlite(building), noted, wanted)
            self._notes.unlink(missing_ok=True)
            os.replace(building, self.path)
        finally:
            building.unlink(missing_ok=True)
        self._note(noted)

    def _write(self, uri: str, noted: Mirrored, wanted: Wanted) -> None:
        """Add to the database, which holds ``noted``, what is missing; ``noted`` is updated."""
        with mlflow_errors(uri):
            client = client_of(uri)
            for run, rows in wanted.runs.values():
                self._write_run(client, noted.runs, run, rows)
            for name, versions in wanted.models.items():
                self._write_model(client, noted, name, versions)

    def _write_run(
        self, client: MlflowClient, known: dict[str, dict[str, Any]], run: Run, rows: list[dict[str, Any]]
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        noted = known.get(run.id)
        if noted == _described(run, rows, noted["mlflow"] if noted else ""):
            return
        if noted is None:
            made = client.create_run(self._experiment(client, run.kind), _ms(run.started_at), run_name=run.id)
            noted = known[run.id] = {"mlflow": made.info.run_id, "rows": 0}
            settings = {**run.params, "inputs": run.inputs, "versions": run.versions, "hardware": run.hardware}
            params = [Param(key, value[:MAX_PARAM]) for key, value in _flat(settings)]
            for start in range(0, len(params), 90):
                client.log_batch(noted["mlflow"], params=params[start : start + 90])
        metrics = [
            Metric(key, float(value), _ms(row["at"]), int(row["step"]))
            for row in rows[max(0, noted["rows"] - 1) :]  # the last row may have gained values since
            for key, value in row.items()
            if key not in ("step", "at") and isinstance(value, int | float) and not isinstance(value, bool)
        ]
        for start in range(0, len(metrics), BATCH):
            client.log_batch(noted["mlflow"], metrics=metrics[start : start + BATCH])
        tags = {"run": run.id, "state": run.state, "commit": run.commit, "host": run.host, "error": run.error}
        client.log_batch(noted["mlflow"], tags=[RunTag(f"plinth.{k}", v[:MAX_TAG]) for k, v in tags.items() if v])
        if run.state != "running":
            client.set_terminated(
                noted["mlflow"], STATUS.get(run.state, "KILLED"), _ms(run.ended_at) if run.ended_at else None
            )
        known[run.id] = _described(run, rows, noted["mlflow"])

    def _experiment(self, client: MlflowClient, kind: str) -> str:
        name = f"plinth/{kind}"
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        return client.create_experiment(name, artifact_location=_uri(self._store, self._store.path(FOLDER)))

    def _write_model(self, client: MlflowClient, noted: Mirrored, name: str, versions: list[Registered]) -> None:
        if not any(key.startswith(f"{name}@") for key in noted.versions):
            client.create_registered_model(name, description=OURS)
        aliases: dict[str, str] = {}
        for version in versions:
            key = f"{name}@{version.version}"
            if key not in noted.versions:
                source = _uri(self._store, self._store.artefact(version.manifest))
                tags = {"plinth.version": version.version, "plinth.registered_at": version.registered_at}
                tags |= {f"plinth.{k}": v[:MAX_TAG] for k, v in _flat(version.metadata)}
                made = client.create_model_version(name, source, tags=tags)
                noted.versions[key] = str(made.version)
            if noted.verdicts.get(key) != version.verdict:
                client.set_model_version_tag(name, noted.versions[key], "plinth.gate", version.verdict)
                noted.verdicts[key] = version.verdict
            aliases |= {alias: noted.versions[key] for alias in version.aliases}
        before = noted.aliases.get(name, {})
        for alias in before.keys() - aliases.keys():
            client.delete_registered_model_alias(name, alias)
        for alias, number in aliases.items():
            if before.get(alias) != number:
                client.set_registered_model_alias(name, alias, number)
        noted.aliases[name] = aliases


@dataclass(frozen=True)
class Wanted:
    """What the store holds: runs with their rows, and the registered versions of each model."""

    runs: dict[str, tuple[Run, list[dict[str, Any]]]]
    models: dict[str, list[Registered]]

    def versions(self) -> dict[str, Registered]:
        """The versions of all models by ``name@version``, the keys of ``Mirrored.versions``."""
        return {f"{name}@{v.version}": v for name, found in self.models.items() for v in found}


def _described(run: Run, rows: list[dict[str, Any]], mlflow_id: str) -> dict[str, Any]:
    """Everything about a run that may change. ``head`` hashes all rows but the last: a run that grew keeps its own."""
    head = hashlib.sha256(json.dumps(rows[: len(rows) - 1]).encode()).hexdigest()[:16]
    last = json.dumps(rows[-1]) if rows else ""
    return {"mlflow": mlflow_id, "rows": len(rows), "head": head, "last": last, "state": run.state,
            "attempts": run.attempts, "ended_at": run.ended_at}  # fmt: skip


def _extends(noted: Mirrored, wanted: Wanted) -> bool:
    """Whether the store only gained things since: mlflow cannot take metrics or runs back."""
    if not set(noted.runs) <= set(wanted.runs) or not set(noted.versions) <= set(wanted.versions()):
        return False
    for run_id, old in noted.runs.items():
        run, rows = wanted.runs[run_id]
        if old["attempts"] != run.attempts or old["rows"] > len(rows):
            return False
        if old["rows"] and _described(run, rows[: old["rows"]], "")["head"] != old["head"]:
            return False
    return True


def _equal(noted: Mirrored, wanted: Wanted) -> bool:
    versions = wanted.versions()
    aliases = {name: {a for v in found for a in v.aliases} for name, found in wanted.models.items()}
    return (
        noted.runs
        == {i: _described(run, rows, noted.runs.get(i, {}).get("mlflow", "")) for i, (run, rows) in wanted.runs.items()}
        and noted.verdicts == {key: version.verdict for key, version in versions.items()}
        and all(
            noted.aliases.get(name, {})
            == {a: noted.versions.get(f"{name}@{v.version}") for v in found for a in v.aliases}
            for name, found in wanted.models.items()
        )
        and noted.aliases.keys() == aliases.keys()
    )


def _sqlite(path: Path) -> str:
    return f"sqlite:///{path}"


def _uri(store: Store, path: str) -> str:
    return f"file://{path}" if store.local else str(store.fs.unstrip_protocol(path))


def _ms(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)


def _flat(value: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{place}{key}.")
        else:
            yield f"{place}{key}", str(inner)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
