"""Publishing a model: from a Hugging Face checkpoint to an immutable, registered version that the service can run.

Copies the checkpoint's allow-listed files, converts them for the fast CPU engine and checks the conversion token by
token, writes plinth.json, metrics, loss curve and card, and publishes all of it in one step: after a kill or on a full
disk there is either the whole version or none.
"""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from actors.registry.metadata import check_metadata, check_tier_name
from actors.registry.models import KIND, Registry
from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, EnvironmentFaultError, UnsupportedError
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.sections.tiers import names_taken
from cluster.core.storage import Store, storage_errors
from cluster.core.telemetry import log_event
from data_jobs.lineage.labels import labels_behind
from data_jobs.lineage.receipts import inherited
from train_jobs.export.rounding import INT8, round_weights
from train_jobs.publishing.card import build_card, render
from train_jobs.publishing.model_folder import ModelFolder, inspect
from train_jobs.publishing.plots import loss_curve

KEY = RunKey("publish", (__name__,), outside=sections_but())  # what it is handed says everything
CHECKED_TOKENS = 64  # new tokens of each of the converter's eight prompts
CHECKED_PARAMETERS = 300_000_000  # larger models are checked on fewer tokens: transformers needs minutes for them
RESERVE_BYTES = 64 << 20


class Registrar(Protocol):
    """Who takes a published version into the registry: ``Registry`` itself, or the registry actor's client."""

    def register(self, name: str, version: str) -> Manifest:
        """Take a version that is published in the store into the registry, as the candidate. Again changes nothing.

        Raises:
            BadInputError: there is no such version.
            UsageError: a required field of its plinth.json is missing or wrong.
            IntegrityError: its files are not what its manifest says.
            EnvironmentFaultError: the storage is full or not writable.
        """
        ...

    def taint(self, name: str, version: str, reason: str) -> None:
        """Record that a version saw data that was forgotten since, and why. No alias moves.

        Raises:
            EnvironmentFaultError: the storage is full or not writable.
        """
        ...


def publish_model(
    config: PlinthConfig,
    store: Store,
    name: str,
    checkpoint_folder: Path,
    metadata: Mapping[str, Any],
    metrics: Mapping[str, Any],
    progress: Progress,
    run_key: str = "",
    registry: Registrar | None = None,
) -> Manifest:
    """Publish a checkpoint as the newest version of model ``name`` and register it as the candidate.

    Args:
        checkpoint_folder: Hugging Face layout: config.json, safetensors, tokenizer.json; metrics.jsonl if there is one.
        metadata: fields of plinth.json (``actors/registry/metadata.py``). ``tier``, ``parameters`` and
            ``tokenizer_sha256`` are taken from name and files. ``weights: int8`` rounds the matrices to 8 bits.
        metrics: what becomes metrics.json: ``training`` and ``held_out`` by convention.
        run_key: decides reuse; by default a hash of name, files' sha256, metadata and metrics.
        registry: where to register; by default the store's registry, directly.

    Raises:
        UsageError: required metadata is missing (it is named). PolicyRefusedError: a reserved name.
        BadInputError, IntegrityError: the checkpoint is incomplete or damaged.
        EnvironmentFaultError: no space; nothing was published and what was written is gone again.
    """
    check_tier_name(name, names_taken(config.serve.tiers))
    registry = registry or Registry(store)
    run_key = run_key or _run_key(name, checkpoint_folder, metadata, metrics)
    found = store.find_run(run_key)
    if found is None:
        source = inspect(checkpoint_folder)
        facts = {
            **metadata,
            "tier": name,
            "parameters": metadata.get("parameters") or source.parameters,
            "tokenizer_sha256": _sha256(checkpoint_folder / "tokenizer.json"),
        }
        check_metadata(name, facts)
        if labels := labels_behind(store, facts["provenance"]):  # who may not read them all gets no answer of it
            facts["answers_only"] = " and ".join(filter(None, labels["access"]))
        with _workspace(store, run_key, needed=3 * source.bytes) as folder:
            _fill(config, store, source, folder, facts, metrics, progress)
            found = _publish(store, name, run_key, folder, facts, labels)
    return enrol(store, registry, found)


def enrol(store: Store, registry: Registrar, model: Manifest) -> Manifest:
    """Register a published version; one that was made of what saw forgotten documents is marked as they are."""
    registry.register(model.name, model.version)
    for receipt in inherited(store, model):
        reason = f"made of what saw documents forgotten since: receipt {receipt}"
        registry.taint(model.name, model.version, reason)
    return model


