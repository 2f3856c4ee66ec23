"""A registered model under another name: what is known of it goes along."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors.registry.models import Registry
from cluster.core.config import PlinthConfig
from cluster.core.home import Home
from cluster.core.progress import Silent
from cluster.core.storage import Store
from tests.train_jobs.publishing.model_folders import plain_folder
from train_jobs.publishing import add_model as module
from train_jobs.publishing.card import build_card
from train_jobs.publishing.model_probe import Probed
from train_jobs.publishing.sources import model_of

FACTS = {
    "format": "text", "tier": "mine", "context_tokens": 64, "tokenizer_sha256": "a" * 64, "parameters": 9,
    "license": "apache-2.0", "knowledge_cutoff": "2024-06-01",
    "provenance": {"checkpoint": "mine@1", "dataset": "papers@2"},
}  # fmt: skip


@pytest.mark.parametrize(("given", "licence"), [("", "apache-2.0"), ("mit", "mit")])
def test_what_is_known_of_a_model_goes_along(
    given: str, licence: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading it in a process of its own and converting it take seconds, and are no matter here."""
    store, told = Store(Home(home).store_uri), dict[str, Any]()
    folder = plain_folder(Path(store.staging("mine")), plinth__json=FACTS, README__md=None)
    made = store.publish("models", "mine", str(folder), run_key="mine", inputs={"dataset": "papers@2"})
    Registry(store).register("mine", made.version)
    monkeypatch.setattr(module, "probe", lambda folder: Probed("LlamaForCausalLM", 64, 300, False))
    monkeypatch.setattr(module, "publish_model", lambda *args, **kwargs: told.update(tier=args[2], **args[4]))
    with model_of(store, "mine") as (source, origin):
        module.add_model(PlinthConfig(), store, source.path, "other", Silent(), licence=given, origin=origin)
    assert (told["tier"], told["license"], told["knowledge_cutoff"]) == ("other", licence, "2024-06-01")
    provenance = {"checkpoint": "mine@1", "dataset": "papers@2", "model": f"mine@{made.version}"}
    assert told["provenance"].items() >= provenance.items()
    card = build_card(PlinthConfig(), store, told, {})
    assert card["reproduce"]["commands"] == [f"plinth models add mine@{made.version} --tier other"]
    json.dumps(card)


@pytest.mark.parametrize(
    ("weights", "engine", "parameters", "bf16", "before", "wanted"),
    [
        ("int8", "openvino", 1000, True, "", {"weights": "int8"}),
        ("original", "openvino", 10**9, False, "", {}),
        ("auto", "openvino", 10**9, False, "", {"weights": "int8"}),
        ("auto", "openvino", 10**9, True, "", {}),  # bf16 does the same there
        ("auto", "openvino", 1000, False, "", {}),  # nothing to gain
        ("auto", "vllm", 10**9, False, "", {}),  # somewhere else is a GPU
        ("auto", "openvino", 1000, True, "int8", {"weights": "int8"}),  # they are
    ],
)
def test_weights_are_rounded_where_that_is_quicker(
    weights: module.Weights, engine: str, parameters: int, bf16: bool, before: str, wanted: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "has_bf16", lambda: bf16)
    assert module._kept(weights, engine, parameters, {"weights": before}) == wanted
