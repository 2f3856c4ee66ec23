"""Tokenises a dataset on the cluster: arranges ``tokens.write_shard`` over its files and publishes the shards."""

from __future__ import annotations

import hashlib
import json
import posixpath

import ray

from cluster.core.errors import BadInputError
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from data_jobs.corpus.tokens import Encoder, finished, shards_of, write_shard
from data_jobs.governance.tombstones import read_tombstones
from data_jobs.tasks import await_cpu, spread

KIND = "tokens"
ALIAS = "latest"
KEY = RunKey("tokens", (__name__,), outside=sections_but())


def tokenise(store: Store, dataset: Manifest, encoder: Encoder, progress: Progress) -> Manifest:
    """Publish ``tokens/<dataset's name>``: the shards of ``tokens.py`` and ``report.json``; ray must be connected.

    An identical earlier run is returned as it is; a killed one goes on where it stopped.

    Raises:
        BadInputError: the dataset holds no text.
        IntegrityError: the dataset's files are damaged.
    """
    digest = hashlib.sha256(encoder.json.encode()).hexdigest()[:16]
    settings = {"tokenizer_sha256": digest, "end": encoder.end, "forgotten": read_tombstones(store).key}
    inputs = {"dataset": f"{dataset.name}@{dataset.version}", "tokenizer": encoder.source}
    key = KEY(dataset=inputs["dataset"], config=settings)
    manifest = store.find_run(key)
    if manifest is None:
        store.verify(dataset)
        output = posixpath.join(store.staging(key), "shards")
        shards = shards_of(store, dataset, output)
        done = [finished(shard) for shard in shards]
        progress.stage("tokenise", len(shards), "files")
        progress.advance(sum(counts is not None for counts in done))
        await_cpu(progress)
        shared = ray.put(encoder)
        totals = [counts for counts in done if counts]
        todo = [(shard, shared) for shard, counts in zip(shards, done, strict=True) if counts is None]
        for _, counts in spread(write_shard, todo, "making tokens"):
            totals.append(counts)
            progress.advance()
        counts = {
            "documents": sum(one["documents"] for one in totals), "tokens": sum(one["tokens"] for one in totals),
            "shards": len(shards), "dtype": encoder.dtype.__name__, "vocabulary": encoder.vocabulary,
        }  # fmt: skip
        if not counts["documents"]:
            raise BadInputError(f"{inputs['dataset']} holds no text: nothing to tokenise")
        if read_tombstones(store).key != settings["forgotten"]:  # forgotten meanwhile: the first shards may hold it
            store.fs.rm(store.staging(key), recursive=True)
            return tokenise(store, dataset, encoder, progress)
        store.write(posixpath.join(output, "report.json"), json.dumps(counts, indent=1, sort_keys=True).encode())
        manifest = store.publish(KIND, dataset.name, output, run_key=key, inputs=inputs, config=settings, counts=counts)
        if store.exists(emptied := store.staging(key)):
            store.fs.rm(emptied, recursive=True)
        log_event("data", "tokens_published", name=manifest.name, version=manifest.version, counts=counts)
    store.move_alias(KIND, manifest.name, ALIAS, manifest.version, why=f"made from {inputs['dataset']}")
    return manifest