def _run_key(name: str, folder: Path, metadata: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    files = {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
    return KEY(name=name, files=files, metadata=dict(metadata), metrics=dict(metrics))


@contextmanager
def _workspace(store: Store, run_key: str, needed: int) -> Iterator[Path]:
    """An empty folder to fill. On a local store it is the staging folder, which publishing renames into place."""
    if store.local:
        folder = Path(store.staging(run_key))
        _clear(folder)  # what a killed attempt left would be published with the rest
    else:
        folder = Path(tempfile.mkdtemp(prefix="plinth-publish-"))
    try:
        free = shutil.disk_usage(folder).free
        if free < needed + RESERVE_BYTES:
            raise EnvironmentFaultError(
                f"publishing needs about {(needed + RESERVE_BYTES) >> 20:,} MiB below {folder}, and {free >> 20:,} MiB "
                "are free: make space or point PLINTH_STORE elsewhere",
                path=str(folder),
            )
        with storage_errors(str(folder)):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # after publishing it is not there any more


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _fill(
    config: PlinthConfig, store: Store, source: ModelFolder, folder: Path, facts: dict[str, Any],
    metrics: Mapping[str, Any], progress: Progress,
) -> None:  # fmt: skip
    progress.stage("copy")
    for file in source.files:
        shutil.copyfile(source.path / file, folder / file)
    int8 = facts.get("weights") == INT8
    if int8:
        round_weights(folder)
    copied = inspect(folder)  # what was copied is what is checked: the source may change meanwhile
    progress.stage("convert for the CPU engine")
    conversion = _convert(copied, folder / "openvino", int(facts["context_tokens"]), int8)
    facts["engine"] = conversion["engine"]
    rows = _loss_rows(store, source.path, facts["provenance"])
    told = _finite({**metrics, "conversion": conversion})
    progress.stage("card")
    _write_json(folder / "plinth.json", facts)
    _write_json(folder / "metrics.json", told)
    if rows:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(_finite(row)) + "\n" for row in rows))
        (folder / "loss.png").write_bytes(loss_curve(rows, f"{facts['tier']}: loss while training"))
    card = _finite(build_card(config, store, facts, told))
    _write_json(folder / "card.json", card)
    (folder / "card.md").write_text(render(card), encoding="utf-8")


def _convert(model: ModelFolder, out: Path, context: int, int8: bool) -> dict[str, Any]:
    """Convert and check. A model that cannot be converted, or not exactly, is served by transformers; this says why."""
    from transformers.utils import logging

    from train_jobs.export.openvino_graph import export, verify

    logging.disable_progress_bar()  # it would write over ours
    new_tokens = CHECKED_TOKENS if model.parameters <= CHECKED_PARAMETERS else 4
    try:
        export(model.path, out, int8)
        agreement = verify(model.path, out, None, max(1, min(new_tokens, context // 2)))
    except UnsupportedError as error:
        return _not_converted(out, error.message)
    except RuntimeError as error:  # the engine's own, in words of its own
        if "iostream" in str(error):
            raise EnvironmentFaultError(f"cannot write {out}: the disk is full, or files may not grow") from error
        return _not_converted(out, f"the engine cannot run it: {str(error)[:300]}")
    compared = {"equal_tokens": agreement.equal, "compared_tokens": agreement.total}
    if agreement.exact:
        return {"engine": "openvino", **compared}
    return {**_not_converted(out, "the converted model says other tokens than transformers"), **compared}


def _not_converted(out: Path, reason: str) -> dict[str, Any]:
    shutil.rmtree(out, ignore_errors=True)
    log_event("train", "not_converted", folder=str(out), reason=reason)
    return {"engine": "transformers", "reason": reason}


def _loss_rows(store: Store, folder: Path, provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines of the checkpoint's metrics.jsonl; before them those of the base it was fine-tuned from."""
    own = _lines((folder / "metrics.jsonl").read_text()) if (folder / "metrics.jsonl").is_file() else []
    name, _, version = str(provenance.get("base", "")).partition("@")
    if not name or not version or any(row.get("stage") == "pretrain" for row in own):
        return own
    try:
        base = posixpath.join(store.artefact(store.manifest("checkpoints", name, version)), "metrics.jsonl")
    except BadInputError:
        return own
    return [*_lines(store.read(base).decode()), *own] if store.exists(base) else own


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _publish(
    store: Store, name: str, run_key: str, folder: Path, facts: Mapping[str, Any], labels: Mapping[str, Any]
) -> Manifest:  # fmt: skip
    staging = str(folder)
    if not store.local:
        staging = store.staging(run_key)
        store.fs.rm(staging, recursive=True)  # what a killed attempt left there
        store.fs.put(f"{folder}/", staging, recursive=True)
    inputs = {part: str(reference) for part, reference in facts["provenance"].items()}
    counts = {"parameters": facts["parameters"], "engine": facts["engine"], **labels}
    return store.publish(KIND, name, staging, run_key=run_key, inputs=inputs, counts=counts)


def _finite(value: Any) -> Any:
    """The same with null for numbers that are not finite: NaN is no JSON."""
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False, default=str) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except FileNotFoundError:
        raise BadInputError(f"{path} is missing: a model is published with its tokenizer") from None
