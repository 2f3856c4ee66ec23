"""Somebody else's model as a base to train on: its weights, and its tokenizer with the special tokens of the prompt.

It is published as pretraining would have published it: ``tokenizers/<name>`` and ``checkpoints/<name>-base``, so that
examples, fine-tuning and everything after them go on from it.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cluster.core.config import PlinthConfig
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from train_jobs.data import tokenizer as tokenizers_kind
from train_jobs.data.tokenizer import files_of, special_ids
from train_jobs.data.vocabulary import extend, extend_embeddings
from train_jobs.models.hugging_face import HuggingFaceSpec, load
from train_jobs.models.weights import weight_files
from train_jobs.publishing.artefact import ALIAS, KIND, TRAINING
from train_jobs.publishing.model_folder import ModelFolder, digests

TOKENIZER_CONFIG, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
KEY = RunKey("base", (__name__,), outside=sections_but())  # what it is handed says everything


def take_base(
    config: PlinthConfig, store: Store, folder: ModelFolder, origin: Mapping[str, str], progress: Progress,
    dataset: Manifest | None = None, texts: Iterable[str] = (), tokens: int = 0,
) -> Manifest:  # fmt: skip
    """Publish the model in a checked folder as ``checkpoints/<train.name>-base``; the same one again is reused.

    Args:
        origin: where it comes from, as its training.json says it.
        dataset: whose ``texts`` up to ``tokens`` new tokens are learnt from.

    Raises:
        BadInputError: the folder's weights do not make its model.
        UnsupportedError: no causal language model of transformers, or tokens are to be learnt and it is no BPE.
        PolicyRefusedError: it brings code.
        EnvironmentFaultError: no space.
    """
    name = f"{config.train.name}-base"
    made_here = origin.get("model") or origin.get("checkpoint")
    inputs = {"from": made_here} if made_here else {}
    inputs |= {"dataset": f"{dataset.name}@{dataset.version}"} if dataset else {}
    key = KEY(name=name, files=digests(folder), origin=dict(origin), inputs=inputs, tokens=tokens)
    found = store.find_run(key)
    if found is None:
        progress.stage("extend the vocabulary")
        given = (folder.path / "tokenizer.json").read_text(encoding="utf-8")
        extended = extend(given, texts, tokens)
        progress.stage("load it with transformers")
        spec, state = load(folder)
        state, rows = extend_embeddings(spec, state, extended)
        spec = HuggingFaceSpec.of(spec.settings, vocab=rows)
        bos, eos, pad = special_ids(extended.tokenizer)
        files = files_of(extended.tokenizer, spec.context)
        counts = {"tokens": extended.size, "new": len(extended.pieces)}
        made = _publish_tokenizer(config, store, key, files, counts, inputs)
        progress.stage("publish")
        staging = posixpath.join(store.staging(key), "artefact")
        ends = [eos, *(end for end in ends_of(folder.path) if end < extended.size)]
        generation = {"bos_token_id": bos, "eos_token_id": ends, "pad_token_id": pad, "do_sample": False}
        about = {
            "stage": "base",
            "origin": dict(origin),
            "parameters": spec.parameters,
            "new_tokens": len(extended.pieces),
        }
        written = {"config.json": spec.config(bos, eos, pad), "generation_config.json": generation, TRAINING: about}
        for file, value in written.items():
            store.write(posixpath.join(staging, file), json.dumps(value, indent=1).encode())
        if template := template_of(folder.path):
            settings = json.loads(files[TOKENIZER_CONFIG]) | {"chat_template": template}
            files |= {TOKENIZER_CONFIG: json.dumps(settings, indent=1).encode()}
        for file, body in (*files.items(), *weight_files(spec.to_hugging_face(state))):
            store.write(posixpath.join(staging, file), body)
        found = store.publish(
            KIND, name, staging, run_key=key, inputs={**inputs, "tokenizer": f"{made.name}@{made.version}"},
            counts={"parameters": spec.parameters, "tokens": extended.size, "new_tokens": len(extended.pieces)},
        )  # fmt: skip
        if store.exists(emptied := store.staging(key)):
            store.fs.rm(emptied, recursive=True)
        log_event("train", "base_published", name=name, version=found.version, origin=dict(origin))
    reference = found.inputs["tokenizer"].partition("@")
    store.move_alias(tokenizers_kind.KIND, reference[0], ALIAS, reference[2], why=f"of {name}@{found.version}")
    store.move_alias(KIND, name, ALIAS, found.version, why=f"taken from {dict(origin)}")
    return found


def keep_base(store: Store, folder: ModelFolder, origin: Mapping[str, str], name: str) -> Manifest:
    """Publish the model in a checked folder as ``checkpoints/<name>``, as it is: with its own tokenizer and chat
    template, for recipes that go on from those. The same one again is reused.

    Raises:
        EnvironmentFaultError: no space.
    """
    key = KEY(name=name, files=digests(folder), origin=dict(origin), inputs={}, tokens=0)
    found = store.find_run(key)
    if found is None:
        staging = store.staging(key)
        for file in folder.files:
            store.write(posixpath.join(staging, file), (folder.path / file).read_bytes())
        store.write(posixpath.join(staging, TRAINING), json.dumps({"stage": "base", "origin": dict(origin)}).encode())
        found = store.publish(KIND, name, staging, run_key=key, counts={"parameters": folder.parameters})
    store.move_alias(KIND, name, ALIAS, found.version, why=f"taken from {dict(origin)}")
    return found


def _publish_tokenizer(
    config: PlinthConfig,
    store: Store,
    key: str,
    files: Mapping[str, bytes],
    counts: dict[str, int],
    inputs: dict[str, str],
) -> Manifest:
    key = f"{key}-tokenizer"
    found = store.find_run(key)
    if found is not None:
        return found
    folder = posixpath.join(store.staging(key), "artefact")
    for file, body in files.items():
        store.write(posixpath.join(folder, file), body)
    return store.publish(tokenizers_kind.KIND, config.train.name, folder, run_key=key, inputs=inputs, counts=counts)


def template_of(folder: Path) -> str:
    """The chat template of a model's checked folder, empty without one: whoever teaches it more turns writes them as it
    knows them. The special tokens that it names are set in it, since those of the tokenizer are the prompt's now."""
    settings = _json(folder / TOKENIZER_CONFIG)
    file = folder / TEMPLATE
    found = file.read_text(encoding="utf-8") if file.is_file() else settings.get("chat_template")
    if isinstance(found, list):  # several by name
        found = next((one.get("template") for one in found if one.get("name") == "default"), None)
    if not isinstance(found, str) or not found:
        return ""
    given = _json(folder / "special_tokens_map.json") | settings
    named = sorted(set(re.findall(r"\b(?:bos|eos|pad|unk)_token\b", found)))
    values = {name: given.get(name) or "" for name in named}
    texts = {name: value.get("content", "") if isinstance(value, dict) else value for name, value in values.items()}
    return "".join(f"{{% set {name} = {json.dumps(text)} %}}" for name, text in texts.items()) + found


def ends_of(folder: Path) -> list[int]:
    """The ids that a model ends its turn with, as its folder says."""
    said = [_json(folder / name).get("eos_token_id") for name in ("generation_config.json", "config.json")]
    found: Any = next((one for one in said if one is not None), [])
    return [int(one) for one in (found if isinstance(found, list) else [found])]


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
