"""The version of an index that answers with what it learnt of its questions: the same segments and a question map."""

from __future__ import annotations

import posixpath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cluster.core.home import Home
from cluster.core.records import Manifest, stable_hash
from cluster.core.storage import LIVE, Store
from data_jobs.indexing.evidence import carry_evidence
from data_jobs.indexing.update_index import KIND, share_file
from data_jobs.retrieval.question_map import FILE

ADAPTATION, STOCK = "adaptation", "adapted_from"  # inputs of an adapted version


def adapted_index(store: Store, index: Manifest, learnt: bytes, adaptation: Manifest) -> Manifest:
    """Publish the version; nothing is embedded, and files are shared with ``index``. Does not move an alias.

    What was promised of ``index`` goes on to it, marked as gathered there: confidence is computed as before.

    Args:
        learnt: ``QuestionMap.to_bytes``; adaptation: the verdict on it.
    """
    folder = store.fetch(index, Home.from_env().folder("cache"))
    inputs = {**index.inputs, STOCK: stock_of(index), ADAPTATION: f"{adaptation.name}@{adaptation.version}"}
    run_key = stable_hash({"kind": KIND, "adapted": f"{index.name}@{index.version}", "inputs": inputs})
    if found := store.find_run(run_key):
        return found
    staging = store.staging(run_key)
    store.fs.rm(staging, recursive=True)  # what a kill left behind
    staging = store.staging(run_key)
    with TemporaryDirectory() as scratch:
        local = Path(scratch)
        carry_evidence(folder, local, index.version)
        (local / FILE).write_bytes(learnt)
        own = {path.name for path in local.iterdir()}
        for entry in index.files:
            if entry.path not in own:
                share_file(store, folder / entry.path, posixpath.join(staging, entry.path), index, entry.path)
        for name in sorted(own):
            store.write(posixpath.join(staging, name), (local / name).read_bytes())
    counts: dict[str, Any] = {**index.counts, "adapted": True}
    return store.publish(
        KIND, index.name, staging, run_key=run_key, inputs=inputs, config=index.config, counts=counts
    )  # fmt: skip


def stock_of(index: Manifest) -> str:
    """``NAME@VERSION`` of the index that an adapted one was made of; its own where it is not adapted."""
    return index.inputs.get(STOCK) or f"{index.name}@{index.version}"


def as_it_answers(store: Store, index: Manifest) -> Manifest:
    """What answers of an index built before and found again: the live version where that is this index, adapted."""
    version = store.alias(KIND, index.name, LIVE)
    live = store.manifest(KIND, index.name, version) if version else index
    return live if live.inputs.get(STOCK) == f"{index.name}@{index.version}" else index


def told(index: Manifest) -> str:
    """What people read of an index: what it learnt, and from where; empty where it learnt nothing."""
    if ADAPTATION not in index.inputs:
        return ""
    return f"yes, by {index.inputs[ADAPTATION]}, from {index.inputs.get(STOCK, 'an earlier version')}"
