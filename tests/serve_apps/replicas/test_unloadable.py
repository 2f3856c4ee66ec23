"""A model that cannot be loaded is a line in the log and a tier that is not ready; it ends no replica."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from actors.registry.models import Registry
from cluster.core.config import PlinthConfig, configured
from cluster.core.storage import Store
from serve_apps.errors import UnavailableError
from serve_apps.gateway.protocols import Sampling
from serve_apps.replicas.model import ModelReplica
from tests.serve_apps.replicas.test_model import F32, make_model

pytestmark = pytest.mark.process


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLINTH_STORE", str(tmp_path / "store"))
    return Store(str(tmp_path / "store"))


def other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 64, "num_hidden_layers": 3}))


def write(name: str, text: str) -> Any:
    return lambda folder: (folder / name).write_text(text)


BREAKS: dict[str, Any] = {
    "no facts": lambda folder: (folder / "plinth.json").unlink(),
    "facts that are none": write("plinth.json", "[]"),
    "facts that are no JSON": write("plinth.json", "{"),
    "a tokenizer that is none": write("tokenizer.json", "{}"),
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "no configuration": lambda folder: (folder / "config.json").unlink(),
    "a configuration that is none": write("config.json", "[]"),
    "an architecture nobody knows": write("config.json", '{"model_type": "nobody", "architectures": ["Nobody"]}'),
    "weights of another shape": other_shape,
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
}


@pytest.mark.parametrize("what", BREAKS)
def test_the_replica_stands_and_says_why(what: str, store: Store, tmp_path: Path) -> None:
    staging = Path(store.staging("broken"))
    make_model(staging, 1)
    digest = hashlib.sha256((staging / "tokenizer.json").read_bytes()).hexdigest()
    facts = {"format": "text", "tier": "tiny", "context_tokens": 512, "parameters": 1, "license": "x",
             "knowledge_cutoff": "", "provenance": {"checkpoint": "c@1", "tokenizer": "t@1", "dataset": "d@1",
             "examples": "e@1"}, "tokenizer_sha256": digest}  # fmt: skip
    (staging / "plinth.json").write_text(json.dumps(facts))
    manifest = store.publish("models", "tiny", str(staging), run_key="good")
    Registry(store).register("tiny", manifest.version)
    broken = Path(store.staging("worse"))
    make_model(broken, 1)
    (broken / "plinth.json").write_text(json.dumps({**facts, "tokenizer_sha256": ""}))
    BREAKS[what](broken)
    worse = store.publish("models", "tiny", str(broken), run_key="worse")
    config = configured(PlinthConfig(), [f"serve.tiers.tiny.model=tiny@{worse.version}",
                                         "serve.model_defaults.engine=transformers", F32])  # fmt: skip
    replica = ModelReplica(config, config.serve.tier("tiny"))

    async def scene() -> None:
        assert not (await replica.state()).ready
        with pytest.raises(UnavailableError, match="no version of tiny"):
            await anext(replica.complete("x", Sampling()))

    asyncio.run(scene())
    (line,) = [json.loads(one) for one in (tmp_path / "home/logs/model.jsonl").read_text().splitlines()]
    assert (line["event"], line["artefact"], line["version"]) == ("refused", "models/tiny", worse.version)
    assert len(line["error"]) > 20
