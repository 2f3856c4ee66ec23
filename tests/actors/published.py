"""Published model versions for tests: real artefacts, with a few bytes where weights would be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.core.records import Manifest, stable_hash
from cluster.core.storage import Store


@dataclass(frozen=True)
class Check:
    name: str = "difference"
    value: float = 0.2
    threshold: float = 0.0
    passed: bool = True
    reason: str = "above the baseline"


@dataclass(frozen=True)
class Gate:
    """Has the shape of ``actors.policies.gate.GateResult``."""

    passed: bool = True
    reason: str = "beats the baseline"
    checks: tuple[Check, ...] = (Check(),)


REFUSED = Gate(False, "does not beat the baseline", (Check(value=-0.1, passed=False),))


def metadata(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "format": "points", "tier": name, "context_tokens": 512, "tokenizer_sha256": "a" * 64, "parameters": 1000,
        "license": "Apache-2.0", "knowledge_cutoff": "2026-11-22",
        "provenance": {"checkpoint": f"{name}@1", "tokenizer": f"{name}@2", "dataset": "pydocs@3"}, **changes,
    }  # fmt: skip


def publish(
    store: Store, name: str, body: str, described: Mapping[str, Any] | None = None,
    counts: dict[str, Any] | None = None, inputs: dict[str, str] | None = None,
) -> Manifest:  # fmt: skip
    """A version of model ``name`` whose weights are ``body``."""
    key = stable_hash([name, body, described])
    staging = store.staging(key)
    files = {"model.safetensors": body, "plinth.json": json.dumps(described or metadata(name))}
    files["card.json"] = json.dumps({"name": name, "intended_use": "tests"})
    for file, text in files.items():
        store.write(f"{staging}/{file}", text.encode())
    return store.publish("models", name, staging, run_key=key, counts=counts, inputs=inputs)
